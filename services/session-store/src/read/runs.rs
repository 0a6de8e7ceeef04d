//! `store.record`: what the leader does not hold. Here the ended runs.

use laneway_contract::{AskStore, Format, JobState, MAX_PAGE, RunId, RunRecord, SessionId, StoreAnswer, StoreQuestion};
use uuid::Uuid;

use super::ReadError;
use super::page::{ROWS_BYTES, Room};
use crate::view::{Reading, RunIndexKey, Space, decode, run_key};

impl Reading {
    /// Answers the leader.
    pub(crate) fn ask(&self, request: &AskStore, format: Format) -> Result<StoreAnswer, ReadError> {
        match &request.ask {
            StoreQuestion::Run { run_id, with_output } => {
                let run = self.ended_run(*run_id)?;
                let output = match &run {
                    Some(run) if *with_output => self.output(run)?,
                    Some(_) | None => None,
                };
                Ok(StoreAnswer { runs: run.into_iter().collect(), output, ..StoreAnswer::default() })
            }
            StoreQuestion::Runs { session_id, state, limit: rows, before } => {
                let runs = self.ended_runs(*session_id, *state, (*rows).min(MAX_PAGE) as usize, *before, format)?;
                Ok(StoreAnswer { runs, ..StoreAnswer::default() })
            }
            StoreQuestion::Session { session_id, key } => {
                let said = Some(self.said(*session_id, key.as_deref())?);
                Ok(StoreAnswer { said, ..StoreAnswer::default() })
            }
            StoreQuestion::Registry(page) => {
                let (sessions, cursor) = self.live_sessions(page, format)?;
                Ok(StoreAnswer { sessions, cursor, ..StoreAnswer::default() })
            }
        }
    }

    pub(super) fn ended_run(&self, id: RunId) -> Result<Option<RunRecord>, ReadError> {
        let value = self.value(Space::Runs, run_key(id))?;
        Ok(value.map(|value| decode(Space::Runs, &value)).transpose()?)
    }

    /// The text of a run's answer, unless it is too large for a reply or no text.
    fn output(&self, run: &RunRecord) -> Result<Option<String>, ReadError> {
        let Some(id) = run.status.output_artifact_id else {
            return Ok(None);
        };
        let artifact = self.artifact(id)?.ok_or(ReadError::Lost(id))?;
        // The caller's reply may be JSON, where a text takes more bytes than it has.
        let text = super::text_of(&artifact.content_type, &artifact.bytes);
        let room = ROWS_BYTES - Format::Json.encode(run).map_err(ReadError::Encoding)?.len().min(ROWS_BYTES);
        let fits = match text {
            Some(text) => Format::Json.encode(&text).map_err(ReadError::Encoding)?.len() <= room,
            None => false,
        };
        Ok(text.filter(|_| fits).map(str::to_owned))
    }

    /// Ended runs, newest first. Fewer than asked for when they would grow too large; none only when there are no more.
    fn ended_runs(
        &self,
        session: Option<SessionId>,
        state: Option<JobState>,
        rows: usize,
        before: Option<RunId>,
        format: Format,
    ) -> Result<Vec<RunRecord>, ReadError> {
        let (oldest, newest) = ([0; 16], before.map_or([0xff; 16], |run| *run.uuid().as_bytes()));
        let index = match (session, state) {
            (Some(session), Some(state)) => Some(RunIndexKey::SessionAndState(session, state)),
            (Some(session), None) => Some(RunIndexKey::Session(session)),
            (None, Some(state)) => Some(RunIndexKey::State(state)),
            (None, None) => None,
        };
        let entries = match index {
            Some(index) => self.range(Space::RunIndex, index.at(oldest), index.at(newest)),
            None => self.range(Space::Runs, oldest.to_vec(), newest.to_vec()),
        };
        let mut room = Room::new(format);
        let mut runs = Vec::new();
        for entry in entries.rev() {
            let key = entry.key()?;
            let id = key.last_chunk().map(|id| RunId::from_uuid(Uuid::from_bytes(*id)));
            let Some(id) = id.filter(|id| Some(*id) != before) else {
                continue;
            };
            let found = self.ended_run(id)?;
            if runs.len() == rows || !room.take(found.as_slice())? {
                break;
            }
            runs.extend(found);
        }
        Ok(runs)
    }
}
