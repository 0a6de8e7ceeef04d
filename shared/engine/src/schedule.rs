//! What happens by itself: leases run out, times are over, dispatches return, sessions end, and heads are dispatched.

use laneway_contract::{
    Actor, DISPATCH_CLAIM_MS, ErrorClass, Event, JobState, POISON_AFTER, RunError, SessionId, StopCause, Timestamp,
};

use crate::decide::{cancel_run, end_or_retry, settle};
use crate::hints::Hints;
use crate::run::{Phase, Run};
use crate::state::State;
use crate::weight::one_step;

impl State {
    /// The next step that is due, as events; none when nothing is. Apply them before asking again.
    #[must_use]
    pub fn schedule(&self, hints: &Hints, now: Timestamp) -> Vec<Event> {
        if let Some(run) = self.expired(hints, now) {
            return expire(run, now);
        }
        if let Some(run) = self.due.first().filter(|(at, _)| *at <= now).and_then(|(_, id)| self.runs.get(id)) {
            return vec![overdue(run)];
        }
        // One whose executing run has still to stop holds up no other.
        let ends = self.ending_sessions.iter().map(|id| self.end_runs(*id, now));
        if let Some(events) = ends.into_iter().find(|events| !events.is_empty()) {
            return events;
        }
        self.dispatch_next(hints, now).into_iter().collect()
    }

    fn expired(&self, hints: &Hints, now: Timestamp) -> Option<&Run> {
        hints.leases.iter().filter(|(_, lease)| lease.ends_at <= now).find_map(|(id, lease)| {
            let run = self.runs.get(id)?;
            let executes = matches!(run.phase, Phase::Running { .. }) && run.record.status.epoch == lease.epoch;
            executes.then_some(run)
        })
    }

    fn end_runs(&self, id: SessionId, now: Timestamp) -> Vec<Event> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let reason = session.ending.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default();
        let runs = self.runs_of_session(session).into_iter().filter_map(|run| self.runs.get(&run));
        one_step(runs.filter_map(|run| cancel_run(run, &Actor::runtime(), &reason, now)))
    }

    fn dispatch_next(&self, hints: &Hints, now: Timestamp) -> Option<Event> {
        if self.slots.global >= self.limits.global {
            return None;
        }
        let (run_id, pool) = self.queues.choose(|class| {
            if self.slots.binding(class, &self.limits).is_some() {
                return None;
            }
            self.free_pool(class, hints, now).ok()
        })?;
        let run = self.runs.get(&run_id)?;
        Some(Event::RunDispatched {
            run_id,
            session_id: run.record.session_id,
            dispatch_no: run.dispatch_no + 1,
            pool,
            claim_by: now.plus_millis(DISPATCH_CLAIM_MS as i64),
            lane: run.record.fields.lane,
            model_id: run.record.fields.model_id.clone(),
            queue_wait_ms: now.millis_since(run.record.status.submitted_at),
        })
    }
}

/// The lease of an executing run has ended.
fn expire(run: &Run, now: Timestamp) -> Vec<Event> {
    let Phase::Running { worker_id, stop, .. } = &run.phase else { return Vec::new() };
    let timed_out = matches!(stop, Some(StopCause::Timeout));
    let error = if timed_out { timeout_error() } else { lost_error() };
    let (action, then) = match stop {
        Some(StopCause::Cancel { .. }) => ("cancel", vec![settle(run, JobState::Cancelled, now)]),
        _ if run.lost + 1 >= POISON_AFTER => {
            let mut poisoned = run.clone();
            poisoned.record.status.error = Some(error);
            ("poison", vec![settle(&poisoned, JobState::Poisoned, now)])
        }
        _ => (if run.may_retry() { "retry" } else { "fail" }, end_or_retry(run, error, now)),
    };
    let status = &run.record.status;
    let mut events = vec![Event::LeaseExpired {
        run_id: run.record.run_id,
        session_id: run.record.session_id,
        attempt: status.attempt,
        epoch: status.epoch,
        worker_id: worker_id.clone(),
        action: action.to_owned(),
    }];
    events.extend(then);
    events
}

/// What happens to a run at its [`Run::due`] time.
fn overdue(run: &Run) -> Event {
    let (run_id, session_id) = (run.record.run_id, run.record.session_id);
    match run.phase {
        Phase::Running { .. } => Event::RunStopRequested { run_id, session_id, cause: StopCause::Timeout },
        Phase::Queued | Phase::Dispatched { .. } | Phase::Backoff { .. } => {
            Event::RunReturned { run_id, session_id, dispatch_no: run.dispatch_no }
        }
    }
}

fn lost_error() -> RunError {
    RunError {
        code: "worker_lost".to_owned(),
        message: "the worker did not renew its lease; what its provider call cost is not known".to_owned(),
        class: ErrorClass::WorkerLost,
        retryable: true,
        retry_after_ms: None,
    }
}

/// The error of an attempt whose time is over.
pub(crate) fn timeout_error() -> RunError {
    RunError {
        code: "timeout".to_owned(),
        message: "the attempt did not end within timeout_ms".to_owned(),
        class: ErrorClass::Timeout,
        retryable: true,
        retry_after_ms: None,
    }
}
