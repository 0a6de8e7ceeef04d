//! Which public events a frame of the journal has.

use laneway_contract::{
    Actor, ActorKind, Epoch, Event, FlightKind, FlightSource, Incident, JobState, MessageRecord, MicroUsd, ReturnCause,
    RunId, RunRecord, ServiceName, SessionCreation, SessionId, SessionState, SessionStatus, Subject, Timestamp,
};
use laneway_journal::{Body, Frame};
use serde::Serialize;

use crate::hash::EventHash;
use crate::payload::{Payload, Used};

/// A public event before it has its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicEvent<'a> {
    source: FlightSource,
    timestamp: Timestamp,
    draft: Draft<'a>,
}

/// What a journal event says in public.
#[derive(Clone, Debug, PartialEq)]
struct Draft<'a> {
    session_id: Option<SessionId>,
    run_id: Option<RunId>,
    actor: Actor,
    payload: Payload<'a>,
}

/// An event as it is stored. The fields are those of [`laneway_contract::FlightEvent`], in the same order.
#[derive(Serialize)]
struct Stored<'a> {
    event_id: &'static str,
    source: FlightSource,
    event_type: FlightKind,
    timestamp: Timestamp,
    session_id: Option<SessionId>,
    run_id: Option<RunId>,
    actor: &'a Actor,
    payload: &'a Payload<'a>,
    prev_hash: EventHash,
}

impl PublicEvent<'_> {
    /// Where in the journal the event has its origin: the frame, and the event's place among its public events.
    #[must_use]
    pub const fn source(&self) -> FlightSource {
        self.source
    }

    /// The type of the event.
    #[must_use]
    pub const fn kind(&self) -> FlightKind {
        self.draft.payload.kind()
    }

    /// The subject on which the event is published.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        Subject::Flight { session: self.draft.session_id, kind: self.kind() }
    }

    /// The bytes of the event behind an event with the hash `prev`. Every event of ours can be written, so it fails only when memory does.
    pub fn encode(&self, prev: EventHash) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Stored {
            event_id: self.kind().event_id(),
            source: self.source,
            event_type: self.kind(),
            timestamp: self.timestamp,
            session_id: self.draft.session_id,
            run_id: self.draft.run_id,
            actor: &self.draft.actor,
            payload: &self.draft.payload,
            prev_hash: prev,
        })
    }
}

/// The public events of a frame, in order.
#[must_use]
pub fn public_events(frame: &Frame<Event>) -> Vec<PublicEvent<'_>> {
    let drafts: Vec<(Timestamp, Draft<'_>)> = match &frame.body {
        Body::Started { .. } => vec![(frame.time, leader_changed(frame.epoch))],
        Body::Stopped | Body::FormatRaised { .. } => Vec::new(),
        Body::Turns(turns) => {
            let events = turns.iter().flat_map(|turn| turn.events.iter().map(|event| (turn.at, event)));
            events.flat_map(|(at, event)| drafts(event).into_iter().map(move |draft| (at, draft))).collect()
        }
    };
    let place = |(index, (timestamp, draft))| PublicEvent {
        source: FlightSource { seq: frame.number, index },
        timestamp,
        draft,
    };
    (0..).zip(drafts).map(place).collect()
}

/// What an event says in public: nothing, one thing, or more where a session completes or limits change.
fn drafts(event: &Event) -> Vec<Draft<'_>> {
    match event {
        Event::HashKeyCreated { .. }
        | Event::LimitsConfigured { .. }
        | Event::CoolDownChanged { .. }
        | Event::SessionTouched { .. }
        | Event::StateDigest { .. }
        | Event::SessionsEvicted { .. }
        | Event::SessionLoaded { .. }
        | Event::KeysEvicted { .. }
        | Event::RunsForgotten { .. }
        | Event::SnapshotTaken(_)
        | Event::ArtifactStored(_)
        | Event::SessionPauseSet { .. }
        | Event::SessionEndRequested { .. }
        | Event::AppendKeyTaken { .. }
        | Event::RunReturned { cause: ReturnCause::Paused | ReturnCause::Waited, .. }
        | Event::RunStopRequested { .. }
        | Event::ReportTaken { .. } => Vec::new(),
        Event::LimitsChanged { changes, changed_by } => {
            let changes = changes.iter();
            changes.map(|change| limit_changed(change.name.to_string(), change.from, change.to, changed_by)).collect()
        }
        Event::BudgetSet { owner, tokens, usd, tokens_before, usd_before, changed_by } => {
            let micros = |usd: &Option<MicroUsd>| usd.map(|usd| usd.0);
            let amounts =
                [("tokens", *tokens_before, *tokens), ("usd_micros", micros(usd_before), micros(usd))].into_iter();
            let changed = amounts.filter(|(_, from, to)| from != to);
            changed
                .map(|(unit, from, to)| limit_changed(format!("budget:{owner}:{unit}"), from, to, changed_by))
                .collect()
        }
        Event::BudgetWarned { owner: _, session_id, budget_type, current_value, threshold_value } => {
            let (session_id, budget_type) = (*session_id, *budget_type);
            let [current_value, threshold_value] =
                [*current_value, *threshold_value].map(|value| Used::new(budget_type, value));
            let payload = Payload::SessionBudgetWarning { session_id, budget_type, current_value, threshold_value };
            vec![Draft::of_session(session_id, payload)]
        }
        Event::IncidentNoted(incident) => vec![incident_noted(incident)],
        Event::SessionCreated { session, .. } => vec![session_created(session)],
        Event::SessionStateChanged { session_id, from, reason, status, duration_ms } => {
            state_changed(*session_id, *from, reason, status, *duration_ms)
        }
        Event::MessageAppended(message) => vec![message_appended(message)],
        Event::RunQueued { .. }
        | Event::RunDispatched { .. }
        | Event::RunReturned { cause: ReturnCause::Unclaimed | ReturnCause::HandedBack, .. }
        | Event::RunClaimed { .. }
        | Event::LeaseExpired { .. }
        | Event::LateAnswerTaken { .. }
        | Event::RunRateLimited { .. }
        | Event::RunRetryScheduled { .. }
        | Event::RunStalled { .. }
        | Event::RunParked { .. }
        | Event::RunDecided { .. }
        | Event::RunSettled { .. } => of_run(event).into_iter().collect(),
    }
}

/// What an event of a run's life says.
#[expect(clippy::wildcard_enum_match_arm, reason = "`drafts` has matched exhaustively")]
fn of_run(event: &Event) -> Option<Draft<'_>> {
    let draft = match event {
        Event::RunQueued { run, .. } => run_queued(run),
        Event::RunDispatched { run_id, session_id, lane, model_id, queue_wait_ms, .. } => {
            let (session_id, job_id) = (*session_id, *run_id);
            let provider = model_id.provider();
            let payload =
                Payload::SchedulerDispatch { session_id, job_id, lane: *lane, provider, queue_wait_ms: *queue_wait_ms };
            Draft::of_run(session_id, job_id, payload)
        }
        Event::RunClaimed { run_id, session_id, attempt, epoch, worker_id, model_id, .. } => {
            let (session_id, job_id, attempt, epoch) = (*session_id, *run_id, *attempt, *epoch);
            let payload = Payload::RunStarted { session_id, job_id, attempt, epoch, worker_id, model_id };
            Draft::of_run(session_id, job_id, payload)
        }
        Event::LeaseExpired { run_id, session_id, epoch, action, .. } => {
            recovery(*session_id, *run_id, *epoch, "lease_expired", action)
        }
        Event::RunReturned { run_id, session_id, epoch, cause, .. } => {
            let found = if *cause == ReturnCause::HandedBack { "worker_left" } else { "dispatch_unclaimed" };
            recovery(*session_id, *run_id, *epoch, found, "requeue")
        }
        Event::LateAnswerTaken { run_id, session_id, epoch, .. } => {
            recovery(*session_id, *run_id, *epoch, "late_answer", "settle")
        }
        Event::RunRateLimited { run_id, session_id, provider, attempt, backoff_ms, cause, bucket } => {
            let (session_id, job_id) = (*session_id, *run_id);
            let payload = Payload::SchedulerRateLimited {
                session_id,
                job_id,
                provider,
                backoff_ms: *backoff_ms,
                attempt: *attempt,
                cause: *cause,
                bucket: bucket.as_ref().map(|(name, _)| name.as_str()),
                bucket_level: bucket.as_ref().map(|(_, level)| *level),
            };
            Draft::of_run(session_id, job_id, payload)
        }
        Event::RunRetryScheduled { run_id, session_id, attempt, error, backoff_ms, .. } => {
            let (session_id, job_id, attempt, backoff_ms) = (*session_id, *run_id, *attempt, *backoff_ms);
            let payload = Payload::RunRetried { session_id, job_id, attempt, backoff_ms, error_code: &error.code };
            Draft::of_run(session_id, job_id, payload)
        }
        Event::RunStalled { run_id, session_id, attempt, pending_tool_call_ids, .. } => {
            let (session_id, job_id, attempt) = (*session_id, *run_id, *attempt);
            let payload = Payload::RunStalled { session_id, job_id, attempt, pending_tool_call_ids };
            Draft::of_run(session_id, job_id, payload)
        }
        Event::RunParked { run_id, session_id, approval_id, .. } => {
            let (session_id, job_id, awaiting) = (*session_id, *run_id, "approval");
            Draft::of_run(session_id, job_id, Payload::RunParked { session_id, job_id, awaiting, approval_id })
        }
        Event::RunDecided { run_id, session_id, decision, decided_by, reason } => {
            let (session_id, job_id, decision) = (*session_id, *run_id, *decision);
            let payload = Payload::RunDecided { session_id, job_id, decision, decided_by, reason };
            Draft { actor: decided_by.clone(), ..Draft::of_run(session_id, job_id, payload) }
        }
        Event::RunSettled { run, duration_ms, .. } => return run_settled(run, *duration_ms),
        _ => return None,
    };
    Some(draft)
}

impl<'a> Draft<'a> {
    fn of_session(session_id: SessionId, payload: Payload<'a>) -> Self {
        Self { session_id: Some(session_id), run_id: None, actor: Actor::runtime(), payload }
    }

    fn of_run(session_id: SessionId, run_id: RunId, payload: Payload<'a>) -> Self {
        Self { run_id: Some(run_id), ..Self::of_session(session_id, payload) }
    }
}

fn leader_changed<'a>(epoch: Epoch) -> Draft<'a> {
    let payload = Payload::LeaderChanged { service: ServiceName::Scheduler, epoch };
    Draft { session_id: None, run_id: None, actor: Actor::runtime(), payload }
}

/// Who recovers from what was found.
fn system() -> Actor {
    Actor { id: "system".to_owned(), kind: ActorKind::Runtime }
}

fn incident_noted(incident: &Incident) -> Draft<'_> {
    let Incident { action, run_id, session_id, .. } = incident;
    let found = incident.to_string().into();
    let payload = Payload::WorkflowRecovery { found, action, run_id: *run_id, epoch: None, checkpoint_id: None };
    Draft { session_id: *session_id, run_id: *run_id, actor: system(), payload }
}

fn limit_changed(name: String, from: Option<u64>, to: Option<u64>, changed_by: &Actor) -> Draft<'_> {
    let payload = Payload::LimitsChanged { name, from, to, changed_by };
    Draft { session_id: None, run_id: None, actor: changed_by.clone(), payload }
}

fn session_created(session: &SessionCreation) -> Draft<'_> {
    let SessionCreation { session_id, fields, created_at: _ } = session;
    let payload = Payload::SessionCreated {
        session_id: *session_id,
        model_id: &fields.model_id,
        backend: fields.backend,
        role: &fields.role,
        wp_id: fields.wp_id.as_deref(),
        mt_id: fields.mt_id.as_deref(),
        memory_policy: fields.memory_policy,
        spawn_depth: fields.spawn_depth,
    };
    Draft::of_session(*session_id, payload)
}

fn state_changed<'a>(
    session_id: SessionId,
    from_state: SessionState,
    reason: &'a str,
    status: &SessionStatus,
    duration_ms: u64,
) -> Vec<Draft<'a>> {
    let change = Payload::SessionStateChange { session_id, from_state, to_state: status.state, reason };
    let mut said = vec![Draft::of_session(session_id, change)];
    if status.state == SessionState::Completed {
        let completed = Payload::SessionCompleted {
            session_id,
            total_tokens: status.total_tokens,
            total_cost_usd: status.total_cost_usd,
            duration_ms,
            messages_count: status.messages_count,
        };
        said.push(Draft::of_session(session_id, completed));
    }
    said
}

fn message_appended(message: &MessageRecord) -> Draft<'_> {
    let payload = Payload::SessionMessage {
        session_id: message.session_id,
        message_id: message.message_id,
        role: message.role,
        content_hash: message.content_hash,
        token_count: message.token_count,
    };
    Draft { run_id: message.run_id, ..Draft::of_session(message.session_id, payload) }
}

/// What was put right by itself. `epoch` is that of the run's last attempt, 0 before the first.
fn recovery<'a>(session_id: SessionId, run_id: RunId, epoch: Epoch, found: &'static str, action: &'a str) -> Draft<'a> {
    let (run, epoch) = (Some(run_id), Some(epoch));
    let payload = Payload::WorkflowRecovery { found: found.into(), action, run_id: run, epoch, checkpoint_id: None };
    Draft { session_id: Some(session_id), run_id: run, actor: system(), payload }
}

fn run_queued(run: &RunRecord) -> Draft<'_> {
    let payload = Payload::SchedulerEnqueue {
        session_id: run.session_id,
        job_id: run.run_id,
        job_kind: run.fields.job_kind,
        lane: run.fields.lane,
        priority: run.fields.priority,
        concurrency_group: run.fields.concurrency_group.as_deref(),
    };
    Draft::of_run(run.session_id, run.run_id, payload)
}

fn run_settled(run: &RunRecord, duration_ms: u64) -> Option<Draft<'_>> {
    let RunRecord { run_id: job_id, session_id, fields: _, status } = run;
    let (session_id, job_id, attempt) = (*session_id, *job_id, status.attempt);
    let payload = match status.state {
        JobState::Completed | JobState::CompletedWithIssues => Payload::RunCompleted {
            session_id,
            job_id,
            attempt,
            usage: status.usage,
            cost_usd: status.cost_usd,
            finish: status.finish,
            duration_ms,
            issues: &status.issues,
        },
        JobState::Failed => {
            let error = status.error.as_ref();
            let (error_code, class) = (error.map(|error| error.code.as_str()), error.map(|error| error.class));
            Payload::RunFailed { session_id, job_id, attempt, error_code, class }
        }
        JobState::Poisoned => Payload::RunPoisoned { session_id, job_id, attempts: attempt },
        JobState::Cancelled => {
            let cancel = status.cancel.as_ref();
            let (reason, cancelled_by) = (cancel.map(|cancel| cancel.reason.as_str()), cancel.map(|cancel| &cancel.by));
            let payload = Payload::SchedulerCancelled { session_id, job_id, reason, cancelled_by };
            let actor = cancelled_by.cloned().unwrap_or_else(Actor::runtime);
            return Some(Draft { actor, ..Draft::of_run(session_id, job_id, payload) });
        }
        // A run that has not ended is not settled.
        JobState::Queued | JobState::Dispatched | JobState::Running | JobState::AwaitingUser | JobState::Stalled => {
            return None;
        }
    };
    Some(Draft::of_run(session_id, job_id, payload))
}

#[cfg(test)]
mod tests;
