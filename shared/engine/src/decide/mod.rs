//! Decisions: one file per command. Each reads the state and returns events, or refuses and changes nothing.

mod claim;
mod cool_down;
mod decision;
mod lifecycle;
mod limits;
mod report;
mod submit;
mod thread;

use laneway_contract::{
    Actor, ApiError, CancelReceipt, ErrorClass, ErrorCode, Event, Incident, JobState, Output, RateCause, ReturnCause,
    RunError, SessionId, StopCause, StoreSaid, StoredSession, Timestamp, WaitReason,
};

use serde_json::json;

use crate::admit::bit;
use crate::command::{Command, Load};
use crate::run::{Phase, Run};
use crate::session::Session;
use crate::state::State;

impl State {
    /// What a command comes to. No events: it was done before, or there is nothing to do.
    pub fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        self.decide_with(command, &[], now)
    }

    /// As [`State::decide`], with what store replicas have said of what memory may lack. Where that is not enough the
    /// answer is `unavailable`, and [`State::needs_read`] says what to ask.
    pub fn decide_with(&self, command: &Command, said: &[StoreSaid], now: Timestamp) -> Result<Vec<Event>, ApiError> {
        if self.needs_read(command, said).is_some() {
            return Err(not_held());
        }
        match command {
            Command::CreateHashKey(key) => match &self.hash_key {
                Some(_) => Err(ApiError::new(ErrorCode::IdempotencyConflict, "the deployment has its hash key")),
                None => Ok(vec![Event::HashKeyCreated { key: key.clone() }]),
            },
            Command::SetLimits(command) => self.set_limits(command),
            Command::SetBudget(command) => self.set_budget(command),
            Command::Decide(command) => self.decide_run(command, now),
            Command::Note(incident) => note(incident),
            Command::Put(artifact) => Ok(vec![Event::ArtifactStored((**artifact).clone())]),
            Command::Create(command) => self.create(command, now),
            Command::Append(command) => self.append(command, said, now),
            Command::Submit(command) => self.submit(command, now),
            Command::Cancel(command) => self.cancel(command, now),
            Command::Pause(command) => self.pause(command, now),
            Command::End(command) => self.end(command),
            Command::Claim(command) => self.claim(command, now),
            Command::Report(command) => self.report(command, now),
            Command::Load(command) => self.load_again(command),
        }
    }

    fn load_again(&self, command: &Load) -> Result<Vec<Event>, ApiError> {
        let StoredSession { creation, record } = &command.session;
        if self.sessions.contains_key(&creation.session_id) {
            return Ok(Vec::new());
        }
        if !self.is_good(command.read_at) {
            return Err(not_held());
        }
        let (session, record) = (Box::new(creation.clone()), Box::new(record.clone()));
        Ok(vec![Event::SessionLoaded { session, record, read_at: command.read_at }])
    }

    /// The session, or `not_found`.
    fn known(&self, id: SessionId) -> Result<&Session, ApiError> {
        self.sessions.get(&id).ok_or_else(|| {
            ApiError::new(ErrorCode::NotFound, format!("no session {id}: create it with sessions.create"))
        })
    }
}

/// An event that changes nothing. Its texts are bounded here, so that whoever notes cannot fill the journal with them.
fn note(incident: &Incident) -> Result<Vec<Event>, ApiError> {
    let Incident { found, place, action, .. } = incident;
    if [found, place, action].into_iter().any(|text| text.len() > Incident::MAX_TEXT_BYTES) {
        let message = format!("a text of an incident has more than {} bytes", Incident::MAX_TEXT_BYTES);
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    Ok(vec![Event::IncidentNoted(incident.clone())])
}

/// What was said of a session was read too early, or nothing was.
fn not_held() -> ApiError {
    let message = "the session is not held in memory, and no store replica has said how it is: send it again";
    ApiError::new(ErrorCode::Unavailable, message)
}

/// Refuses a change of a session that has ended or is about to.
fn open(session: &Session) -> Result<(), ApiError> {
    if !session.is_closed() {
        return Ok(());
    }
    let state = session.ending.as_ref().map_or(session.status.state, |(end, _)| *end);
    let id = session.creation.session_id;
    Err(ApiError::new(ErrorCode::SessionTerminal, format!("session {id} is {state}: go on in a new session"))
        .with_details(json!({"state": state})))
}

/// The event that ends a run in this state.
pub(crate) fn settle(run: Run, state: JobState, now: Timestamp) -> Event {
    settle_with(run, state, now, None)
}

fn settle_with(run: Run, state: JobState, now: Timestamp, output: Option<Output>) -> Event {
    let Run { mut record, reports, lost, .. } = run;
    let status = &mut record.status;
    status.state = state;
    status.reason = WaitReason::None;
    status.ended_at = Some(now);
    if let Some(cancel) = &mut status.cancel {
        cancel.settled_at = Some(now);
        // What a lost worker's call has cost, nobody knows.
        cancel.billed = (lost == 0).then_some(status.usage);
        cancel.too_late = state != JobState::Cancelled;
    }
    if state == JobState::Cancelled {
        status.error = None;
    }
    status.approval_id = None;
    let duration_ms = status.started_at.map_or(0, |started| now.millis_since(started));
    Event::RunSettled { run: record, reports, duration_ms, output }
}

/// Cancels a live run: at once, or by asking its worker. None when that was asked for before.
pub(crate) fn cancel_run(run: &Run, by: &Actor, reason: &str, now: Timestamp) -> Option<Event> {
    match &run.phase {
        Phase::Running { stop: Some(stop), .. } if matches!(**stop, StopCause::Cancel { .. }) => None,
        Phase::Running { .. } => Some(Event::RunStopRequested {
            run_id: run.record.run_id,
            session_id: run.record.session_id,
            cause: StopCause::Cancel { by: by.clone(), reason: reason.to_owned() },
        }),
        Phase::Delayed { .. }
        | Phase::Queued
        | Phase::Dispatched { .. }
        | Phase::Backoff { .. }
        | Phase::Stalled
        | Phase::AwaitingUser => {
            let mut cancelled = run.clone();
            let receipt = CancelReceipt::requested(by.clone(), reason.to_owned(), now);
            cancelled.record.status.cancel = Some(Box::new(receipt));
            Some(settle(cancelled, JobState::Cancelled, now))
        }
    }
}

/// What a failed attempt comes to: another attempt after a wait, or the end.
pub(crate) fn end_or_retry(mut run: Run, error: RunError, now: Timestamp) -> Vec<Event> {
    let backoff_ms = run.backoff_ms(error.retry_after_ms);
    let not_before = now.plus_millis(backoff_ms as i64);
    let in_time = run.record.fields.deadline.is_none_or(|deadline| not_before < deadline);
    let spent = run.tokens_left() == Some(0);
    if !error.retryable || !run.may_retry() || !in_time || spent {
        let error = if error.retryable && spent { budget_error() } else { error };
        run.record.status.error = Some(Box::new(error));
        return vec![settle(run, JobState::Failed, now)];
    }
    let (run_id, session_id) = (run.record.run_id, run.record.session_id);
    let attempt = run.record.status.attempt;
    let mut events = Vec::with_capacity(2);
    if error.class == ErrorClass::RateLimit && run.rates_recorded & bit(RateCause::Provider) == 0 {
        let provider = run.record.fields.model_id.provider().to_owned();
        let (cause, bucket) = (RateCause::Provider, None);
        events.push(Event::RunRateLimited { run_id, session_id, provider, attempt, backoff_ms, cause, bucket });
    }
    events.push(Event::RunRetryScheduled {
        run_id,
        session_id,
        attempt,
        epoch: run.record.status.epoch,
        error,
        usage: run.record.status.usage,
        cost_usd: run.record.status.cost_usd,
        reports: run.reports,
        backoff_ms,
        not_before,
    });
    events
}

/// A run that goes back into its queue.
pub(crate) fn returned(run: &Run, cause: ReturnCause) -> Event {
    Event::RunReturned {
        run_id: run.record.run_id,
        session_id: run.record.session_id,
        cause,
        dispatch_no: run.dispatch_no,
        epoch: run.record.status.epoch,
        reports: run.reports,
    }
}

/// A run whose attempt is over in the middle of tools: it is not repeated by itself.
pub(crate) fn stalled(run: &Run) -> Event {
    let status = &run.record.status;
    Event::RunStalled {
        run_id: run.record.run_id,
        session_id: run.record.session_id,
        attempt: status.attempt,
        usage: status.usage,
        cost_usd: status.cost_usd,
        reports: run.reports,
        pending_tool_call_ids: status.pending_tool_call_ids.clone(),
    }
}

/// The error of a run that has used all tokens it may.
pub(crate) fn budget_error() -> RunError {
    RunError {
        code: "budget_exceeded".to_owned(),
        message: "the run has used its max_tokens_budget".to_owned(),
        class: ErrorClass::Budget,
        retryable: false,
        retry_after_ms: None,
    }
}
