//! What one view holds and an earlier one does not.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{
    Artifact, Estimate, Event, Fingerprint, HashKey, JobState, KeyAnswer, MessageRecord, RunId, RunRecord, RunStatus,
    SessionCreation, SessionId, SessionStatus, Timestamp, Usage, WorkerId,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::live::Live;
use super::threads::Thread;
use super::{SalvageError, Salvaged};
use crate::view::{Claim, Reading, Space, ViewError, decode, run_key};

/// Stands for a worker that nobody knows any more: its lease runs out, as that of any worker that was lost.
const NO_WORKER: &str = "unknown";

/// What the later view holds beyond the earlier.
#[derive(Debug, Default)]
pub(super) struct News {
    artifacts: Vec<Artifact>,
    creations: Vec<SessionCreation>,
    sessions: BTreeMap<SessionId, Thread>,
    runs: Vec<RunRecord>,
    /// Claims of runs that had not ended.
    claims: Vec<(RunId, Claim)>,
}

impl News {
    /// Compares two views of one journal. Of a view that is not ahead, no pause is later than that of the journal.
    pub(super) fn between(held: &Reading, kept: &Reading, is_ahead: bool) -> Result<Self, SalvageError> {
        let mut news = Self::default();
        each_new(held, kept, Space::Artifacts, true, |_, artifact: Artifact| news.artifacts.push(artifact))?;
        each_new(held, kept, Space::Sessions, true, |_, creation: SessionCreation| news.creations.push(creation))?;
        each_new(held, kept, Space::Runs, true, |_, run: RunRecord| news.runs.push(run))?;
        let sessions = &mut news.sessions;
        each_new(held, kept, Space::Messages, true, |_, message: MessageRecord| {
            sessions.entry(message.session_id).or_default().messages.push(message);
        })?;
        each_new(held, kept, Space::AppendKeys, true, |key, taken: KeyAnswer| {
            let name = String::from_utf8_lossy(key.get(16..).unwrap_or_default()).into_owned();
            sessions.entry(session_of(key)).or_default().keys.push((name, taken));
        })?;
        each_new(held, kept, Space::Statuses, false, |key, status: SessionStatus| {
            sessions.entry(session_of(key)).or_default().status = Some(status);
        })?;
        if is_ahead {
            each_new(held, kept, Space::Pauses, false, |key, paused: bool| {
                sessions.entry(session_of(key)).or_default().paused = Some(paused);
            })?;
        }
        each_new(held, kept, Space::Attempts, false, |key, claim: Claim| {
            news.claims.push((RunId::from_uuid(uuid_of(key)), claim));
        })?;
        news.claims = later(std::mem::take(&mut news.claims), held, kept)?;
        for run in &news.runs {
            sessions.entry(run.session_id).or_default();
        }
        for (_, claim) in &news.claims {
            sessions.entry(claim.session_id).or_default();
        }
        for (id, thread) in sessions {
            thread.before(*id, held, kept)?;
        }
        Ok(news)
    }

    /// The events that make the later view of the earlier, decided at `now`.
    pub(super) fn into_events(mut self, hash_key: Option<HashKey>, mut live: Live, now: Timestamp) -> Salvaged {
        let mut found = Salvaged::default();
        found.events.extend(hash_key.map(|key| Event::HashKeyCreated { key }));
        found.artifacts = self.artifacts.len() as u64;
        found.events.extend(self.artifacts.drain(..).map(Event::ArtifactStored));
        // A parent comes before its children.
        self.creations.sort_by_key(|session| (session.fields.spawn_depth, session.created_at, session.session_id));
        found.sessions = self.creations.len() as u64;
        // What the request contained is not known any more, so that a repeat of it is a conflict, never a second session.
        let created = |session| Event::SessionCreated { session: Box::new(session), fingerprint: Fingerprint(0) };
        found.events.extend(self.creations.drain(..).map(created));
        found.events.extend(self.sessions.values().filter_map(|thread| thread.loaded(live.evictions)));
        self.runs.sort_by_key(|run| (run.status.submitted_at, run.run_id));
        // Those first that the journal has as waiting or executing: others may have come behind them only.
        self.runs.sort_by_key(|run| !live.runs.contains_key(&run.run_id));
        self.runs.retain(|run| {
            let is_held = self.sessions.get(&run.session_id).is_some_and(Thread::has_session);
            if !is_held {
                found.without_session.insert(run.session_id);
                found.left_runs.insert(run.run_id);
            }
            is_held
        });
        found.runs = self.runs.len() as u64;
        let mut ended_runs = BTreeSet::new();
        for run in self.runs {
            ended_runs.insert(run.run_id);
            ended(run, &mut live, &mut found.events);
        }
        // Before the messages, since a claim forgets what an attempt before it has called.
        for (run_id, claim) in self.claims {
            match live.claim(run_id, claim) {
                Some(run) => {
                    found.resumed.push(run_id);
                    let stop_at = now.plus_millis(run.fields.timeout_ms as i64);
                    found.events.extend(claimed(run, claim.upto_seq, stop_at));
                }
                None => drop(found.lost.insert(run_id)),
            }
        }
        for (id, thread) in &mut self.sessions {
            thread.messages(*id, &live, &ended_runs, &mut found);
        }
        for (id, thread) in self.sessions {
            found.events.extend(thread.state(id, &live));
        }
        found
    }
}

/// Hands over every entry that `kept` has not, or has otherwise. Some are never written again.
fn each_new<T: DeserializeOwned>(
    held: &Reading,
    kept: &Reading,
    space: Space,
    is_final: bool,
    mut take: impl FnMut(&[u8], T),
) -> Result<(), SalvageError> {
    for entry in held.all(space) {
        let (key, value) = entry.into_inner().map_err(ViewError::from)?;
        match kept.value(space, &key)? {
            Some(before) if before == value => {}
            Some(_) if is_final => return Err(SalvageError::OtherJournal { space: space.name() }),
            Some(_) | None => take(&key, decode(space, &value)?),
        }
    }
    Ok(())
}

/// Claims of runs that have not ended, and that the journal has not had: a table that is older than the others, or than the
/// journal, still holds earlier ones.
fn later(claims: Vec<(RunId, Claim)>, held: &Reading, kept: &Reading) -> Result<Vec<(RunId, Claim)>, ViewError> {
    let mut later = Vec::new();
    for (run, claim) in claims {
        let key = run_key(run);
        let before = kept.value(Space::Attempts, &key)?;
        let before = before.map(|value| decode::<Claim>(Space::Attempts, &value)).transpose()?;
        let is_later = before.is_none_or(|before| before.epoch < claim.epoch);
        if is_later && !held.has(Space::Runs, &key)? && !kept.has(Space::Runs, &key)? {
            later.push((run, claim));
        }
    }
    Ok(later)
}

fn uuid_of(key: &[u8]) -> Uuid {
    Uuid::from_bytes(key.first_chunk().copied().unwrap_or_default())
}

fn session_of(key: &[u8]) -> SessionId {
    SessionId::from_uuid(uuid_of(key))
}

/// A run that has ended: queued where the journal does not have it, claimed where it was, and settled.
fn ended(run: RunRecord, live: &mut Live, events: &mut Vec<Event>) {
    let known = live.runs.remove(&run.run_id);
    if known.is_none() {
        let queued = RunRecord { status: as_queued(&run.status), ..run.clone() };
        let (fingerprint, estimate) = (Fingerprint(0), Estimate::default());
        events.push(Event::RunQueued { run: Box::new(queued), fingerprint, estimate });
    }
    // Also for the fence: no epoch that an attempt of the run has had is given out again.
    if run.status.attempt > 0 && known.is_none_or(|known| known.record.status.epoch != run.status.epoch) {
        live.claimed.insert(run.session_id);
        let started = run.status.started_at.unwrap_or(run.status.submitted_at);
        events.extend(claimed(&run, 0, started.plus_millis(run.fields.timeout_ms as i64)));
    }
    events.push(settled(run));
}

fn as_queued(ended: &RunStatus) -> RunStatus {
    RunStatus {
        state: JobState::Queued,
        attempt: 0,
        epoch: 0,
        dispatched_at: None,
        started_at: None,
        first_token_at: None,
        ended_at: None,
        queue_wait_ms: None,
        usage: Usage::default(),
        cost_usd: None,
        finish: None,
        output_message_ids: Vec::new(),
        output_artifact_id: None,
        error: None,
        cancel: None,
        worker_id: None,
        pending_tool_call_ids: Vec::new(),
        approval_id: None,
        issues: Vec::new(),
        ..ended.clone()
    }
}

/// The claim of the last attempt, as far as the record of the run tells.
fn claimed(run: &RunRecord, upto_seq: u64, stop_at: Timestamp) -> Option<Event> {
    let status = &run.status;
    let worker_id = match &status.worker_id {
        Some(worker_id) => worker_id.clone(),
        None => WorkerId::parse(NO_WORKER).ok()?,
    };
    Some(Event::RunClaimed {
        run_id: run.run_id,
        session_id: run.session_id,
        attempt: status.attempt,
        epoch: status.epoch,
        worker_id,
        claim_id: 0,
        model_id: run.fields.model_id.clone(),
        upto_seq,
        stop_at,
    })
}

fn settled(run: RunRecord) -> Event {
    let RunStatus { started_at, ended_at, .. } = run.status;
    let duration_ms = started_at.zip(ended_at).map_or(0, |(started, ended)| ended.millis_since(started));
    Event::RunSettled { run: Box::new(run), reports: 0, duration_ms, output: None }
}
