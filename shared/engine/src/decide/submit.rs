//! Submit: queue a run, in a session that exists or in one that is made with it.

use laneway_contract::{
    Actor, ApiError, ErrorCode, Event, JobKind, JobState, MAX_QUEUED, MAX_QUEUED_PER_SESSION, Mode, OnBusy, RunFields,
    RunRecord, RunStatus, SessionFields, SessionId, Timestamp, Usage, WaitReason,
};
use serde_json::json;

use super::{cancel_run, open};
use crate::command::Submit;
use crate::run::Phase;
use crate::session::Session;
use crate::state::State;

impl State {
    pub(super) fn submit(&self, command: &Submit, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let known = self.runs.get(&command.run_id).map(|run| run.fingerprint);
        let known = known.or_else(|| self.ended.get(&command.run_id).map(|run| run.fingerprint));
        if let Some(fingerprint) = known {
            if fingerprint == command.fingerprint {
                return Ok(Vec::new());
            }
            return Err(ApiError::new(
                ErrorCode::IdempotencyConflict,
                format!("run {} was submitted with other content: use another run_id", command.run_id),
            ));
        }
        // Named after its run, which ended so long ago that it is forgotten.
        if let Some(new) = &command.new_session
            && self.sessions.contains_key(&new.session_id)
        {
            return Ok(Vec::new());
        }
        let queued: u64 = self.queues.queued().values().sum();
        if queued >= MAX_QUEUED {
            return Err(queue_full(queued, MAX_QUEUED));
        }
        in_time(command, now)?;
        let (session_id, fields, mut events) = match (&command.session_id, &command.new_session) {
            (Some(id), _) => {
                let session = self.known(*id)?;
                takes_run(session, command.on_busy)?;
                let stored = command.artifacts.iter().cloned().map(Event::ArtifactStored).collect();
                (*id, &session.creation.fields, stored)
            }
            (None, Some(new)) => {
                let events = self.create_events(new, &command.artifacts, command.fingerprint, now)?;
                (new.session_id, &new.fields, events)
            }
            (None, None) => return Err(ApiError::new(ErrorCode::BadRequest, "neither a session nor fields for one")),
        };
        let run = Box::new(self.record(command, session_id, fields, now));
        events.push(Event::RunQueued { run, fingerprint: command.fingerprint, estimate: command.estimate });
        if command.on_busy == OnBusy::Interrupt {
            events.extend(self.interrupted(session_id, command, now));
        }
        Ok(events)
    }

    /// The current run of the session gives way, unless it waits for a person.
    fn interrupted(&self, session_id: SessionId, command: &Submit, now: Timestamp) -> Option<Event> {
        let current = self.sessions.get(&session_id)?.current?;
        let run = self.runs.get(&current).filter(|run| !matches!(run.phase, Phase::Stalled | Phase::AwaitingUser))?;
        let reason = format!("interrupted by run {}", command.run_id);
        cancel_run(run, &Actor::runtime(), &reason, now)
    }

    fn record(&self, command: &Submit, session_id: SessionId, session: &SessionFields, now: Timestamp) -> RunRecord {
        let fairness_key = command.fairness_key.clone().or_else(|| session.wp_id.clone());
        RunRecord {
            run_id: command.run_id,
            session_id,
            fields: RunFields {
                job_kind: JobKind::ModelRun,
                input: command.input.clone(),
                model_id: command.model_id.clone().unwrap_or_else(|| session.model_id.clone()),
                backend: command.backend.unwrap_or(session.backend),
                lane: command.lane,
                priority: command.priority,
                concurrency_group: command.concurrency_group.clone(),
                fairness_key: fairness_key.unwrap_or_else(|| self.root_of(session_id, session).to_string()),
                on_busy: command.on_busy,
                max_retries: command.max_retries,
                retry_backoff: command.retry_backoff,
                timeout_ms: command.timeout_ms,
                cancellation_token: command.cancellation_token.clone(),
                not_before: command.not_before,
                deadline: command.deadline,
                queue_timeout_ms: command.queue_timeout_ms,
                max_tokens_budget: command.max_tokens_budget,
                estimated_cost_usd: command.estimated_cost_usd,
                estimated_tokens: command.estimated_tokens,
                generation: command.generation.clone(),
                traceparent: command.traceparent.clone(),
            },
            status: RunStatus { retry_of: command.retry_of, ..new_status(now) },
        }
    }

    fn root_of(&self, session_id: SessionId, fields: &SessionFields) -> SessionId {
        let known = [Some(session_id), fields.parent_session_id].into_iter().flatten();
        known.filter_map(|id| self.sessions.get(&id)).map(|session| session.root).next().unwrap_or(session_id)
    }
}

fn takes_run(session: &Session, on_busy: OnBusy) -> Result<(), ApiError> {
    let id = session.creation.session_id;
    open(session)?;
    if session.creation.fields.mode == Mode::OneShot && session.ever_queued {
        return Err(ApiError::new(ErrorCode::Busy, format!("session {id} is ONE_SHOT and has its run")));
    }
    if on_busy == OnBusy::Reject && session.has_runs() {
        return Err(ApiError::new(
            ErrorCode::Busy,
            format!("session {id} has a run: wait for it, or submit with on_busy ENQUEUE"),
        ));
    }
    let queued = session.queued();
    if queued >= MAX_QUEUED_PER_SESSION {
        return Err(queue_full(queued, MAX_QUEUED_PER_SESSION));
    }
    Ok(())
}

/// A run that could never start in time is refused, not queued to fail.
fn in_time(command: &Submit, now: Timestamp) -> Result<(), ApiError> {
    let Some(deadline) = command.deadline else { return Ok(()) };
    let from = command.not_before.map_or(now, |not_before| not_before.max(now));
    if deadline > from {
        return Ok(());
    }
    let message = format!("deadline is {deadline} and the run could start at {from} at the earliest");
    Err(ApiError::new(ErrorCode::BadRequest, message).with_details(json!({"path": "deadline"})))
}

fn queue_full(queued: u64, max: u64) -> ApiError {
    ApiError::new(
        ErrorCode::QueueFull,
        format!("{queued} runs are queued, as many as there may be: submit it again later"),
    )
    .with_details(json!({"queued": queued, "max": max, "retry_after_ms": 1_000}))
}

fn new_status(now: Timestamp) -> RunStatus {
    RunStatus {
        state: JobState::Queued,
        reason: WaitReason::None,
        attempt: 0,
        epoch: 0,
        submitted_at: now,
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
        retry_of: None,
        pending_tool_call_ids: Vec::new(),
        approval_id: None,
        issues: Vec::new(),
    }
}
