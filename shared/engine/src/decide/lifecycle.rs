//! Cancel, pause and the end of sessions.

use laneway_contract::{ApiError, ErrorCode, Event, ReturnCause, RunId, Timestamp};

use super::{cancel_run, open, returned};
use crate::command::{Cancel, CancelTarget, EndSession, PauseSession};
use crate::run::Phase;
use crate::state::State;
use crate::weight::one_step;

impl State {
    pub(super) fn cancel(&self, command: &Cancel, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let runs = self.cancel_targets(command)?;
        let runs = runs.into_iter().filter_map(|id| self.runs.get(&id));
        let events = runs.filter_map(|run| cancel_run(run, &command.actor, &command.reason, now));
        Ok(one_step(events))
    }

    /// The live runs that a cancel concerns; `not_found` for a run or session that never was.
    pub fn cancel_targets(&self, command: &Cancel) -> Result<Vec<RunId>, ApiError> {
        let mut runs = self.targets(&command.target)?;
        let submitted_at = |id: &RunId| self.runs.get(id).map(|run| run.record.status.submitted_at);
        runs.retain(|id| submitted_at(id).is_some_and(|at| command.reaches(at)));
        Ok(runs)
    }

    fn targets(&self, target: &CancelTarget) -> Result<Vec<RunId>, ApiError> {
        match target {
            CancelTarget::Run(id) if self.runs.contains_key(id) => Ok(vec![*id]),
            CancelTarget::Run(id) if self.ended.contains_key(id) => Ok(Vec::new()),
            // It may be one of those that are forgotten: only a store replica knows.
            CancelTarget::Run(_) if self.forgotten.runs_until.is_some() => Ok(Vec::new()),
            CancelTarget::Run(id) => Err(ApiError::new(ErrorCode::NotFound, format!("no run {id}"))),
            CancelTarget::Session(id) => Ok(self.runs_of_session(self.known(*id)?)),
            CancelTarget::Token(token) => {
                Ok(self.by_token.get(token).map(|runs| runs.iter().copied().collect()).unwrap_or_default())
            }
        }
    }

    pub(super) fn pause(&self, command: &PauseSession, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let session = self.known(command.session_id)?;
        open(session)?;
        let current = session.current.and_then(|id| self.runs.get(&id));
        let interrupted = current
            .filter(|run| command.paused && command.interrupt && matches!(run.phase, Phase::Running { .. }))
            .and_then(|run| cancel_run(run, &command.actor, &command.reason, now));
        if session.paused.is_some() == command.paused {
            return Ok(interrupted.into_iter().collect());
        }
        let mut events = vec![Event::SessionPauseSet {
            session_id: command.session_id,
            paused: command.paused,
            actor: command.actor.clone(),
            reason: command.reason.clone(),
        }];
        // A dispatch that nobody has claimed goes back: paused means that nothing starts.
        if command.paused
            && let Some(run) = current.filter(|run| matches!(run.phase, Phase::Dispatched { .. }))
        {
            events.push(returned(run, ReturnCause::Paused));
        }
        events.extend(interrupted);
        Ok(events)
    }

    pub(super) fn end(&self, command: &EndSession) -> Result<Vec<Event>, ApiError> {
        let session = self.known(command.session_id)?;
        if session.status.state == command.end || session.ending.as_ref().is_some_and(|(end, _)| *end == command.end) {
            return Ok(Vec::new());
        }
        open(session)?;
        if session.has_runs() && !command.cancel_runs {
            return Err(ApiError::new(
                ErrorCode::Busy,
                format!("session {} has runs: wait for them, or complete it with cancel_runs", command.session_id),
            ));
        }
        Ok(vec![Event::SessionEndRequested {
            session_id: command.session_id,
            end: command.end,
            actor: command.actor.clone(),
            reason: command.reason.clone(),
        }])
    }
}
