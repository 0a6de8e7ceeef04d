//! What happens by itself: leases run out, times are over, dispatches return, sessions end, and heads are dispatched.

use laneway_contract::{
    Actor, DISPATCH_CLAIM_MS, ErrorClass, Event, JobState, POISON_AFTER, ReturnCause, RunError, SessionId, StopCause,
    Timestamp,
};

use crate::admit::{Admission, Chosen, RateWait};
use crate::decide::{cancel_run, end_or_retry, returned, settle, stalled};
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
            return vec![overdue(run, now)];
        }
        let replaced = self.replacing_sessions.iter().map(|id| self.replaced(*id, now));
        if let Some(events) = replaced.into_iter().find(|events| !events.is_empty()) {
            return events;
        }
        // One whose executing run has still to stop holds up no other.
        let ends = self.ending_sessions.iter().map(|id| self.end_runs(*id, now));
        if let Some(events) = ends.into_iter().find(|events| !events.is_empty()) {
            return events;
        }
        self.dispatch_next(hints, now).into_iter().collect()
    }

    fn expired(&self, hints: &Hints, now: Timestamp) -> Option<&Run> {
        hints.ended_leases(now).find_map(|(id, lease)| {
            let run = self.runs.get(&id)?;
            let executes = matches!(run.phase, Phase::Running { .. }) && run.record.status.epoch == lease.epoch;
            executes.then_some(run)
        })
    }

    /// Runs that give way to a newer one of their session.
    fn replaced(&self, id: SessionId, now: Timestamp) -> Vec<Event> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let waiting = session.delayed.values().chain(session.queue.values()).filter_map(|id| self.runs.get(id));
        let replaced = waiting.filter(|run| run.order < session.replaced_below && run.decided.is_none());
        one_step(replaced.filter_map(|run| cancel_run(run, &Actor::runtime(), "replaced by a newer run", now)))
    }

    fn end_runs(&self, id: SessionId, now: Timestamp) -> Vec<Event> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let reason = session.ending.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default();
        let runs = self.runs_of_session(session).into_iter().filter_map(|run| self.runs.get(&run));
        one_step(runs.filter_map(|run| cancel_run(run, &Actor::runtime(), &reason, now)))
    }

    fn dispatch_next(&self, hints: &Hints, now: Timestamp) -> Option<Event> {
        if self.quiet {
            return None;
        }
        let choice = Admission::new(self, hints, now).choose();
        if let Some(RateWait { run, cause, wait_ms, bucket }) = choice.record {
            let run = &self.runs.get(&run)?.record;
            return Some(Event::RunRateLimited {
                run_id: run.run_id,
                session_id: run.session_id,
                provider: run.fields.model_id.provider().to_owned(),
                attempt: run.status.attempt + 1,
                backoff_ms: wait_ms,
                cause,
                bucket,
            });
        }
        let Chosen { run, pool, reserved } = choice.next?;
        let run = self.runs.get(&run)?;
        Some(Event::RunDispatched {
            run_id: run.record.run_id,
            session_id: run.record.session_id,
            dispatch_no: run.dispatch_no + 1,
            pool,
            claim_by: now.plus_millis(DISPATCH_CLAIM_MS as i64),
            lane: run.record.fields.lane,
            model_id: run.record.fields.model_id.clone(),
            queue_wait_ms: now.millis_since(run.record.status.submitted_at),
            reserved,
        })
    }
}

/// The lease of an executing run has ended.
fn expire(run: &Run, now: Timestamp) -> Vec<Event> {
    let Phase::Running { worker_id, stop, .. } = &run.phase else { return Vec::new() };
    let (run_id, session_id) = (run.record.run_id, run.record.session_id);
    let status = &run.record.status;
    let error = match stop.as_deref() {
        Some(StopCause::Timeout) => timeout_error(),
        Some(StopCause::Deadline) => deadline_error(),
        Some(StopCause::Cancel { .. }) | None => lost_error(),
    };
    let (action, then) = match stop.as_deref() {
        Some(StopCause::Cancel { .. }) => {
            let lost = Run { lost: run.lost + 1, ..run.clone() };
            ("cancel", vec![settle(lost, JobState::Cancelled, now)])
        }
        _ if run.lost + 1 >= POISON_AFTER => {
            let mut poisoned = run.clone();
            poisoned.record.status.error = Some(Box::new(error));
            ("poison", vec![settle(poisoned, JobState::Poisoned, now)])
        }
        // What its tools have done is not known, so it is not done again by itself.
        _ if run.called_tool && !matches!(stop.as_deref(), Some(StopCause::Deadline)) => ("stall", vec![stalled(run)]),
        _ => {
            let then = end_or_retry(run.clone(), error, now);
            let fails = then.iter().any(|event| matches!(event, Event::RunSettled { .. }));
            (if fails { "fail" } else { "retry" }, then)
        }
    };
    let mut events = vec![Event::LeaseExpired {
        run_id,
        session_id,
        attempt: status.attempt,
        epoch: status.epoch,
        worker_id: worker_id.clone(),
        action: action.to_owned(),
    }];
    events.extend(then);
    events
}

/// What happens to a run at its [`Run::due`] time.
fn overdue(run: &Run, now: Timestamp) -> Event {
    let (run_id, session_id) = (run.record.run_id, run.record.session_id);
    let late = run.record.fields.deadline.is_some_and(|deadline| deadline <= now);
    if matches!(run.phase, Phase::Running { .. }) {
        let cause = if late { StopCause::Deadline } else { StopCause::Timeout };
        return Event::RunStopRequested { run_id, session_id, cause };
    }
    let error = if late {
        deadline_error()
    } else if run.queue_timeout_at().is_some_and(|at| at <= now) {
        queue_timeout_error()
    } else {
        let unclaimed = matches!(run.phase, Phase::Dispatched { .. });
        return returned(run, if unclaimed { ReturnCause::Unclaimed } else { ReturnCause::Waited });
    };
    let mut failed = run.clone();
    failed.record.status.error = Some(Box::new(error));
    settle(failed, JobState::Failed, now)
}

fn error(code: &str, message: &str, class: ErrorClass, retryable: bool) -> RunError {
    RunError { code: code.to_owned(), message: message.to_owned(), class, retryable, retry_after_ms: None }
}

fn lost_error() -> RunError {
    let message = "the worker did not renew its lease; what its provider call cost is not known";
    error("worker_lost", message, ErrorClass::WorkerLost, true)
}

/// The error of an attempt whose time is over.
pub(crate) fn timeout_error() -> RunError {
    error("timeout", "the attempt did not end within timeout_ms", ErrorClass::Timeout, true)
}

/// The error of a run whose time is over.
pub(crate) fn deadline_error() -> RunError {
    error("deadline_exceeded", "the run did not end before its deadline", ErrorClass::Timeout, false)
}

fn queue_timeout_error() -> RunError {
    let message = "the run was not dispatched within queue_timeout_ms: runs.explain says what holds others like it";
    error("queue_timeout", message, ErrorClass::Timeout, false)
}
