//! Decide: what a person says about a run that waits for one.

use laneway_contract::{ApiError, Decision, ErrorClass, ErrorCode, Event, JobState, RunError, Timestamp};
use serde_json::json;

use super::{cancel_run, settle};
use crate::command::Decide;
use crate::run::{Phase, Run};
use crate::state::State;

impl State {
    pub(super) fn decide_run(&self, command: &Decide, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let id = command.run_id;
        let Some(run) = self.runs.get(&id) else {
            let code = if self.ended.contains_key(&id) { ErrorCode::RunTerminal } else { ErrorCode::NotFound };
            return Err(ApiError::new(code, format!("run {id} has ended or never was: there is nothing to decide")));
        };
        let state = run.state();
        let refused =
            |message: String| Err(ApiError::new(ErrorCode::Busy, message).with_details(json!({"state": state})));
        match run.phase {
            Phase::AwaitingUser => {}
            Phase::Stalled if command.decision != Decision::Approve => {}
            Phase::Stalled => return refused(format!("run {id} is stalled: decide retry, fail or cancel")),
            Phase::Delayed { .. }
            | Phase::Queued
            | Phase::Dispatched { .. }
            | Phase::Running { .. }
            | Phase::Backoff { .. } => return refused(format!("run {id} is {state} and waits for no decision")),
        }
        let asked = run.record.status.approval_id.as_ref();
        if let Some(meant) = &command.approval_id
            && Some(meant) != asked
        {
            return refused(format!("run {id} waits for another approval: look at its approval_id"));
        }
        let mut events = vec![Event::RunDecided {
            run_id: id,
            session_id: run.record.session_id,
            decision: command.decision,
            decided_by: command.actor.clone(),
            reason: command.reason.clone(),
        }];
        match command.decision {
            Decision::Approve | Decision::Retry => {}
            Decision::Fail => events.push(failed(run, now)),
            Decision::Cancel => events.extend(cancel_run(run, &command.actor, &command.reason, now)),
        }
        Ok(events)
    }
}

fn failed(run: &Run, now: Timestamp) -> Event {
    let mut failed = run.clone();
    failed.record.status.error = Some(Box::new(RunError {
        code: "decided".to_owned(),
        message: "somebody decided that the run has failed".to_owned(),
        class: ErrorClass::Decided,
        retryable: false,
        retry_after_ms: None,
    }));
    settle(failed, JobState::Failed, now)
}
