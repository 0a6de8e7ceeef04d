#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use laneway_contract::{
    Artifact, ArtifactId, Backend, BudgetOwner, BudgetType, CancelReceipt, CoolDown, Decision, ErrorClass, Estimate,
    EvictedBudget, EvictedSession, Fingerprint, Finish, FlightEvent, GenerationSettings, HashKey, JobKind, Lane,
    LimitChange, LimitName, Limits, MessageId, MessageRole, ModelId, OnBusy, RateCause, Reservation, RetryBackoff,
    RunError, RunFields, RunStatus, Scope, SessionFields, SnapshotHash, SnapshotName, SnapshotTaken, Source, StopCause,
    Token, Usage, WaitReason,
};
use laneway_journal::Turn;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

mod stored;

const SESSION: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e";
const RUN: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f";
const MESSAGE: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d40";
const HASH: &str = "b3:0707070707070707070707070707070707070707070707070707070707070707";

fn session_id() -> SessionId {
    SessionId::parse(SESSION).unwrap()
}

fn run_id() -> RunId {
    RunId::parse(RUN).unwrap()
}

fn model() -> ModelId {
    ModelId::parse("openai/gpt-5").unwrap()
}

fn person() -> Actor {
    Actor { id: "ada".to_owned(), kind: ActorKind::Person }
}

fn at() -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000)
}

fn session_created() -> Event {
    let fields = SessionFields {
        backend: Backend::Cloud,
        role: "coder".to_owned(),
        wp_id: Some("wp-1".to_owned()),
        ..SessionFields::of_model(model())
    };
    let session = SessionCreation { session_id: session_id(), fields, created_at: at() };
    Event::SessionCreated { session: Box::new(session), fingerprint: Fingerprint(1) }
}

fn evicted() -> EvictedSession {
    EvictedSession {
        session_id: session_id(),
        fingerprint: Fingerprint(1),
        root: session_id(),
        status: status(SessionState::Idle),
        paused: None,
        ending: None,
        tail: 2,
        last_message_at: Some(at()),
        took_keys: true,
        ever_claimed: true,
        ever_queued: true,
        total_tokens: 9,
        total_cost: MicroUsd(0),
        window_tokens: 9,
        budget: EvictedBudget::default(),
    }
}

fn session_loaded() -> Event {
    let Event::SessionCreated { session, .. } = session_created() else { unreachable!() };
    Event::SessionLoaded { session, record: Box::new(evicted()), read_at: 1 }
}

fn status(state: SessionState) -> SessionStatus {
    SessionStatus {
        state,
        since: at(),
        current_run_id: None,
        paused: false,
        total_tokens: 30,
        total_cost_usd: MicroUsd(1_500),
        messages_count: 2,
        context_window_used: None,
    }
}

fn state_changed(to: SessionState) -> Event {
    let status = status(to);
    let (session_id, reason) = (session_id(), "asked".to_owned());
    Event::SessionStateChanged { session_id, from: SessionState::Idle, reason, status, duration_ms: 9_000 }
}

fn message() -> Event {
    let hash = ArtifactId::parse(HASH).unwrap();
    Event::MessageAppended(Box::new(MessageRecord {
        message_id: MessageId::parse(MESSAGE).unwrap(),
        session_id: session_id(),
        seq: 2,
        role: MessageRole::Assistant,
        content_hash: hash,
        content_artifact_id: hash,
        content_type: "text/plain".to_owned(),
        size: 5,
        timestamp: at(),
        token_count: Some(20),
        redacted: false,
        tool_call_id: None,
        attachments: Vec::new(),
        source: Source::Runtime,
        run_id: Some(run_id()),
        attempt: Some(1),
        finish: Some(Finish::Stop),
    }))
}

fn error() -> RunError {
    let (code, message) = ("provider_error".to_owned(), "the provider failed".to_owned());
    RunError { code, message, class: ErrorClass::Server, retryable: true, retry_after_ms: None }
}

fn run(state: JobState) -> Box<RunRecord> {
    let fields = RunFields {
        job_kind: JobKind::ModelRun,
        input: Vec::new(),
        model_id: model(),
        backend: Backend::Cloud,
        lane: Lane::Primary,
        priority: 50,
        concurrency_group: Some("nightly".to_owned()),
        fairness_key: "wp-1".to_owned(),
        on_busy: OnBusy::Enqueue,
        max_retries: 3,
        retry_backoff: RetryBackoff::Exponential,
        timeout_ms: 120_000,
        cancellation_token: None,
        not_before: None,
        deadline: None,
        queue_timeout_ms: None,
        max_tokens_budget: None,
        estimated_cost_usd: None,
        estimated_tokens: None,
        generation: GenerationSettings::default(),
        traceparent: None,
    };
    let (by, reason) = (person(), "changed my mind".to_owned());
    let cancel = CancelReceipt { settled_at: Some(at()), ..CancelReceipt::requested(by, reason, at()) };
    let status = RunStatus {
        state,
        reason: WaitReason::None,
        attempt: 2,
        epoch: 7,
        submitted_at: at(),
        dispatched_at: None,
        started_at: None,
        first_token_at: None,
        ended_at: None,
        queue_wait_ms: None,
        usage: Usage { input_tokens: 10, output_tokens: 20, cached_tokens: 0, reasoning_tokens: 0 },
        cost_usd: Some(MicroUsd(1_500)),
        finish: Some(Finish::Stop),
        output_message_ids: Vec::new(),
        output_artifact_id: None,
        error: (state == JobState::Failed).then(|| Box::new(error())),
        cancel: (state == JobState::Cancelled).then(|| Box::new(cancel)),
        worker_id: None,
        retry_of: None,
        pending_tool_call_ids: Vec::new(),
        approval_id: None,
        issues: Vec::new(),
    };
    Box::new(RunRecord { run_id: run_id(), session_id: session_id(), fields, status })
}

fn settled(state: JobState) -> Event {
    Event::RunSettled { run: run(state), reports: 1, duration_ms: 800, output: None }
}

/// Every kind of journal event with what it says in public.
#[allow(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(Event, Vec<(FlightKind, Value)>)> {
    let (session_id, run_id, model_id) = (session_id(), run_id(), model());
    let worker_id = Token::parse("w-1").unwrap();
    let change = |to: &str| json!({"session_id": SESSION, "from_state": "IDLE", "to_state": to, "reason": "asked"});
    vec![
        (Event::HashKeyCreated { key: HashKey::from_bytes([1; 32]) }, vec![]),
        (Event::StateDigest { digest: 5 }, vec![]),
        (Event::SessionsEvicted { number: 1, sessions: vec![evicted()] }, vec![]),
        (session_loaded(), vec![]),
        (Event::KeysEvicted { number: 2, before: 7 }, vec![]),
        (Event::RunsForgotten { before: 9 }, vec![]),
        (
            incident(None),
            vec![(FlightKind::WorkflowRecovery, recovery("slow_consumer scheduler-a, 3 times", "none", None))],
        ),
        (
            incident(Some(run_id)),
            vec![(
                FlightKind::WorkflowRecovery,
                recovery("max_deliveries LANEWAY_INTAKE/scheduler message 17", "dead_letter", Some(run_id)),
            )],
        ),
        (
            Event::SnapshotTaken(SnapshotTaken {
                sequence: 9,
                hash: SnapshotHash::from_bytes([1; 32]),
                object: SnapshotName { number: 9, nonce: 1 },
                bytes: 70,
                chunks: 1,
                records: 0,
            }),
            vec![],
        ),
        (
            Event::ArtifactStored(Artifact {
                id: ArtifactId::parse(HASH).unwrap(),
                content_type: "text/plain".to_owned(),
                enc: "none".to_owned(),
                key_id: None,
                bytes: bytes::Bytes::from_static(b"secret"),
            }),
            vec![],
        ),
        (
            Event::LimitsChanged {
                changes: vec![
                    LimitChange { name: LimitName::Global, from: Some(8), to: Some(16) },
                    LimitChange { name: LimitName::Group("nightly".to_owned()), from: None, to: Some(1) },
                ],
                changed_by: person(),
            },
            vec![limit_change("global", &json!(8), &json!(16)), limit_change("group:nightly", &Value::Null, &json!(1))],
        ),
        (Event::LimitsConfigured { limits: Limits::default() }, vec![]),
        (
            Event::BudgetSet {
                owner: BudgetOwner::WorkPacket("wp-1".to_owned()),
                tokens: Some(10_000_000_000),
                usd: Some(MicroUsd(2_500_000)),
                tokens_before: Some(5),
                usd_before: None,
                changed_by: person(),
            },
            vec![
                limit_change("budget:wp:wp-1:tokens", &json!(5), &json!(10_000_000_000_u64)),
                limit_change("budget:wp:wp-1:usd_micros", &Value::Null, &json!(2_500_000)),
            ],
        ),
        (
            Event::BudgetSet {
                owner: BudgetOwner::Session(session_id),
                tokens: None,
                usd: None,
                tokens_before: None,
                usd_before: Some(MicroUsd(7)),
                changed_by: person(),
            },
            vec![limit_change(&format!("budget:session:{SESSION}:usd_micros"), &json!(7), &Value::Null)],
        ),
        (
            budget_warned(BudgetType::Tokens, 850, 800),
            vec![(
                FlightKind::SessionBudgetWarning,
                json!({"session_id": SESSION, "budget_type": "tokens", "current_value": 850, "threshold_value": 800}),
            )],
        ),
        (
            budget_warned(BudgetType::Usd, 2_100_000, 2_000_000),
            vec![(
                FlightKind::SessionBudgetWarning,
                json!({"session_id": SESSION, "budget_type": "usd", "current_value": "2.100000",
                    "threshold_value": "2.000000"}),
            )],
        ),
        (
            Event::CoolDownChanged {
                scope: Scope::Provider("openai".to_owned()),
                cool_down: Some(CoolDown { until: at(), allowed: Some(1), failures: 5 }),
            },
            vec![],
        ),
        (Event::SessionTouched { session_id, status: status(SessionState::Idle) }, vec![]),
        (
            session_created(),
            vec![(
                FlightKind::SessionCreated,
                json!({"session_id": SESSION, "model_id": "openai/gpt-5", "backend": "CLOUD", "role": "coder",
                    "wp_id": "wp-1", "mt_id": null, "memory_policy": "SESSION_SCOPED", "spawn_depth": 0}),
            )],
        ),
        (state_changed(SessionState::Paused), vec![(FlightKind::SessionStateChange, change("PAUSED"))]),
        (state_changed(SessionState::Failed), vec![(FlightKind::SessionStateChange, change("FAILED"))]),
        (state_changed(SessionState::Cancelled), vec![(FlightKind::SessionStateChange, change("CANCELLED"))]),
        (
            state_changed(SessionState::Completed),
            vec![
                (FlightKind::SessionStateChange, change("COMPLETED")),
                (
                    FlightKind::SessionCompleted,
                    json!({"session_id": SESSION, "total_tokens": 30, "total_cost_usd": "0.001500",
                        "duration_ms": 9000, "messages_count": 2}),
                ),
            ],
        ),
        (Event::SessionPauseSet { session_id, paused: true, actor: person(), reason: String::new() }, vec![]),
        (
            Event::SessionEndRequested {
                session_id,
                end: SessionState::Completed,
                actor: person(),
                reason: String::new(),
            },
            vec![],
        ),
        (
            message(),
            vec![(
                FlightKind::SessionMessage,
                json!({"session_id": SESSION, "message_id": MESSAGE, "role": "ASSISTANT", "content_hash": HASH,
                    "token_count": 20}),
            )],
        ),
        (
            Event::AppendKeyTaken {
                session_id,
                key: "k".to_owned(),
                fingerprint: Fingerprint(1),
                first_seq: 1,
                last_seq: 2,
            },
            vec![],
        ),
        (
            Event::RunQueued { run: run(JobState::Queued), fingerprint: Fingerprint(1), estimate: Estimate::default() },
            vec![(
                FlightKind::SchedulerEnqueue,
                json!({"session_id": SESSION, "job_id": RUN, "job_kind": "model_run", "lane": "PRIMARY",
                    "priority": 50, "concurrency_group": "nightly"}),
            )],
        ),
        (
            Event::RunDispatched {
                run_id,
                session_id,
                dispatch_no: 1,
                pool: Token::parse("p-1").unwrap(),
                claim_by: at(),
                lane: Lane::Background,
                model_id: model_id.clone(),
                queue_wait_ms: 12,
                reserved: Reservation::default(),
            },
            vec![(
                FlightKind::SchedulerDispatch,
                json!({"session_id": SESSION, "job_id": RUN, "lane": "BACKGROUND", "provider": "openai",
                    "queue_wait_ms": 12}),
            )],
        ),
        (returned(ReturnCause::Waited), vec![]),
        (returned(ReturnCause::Paused), vec![]),
        (returned(ReturnCause::Unclaimed), vec![recovery_of_run("dispatch_unclaimed", "requeue")]),
        (returned(ReturnCause::HandedBack), vec![recovery_of_run("worker_left", "requeue")]),
        (
            Event::LateAnswerTaken { run_id, session_id, attempt: 1, epoch: 7 },
            vec![recovery_of_run("late_answer", "settle")],
        ),
        (
            Event::RunClaimed {
                run_id,
                session_id,
                attempt: 1,
                epoch: 7,
                worker_id: worker_id.clone(),
                claim_id: 3,
                model_id,
                upto_seq: 4,
                stop_at: at(),
            },
            vec![(
                FlightKind::RunStarted,
                json!({"session_id": SESSION, "job_id": RUN, "attempt": 1, "epoch": 7, "worker_id": "w-1",
                    "model_id": "openai/gpt-5"}),
            )],
        ),
        (Event::RunStopRequested { run_id, session_id, cause: StopCause::Timeout }, vec![]),
        (Event::ReportTaken { run_id, session_id, epoch: 7, report_no: 0 }, vec![]),
        (
            Event::LeaseExpired { run_id, session_id, attempt: 1, epoch: 7, worker_id, action: "retry".to_owned() },
            vec![recovery_of_run("lease_expired", "retry")],
        ),
        (
            rate_limited(RateCause::Provider, None),
            vec![(
                FlightKind::SchedulerRateLimited,
                json!({"session_id": SESSION, "job_id": RUN, "provider": "openai", "backoff_ms": 50, "attempt": 1,
                    "cause": "provider", "bucket": null, "bucket_level": null}),
            )],
        ),
        (
            rate_limited(RateCause::TokensPerMinute, Some(("tokens_per_minute:model:openai/gpt-5".to_owned(), -20))),
            vec![(
                FlightKind::SchedulerRateLimited,
                json!({"session_id": SESSION, "job_id": RUN, "provider": "openai", "backoff_ms": 50, "attempt": 1,
                    "cause": "tokens_per_minute", "bucket": "tokens_per_minute:model:openai/gpt-5",
                    "bucket_level": -20}),
            )],
        ),
        (
            Event::RunRetryScheduled {
                run_id,
                session_id,
                attempt: 1,
                epoch: 7,
                error: error(),
                usage: Usage::default(),
                cost_usd: None,
                reports: 1,
                backoff_ms: 50,
                not_before: at(),
            },
            vec![(
                FlightKind::RunRetried,
                json!({"session_id": SESSION, "job_id": RUN, "attempt": 1, "backoff_ms": 50,
                    "error_code": "provider_error"}),
            )],
        ),
        (
            stalled("call-1-1"),
            vec![(
                FlightKind::RunStalled,
                json!({"session_id": SESSION, "job_id": RUN, "attempt": 1, "pending_tool_call_ids": ["call-1-1"]}),
            )],
        ),
        (
            Event::RunParked {
                run_id,
                session_id,
                attempt: 1,
                approval_id: "approval-1".to_owned(),
                usage: Usage::default(),
                cost_usd: None,
                reports: 1,
            },
            vec![(
                FlightKind::RunParked,
                json!({"session_id": SESSION, "job_id": RUN, "awaiting": "approval", "approval_id": "approval-1"}),
            )],
        ),
        (
            decided(),
            vec![(
                FlightKind::RunDecided,
                json!({"session_id": SESSION, "job_id": RUN, "decision": "approve",
                    "decided_by": {"id": "ada", "kind": "person"}, "reason": "looks right"}),
            )],
        ),
        (settled(JobState::Completed), vec![(FlightKind::RunCompleted, completed())]),
        (settled(JobState::CompletedWithIssues), vec![(FlightKind::RunCompleted, completed())]),
        (
            settled(JobState::Failed),
            vec![(
                FlightKind::RunFailed,
                json!({"session_id": SESSION, "job_id": RUN, "attempt": 2, "error_code": "provider_error",
                    "class": "server"}),
            )],
        ),
        (
            settled(JobState::Poisoned),
            vec![(FlightKind::RunPoisoned, json!({"session_id": SESSION, "job_id": RUN, "attempts": 2}))],
        ),
        (
            settled(JobState::Cancelled),
            vec![(
                FlightKind::SchedulerCancelled,
                json!({"session_id": SESSION, "job_id": RUN, "reason": "changed my mind",
                    "cancelled_by": {"id": "ada", "kind": "person"}}),
            )],
        ),
    ]
}

/// One of a connection, or one of a message with its run.
fn incident(run_id: Option<RunId>) -> Event {
    let (found, place, action) = match run_id {
        None => ("slow_consumer", "scheduler-a", "none"),
        Some(_) => ("max_deliveries", "LANEWAY_INTAKE/scheduler", "dead_letter"),
    };
    let (stream_seq, count) = run_id.map_or((None, 3), |_| (Some(17), 1));
    let [found, place, action] = [found, place, action].map(str::to_owned);
    Event::IncidentNoted(Incident { found, place, stream_seq, count, action, run_id, session_id: None })
}

fn recovery(found: &str, action: &str, run_id: Option<RunId>) -> Value {
    json!({"found": found, "action": action, "run_id": run_id, "epoch": null, "checkpoint_id": null})
}

fn limit_change(name: &str, from: &Value, to: &Value) -> (FlightKind, Value) {
    let changed_by = json!({"id": "ada", "kind": "person"});
    (FlightKind::LimitsChanged, json!({"name": name, "from": from, "to": to, "changed_by": changed_by}))
}

fn budget_warned(budget_type: BudgetType, current_value: u64, threshold_value: u64) -> Event {
    let (owner, session_id) = (BudgetOwner::Session(session_id()), session_id());
    Event::BudgetWarned { owner, session_id, budget_type, current_value, threshold_value }
}

fn stalled(call: &str) -> Event {
    Event::RunStalled {
        run_id: run_id(),
        session_id: session_id(),
        attempt: 1,
        usage: Usage::default(),
        cost_usd: None,
        reports: 1,
        pending_tool_call_ids: vec![call.to_owned()],
    }
}

fn rate_limited(cause: RateCause, bucket: Option<(String, i64)>) -> Event {
    let (run_id, session_id, provider) = (run_id(), session_id(), "openai".to_owned());
    Event::RunRateLimited { run_id, session_id, provider, attempt: 1, backoff_ms: 50, cause, bucket }
}

fn returned(cause: ReturnCause) -> Event {
    Event::RunReturned { run_id: run_id(), session_id: session_id(), cause, dispatch_no: 1, epoch: 7, reports: 0 }
}

fn recovery_of_run(found: &str, action: &str) -> (FlightKind, Value) {
    let payload = json!({"found": found, "action": action, "run_id": RUN, "epoch": 7, "checkpoint_id": null});
    (FlightKind::WorkflowRecovery, payload)
}

fn decided() -> Event {
    let (run_id, session_id, reason) = (run_id(), session_id(), "looks right".to_owned());
    Event::RunDecided { run_id, session_id, decision: Decision::Approve, decided_by: person(), reason }
}

fn completed() -> Value {
    json!({"session_id": SESSION, "job_id": RUN, "attempt": 2,
        "usage": {"input_tokens": 10, "output_tokens": 20, "cached_tokens": 0, "reasoning_tokens": 0},
        "cost_usd": "0.001500", "finish": "stop", "duration_ms": 800, "issues": []})
}

fn frame(number: u64, body: Body<Event>) -> Frame<Event> {
    let time = at().plus_millis(50);
    Frame {
        format: laneway_journal::frame::FORMAT,
        journal_id: Uuid::nil(),
        epoch: 3,
        number,
        prev: laneway_journal::FrameHash::ZERO,
        time,
        snapshot: 0,
        body,
    }
}

fn started() -> Body<Event> {
    Body::Started { instance: "a".to_owned(), process: Uuid::nil(), attempt: 1 }
}

fn stored(event: &PublicEvent<'_>) -> FlightEvent {
    serde_json::from_slice(&event.encode(EventHash::ZERO).unwrap()).unwrap()
}

#[test]
fn each_event_says_what_the_catalogue_lists() {
    for (event, said) in table() {
        let frame = frame(4, Body::Turns(vec![Turn { at: at(), events: vec![event.clone()] }]));
        let events = public_events(&frame);
        let found: Vec<_> = events.iter().map(|event| (event.kind(), stored(event).payload)).collect();
        assert_eq!(found, said, "{event:?}");
        for public in &events {
            let stored = stored(public);
            assert_eq!(stored.session_id, event.session_id(), "{event:?}");
            assert_eq!(stored.timestamp, at());
            assert_eq!(stored.event_id, public.kind().event_id());
        }
    }
}

#[test]
fn every_kind_is_said_with_exactly_its_keys() {
    let events = table().into_iter().map(|(event, _)| event).collect();
    let turns = frame(4, Body::Turns(vec![Turn { at: at(), events }]));
    let started = frame(5, started());
    let all: Vec<_> = public_events(&turns).iter().chain(&public_events(&started)).map(stored).collect();
    for event in &all {
        let keys: BTreeSet<_> = event.payload.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, event.event_type.payload_keys().iter().copied().collect(), "{}", event.event_type);
    }
    let kinds: BTreeSet<_> = all.iter().map(|event| event.event_type).collect();
    assert_eq!(kinds, FlightKind::ALL.iter().copied().collect());
}

#[test]
fn a_leader_that_begins_is_said_with_the_time_of_its_frame() {
    let frame = frame(9, started());
    let events = public_events(&frame);
    let [event] = events.as_slice() else { unreachable!("one event") };
    let stored = stored(event);
    assert_eq!((stored.event_type, stored.timestamp), (FlightKind::LeaderChanged, frame.time));
    assert_eq!(stored.payload, json!({"service": "scheduler", "epoch": 3}));
    assert!(public_events(&self::frame(10, Body::Stopped)).is_empty());
}

#[test]
fn sources_count_the_public_events_of_a_frame() {
    let turn = |events| Turn { at: at(), events };
    let quiet = Event::StateDigest { digest: 1 };
    let first = turn(vec![quiet.clone(), message(), quiet]);
    let second = turn(vec![state_changed(SessionState::Completed), message()]);
    let frame = frame(4, Body::Turns(vec![first, second]));
    let found: Vec<_> =
        public_events(&frame).iter().map(|event| (event.source().seq, event.source().index, event.kind())).collect();
    let kinds = [
        FlightKind::SessionMessage,
        FlightKind::SessionStateChange,
        FlightKind::SessionCompleted,
        FlightKind::SessionMessage,
    ];
    let expected: Vec<_> = (0..).zip(kinds).map(|(index, kind)| (4, index, kind)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_change_names_its_actor() {
    let set = Event::BudgetSet {
        owner: BudgetOwner::Session(session_id()),
        tokens: Some(1),
        usd: None,
        tokens_before: None,
        usd_before: None,
        changed_by: person(),
    };
    for event in [decided(), set] {
        let frame = frame(4, Body::Turns(vec![Turn { at: at(), events: vec![event] }]));
        let said = public_events(&frame);
        assert!(!said.is_empty() && said.iter().all(|event| stored(event).actor == person()));
    }
}

/// The keys of a payload come in the order of the catalogue.
#[test]
fn the_bytes_of_a_payload_never_change() {
    let check = |event: Event, golden: &str| {
        let frame = frame(4, Body::Turns(vec![Turn { at: at(), events: vec![event] }]));
        let bytes = public_events(&frame)[0].encode(EventHash::ZERO).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let payload = text.split_once(r#""payload":"#).unwrap().1.rsplit_once(r#","prev_hash""#).unwrap().0;
        assert_eq!(payload, golden.replace("SESSION", SESSION).replace("RUN", RUN));
    };
    let (run_id, session_id, approval_id) = (run_id(), session_id(), "approval-1".to_owned());
    check(
        budget_warned(BudgetType::Tokens, 850, 800),
        r#"{"session_id":"SESSION","budget_type":"tokens","current_value":850,"threshold_value":800}"#,
    );
    check(
        rate_limited(RateCause::CoolDown, Some(("b".to_owned(), 3))),
        concat!(
            r#"{"session_id":"SESSION","job_id":"RUN","provider":"openai","backoff_ms":50,"attempt":1,"#,
            r#""cause":"cool_down","bucket":"b","bucket_level":3}"#,
        ),
    );
    check(stalled("c"), r#"{"session_id":"SESSION","job_id":"RUN","attempt":1,"pending_tool_call_ids":["c"]}"#);
    let (usage, cost_usd) = (Usage::default(), None);
    check(
        Event::RunParked { run_id, session_id, attempt: 1, approval_id, usage, cost_usd, reports: 1 },
        r#"{"session_id":"SESSION","job_id":"RUN","awaiting":"approval","approval_id":"approval-1"}"#,
    );
    check(
        decided(),
        concat!(
            r#"{"session_id":"SESSION","job_id":"RUN","decision":"approve","#,
            r#""decided_by":{"id":"ada","kind":"person"},"reason":"looks right"}"#,
        ),
    );
}

#[test]
fn the_bytes_of_an_event_never_change() {
    let frame = frame(4, Body::Turns(vec![Turn { at: at(), events: vec![settled(JobState::Completed)] }]));
    let bytes = public_events(&frame)[0].encode(EventHash::of(b"the event before")).unwrap();
    let golden = concat!(
        r#"{"event_id":"FR-EVT-RUN-002","source":{"seq":4,"index":0},"event_type":"run.completed","#,
        r#""timestamp":"2026-01-01T00:00:00.000Z","session_id":"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e","#,
        r#""run_id":"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f","actor":{"id":"laneway","kind":"runtime"},"#,
        r#""payload":{"session_id":"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e","#,
        r#""job_id":"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f","attempt":2,"usage":{"input_tokens":10,"#,
        r#""output_tokens":20,"cached_tokens":0,"reasoning_tokens":0},"cost_usd":"0.001500","finish":"stop","#,
        r#""duration_ms":800,"issues":[]},"#,
        r#""prev_hash":"a80d47244efb4f2ffdc7267f915425748f64909ac2d89ff61a1281c76747e9d6"}"#,
    );
    assert_eq!(String::from_utf8(bytes).unwrap(), golden);
}
