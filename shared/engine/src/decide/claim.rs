//! Claim: a worker takes the lease of a dispatched run.

use laneway_contract::{ApiError, ErrorCode, Event, Timestamp};

use super::thread::appended;
use crate::command::Claim;
use crate::run::{Phase, Requeued};
use crate::state::State;

impl State {
    pub(super) fn claim(&self, command: &Claim, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let id = command.run_id;
        let Some(run) = self.runs.get(&id) else {
            let code = if self.ended.contains_key(&id) { ErrorCode::RunTerminal } else { ErrorCode::NotFound };
            return Err(ApiError::new(code, format!("run {id} has ended or never was: take the next dispatch")));
        };
        match &run.phase {
            Phase::Running { worker_id, claim_id, .. } => {
                if *worker_id == command.worker_id && *claim_id == command.claim_id {
                    return Ok(Vec::new());
                }
                return Err(ApiError::new(ErrorCode::AlreadyClaimed, format!("run {id} is claimed by {worker_id}")));
            }
            // Past its time nobody waits for the answer any more, and a lease without a worker would block the session.
            Phase::Dispatched { claim_by, .. } if run.dispatch_no == command.dispatch_no && now < *claim_by => {}
            Phase::Dispatched { .. }
            | Phase::Delayed { .. }
            | Phase::Queued
            | Phase::Backoff { .. }
            | Phase::Stalled
            | Phase::AwaitingUser => {
                return Err(ApiError::new(ErrorCode::StaleEpoch, format!("dispatch {} is over", command.dispatch_no)));
            }
        }
        let session_id = run.record.session_id;
        let tail = self.sessions.get(&session_id).map_or(0, |session| session.tail);
        // The first claim alone brings the input; a later attempt sees the same window.
        let (mut events, upto_seq) = if let Some(upto) = run.upto_seq {
            (Vec::new(), upto)
        } else {
            let input = &run.record.fields.input;
            (appended(session_id, tail, input, Some((id, 0)), now), tail + input.len() as u64)
        };
        events.push(Event::RunClaimed {
            run_id: id,
            session_id,
            // What was approved goes on as the attempt that asked.
            attempt: run.record.status.attempt + u32::from(run.decided != Some(Requeued::GoOn)),
            epoch: self.last_epoch + 1,
            worker_id: command.worker_id.clone(),
            claim_id: command.claim_id,
            model_id: run.record.fields.model_id.clone(),
            upto_seq,
            stop_at: now.plus_millis(run.record.fields.timeout_ms as i64),
        });
        Ok(events)
    }
}
