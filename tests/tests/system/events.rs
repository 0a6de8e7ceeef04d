//! Public events: every one that exists is produced by the real system, with exactly its keys, in order and chained.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use laneway_contract::{
    Announcement, ClaimReply, DispatchMessage, Endpoint, FlightEvent, FlightKind, Format, Subject, Token,
};
use laneway_tests::stack::Stack;
use laneway_tests::streams::flight;
use serde_json::{Value, json};

/// Keys with the JSON types of their values.
type Keys = &'static [(&'static str, &'static str)];

/// The catalogue of the specification: id, type, and the keys of the payload with their JSON types. Written down here once more,
/// so that a key that is renamed or left out in the program is noticed.
const CATALOGUE: &[(&str, &str, Keys)] = &[
    (
        "FR-EVT-SESS-001",
        "session.created",
        &[
            ("session_id", "string"),
            ("model_id", "string"),
            ("backend", "string"),
            ("role", "string"),
            ("wp_id", "string or null"),
            ("mt_id", "string or null"),
            ("memory_policy", "string"),
            ("spawn_depth", "number"),
        ],
    ),
    (
        "FR-EVT-SESS-002",
        "session.state_change",
        &[("session_id", "string"), ("from_state", "string"), ("to_state", "string"), ("reason", "string")],
    ),
    (
        "FR-EVT-SESS-003",
        "session.completed",
        &[
            ("session_id", "string"),
            ("total_tokens", "number"),
            ("total_cost_usd", "string"),
            ("duration_ms", "number"),
            ("messages_count", "number"),
        ],
    ),
    (
        "FR-EVT-SESS-004",
        "session.message",
        &[
            ("session_id", "string"),
            ("message_id", "string"),
            ("role", "string"),
            ("content_hash", "string"),
            ("token_count", "number or null"),
        ],
    ),
    (
        "FR-EVT-SESS-005",
        "session.budget_warning",
        &[
            ("session_id", "string"),
            ("budget_type", "string"),
            ("current_value", "number or string"),
            ("threshold_value", "number or string"),
        ],
    ),
    (
        "FR-EVT-SESS-SCHED-001",
        "session_scheduler.enqueue",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("job_kind", "string"),
            ("lane", "string"),
            ("priority", "number"),
            ("concurrency_group", "string or null"),
        ],
    ),
    (
        "FR-EVT-SESS-SCHED-002",
        "session_scheduler.dispatch",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("lane", "string"),
            ("provider", "string"),
            ("queue_wait_ms", "number"),
        ],
    ),
    (
        "FR-EVT-SESS-SCHED-003",
        "session_scheduler.rate_limited",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("provider", "string"),
            ("backoff_ms", "number"),
            ("attempt", "number"),
            ("cause", "string"),
            ("bucket", "string or null"),
            ("bucket_level", "number or null"),
        ],
    ),
    (
        "FR-EVT-SESS-SCHED-004",
        "session_scheduler.cancelled",
        &[("session_id", "string"), ("job_id", "string"), ("reason", "string"), ("cancelled_by", "object")],
    ),
    (
        "FR-EVT-RUN-001",
        "run.started",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("attempt", "number"),
            ("epoch", "number"),
            ("worker_id", "string"),
            ("model_id", "string"),
        ],
    ),
    (
        "FR-EVT-RUN-002",
        "run.completed",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("attempt", "number"),
            ("usage", "object"),
            ("cost_usd", "string or null"),
            ("finish", "string"),
            ("duration_ms", "number"),
            ("issues", "array"),
        ],
    ),
    (
        "FR-EVT-RUN-003",
        "run.failed",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("attempt", "number"),
            ("error_code", "string"),
            ("class", "string"),
        ],
    ),
    (
        "FR-EVT-RUN-004",
        "run.retried",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("attempt", "number"),
            ("backoff_ms", "number"),
            ("error_code", "string"),
        ],
    ),
    (
        "FR-EVT-RUN-005",
        "run.stalled",
        &[("session_id", "string"), ("job_id", "string"), ("attempt", "number"), ("pending_tool_call_ids", "array")],
    ),
    (
        "FR-EVT-RUN-007",
        "run.parked",
        &[("session_id", "string"), ("job_id", "string"), ("awaiting", "string"), ("approval_id", "string")],
    ),
    (
        "FR-EVT-RUN-008",
        "run.decided",
        &[
            ("session_id", "string"),
            ("job_id", "string"),
            ("decision", "string"),
            ("decided_by", "object"),
            ("reason", "string"),
        ],
    ),
    ("FR-EVT-RUN-006", "run.poisoned", &[("session_id", "string"), ("job_id", "string"), ("attempts", "number")]),
    (
        "FR-EVT-LIMIT-001",
        "limits.changed",
        &[("name", "string"), ("from", "number or null"), ("to", "number or null"), ("changed_by", "object")],
    ),
    ("FR-EVT-LEAD-001", "leader.changed", &[("service", "string"), ("epoch", "number")]),
    (
        "FR-EVT-WF-RECOVERY",
        "workflow.recovery",
        &[
            ("found", "string"),
            ("action", "string"),
            ("run_id", "string or null"),
            ("epoch", "number or null"),
            ("checkpoint_id", "string or null"),
        ],
    ),
];

/// The keys of every event, whatever its type.
const ENVELOPE: Keys = &[
    ("event_id", "string"),
    ("source", "object"),
    ("event_type", "string"),
    ("timestamp", "string"),
    ("session_id", "string or null"),
    ("run_id", "string or null"),
    ("actor", "object"),
    ("payload", "object"),
    ("prev_hash", "string"),
];

/// An object has exactly these keys, each with a value of its type.
fn check_keys(object: &Value, keys: Keys) {
    let found: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = keys.iter().map(|(key, _)| *key).collect();
    assert_eq!(found, expected, "{object}");
    for (key, types) in keys {
        let found = match &object[key] {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(types.split(" or ").any(|name| name == found), "{key} is {found}, should be {types}: {object}");
    }
}

/// A worker that takes runs of `lost/…`, calls a tool for those of `lost/tool`, and never renews.
async fn lose_attempts(stack: &Stack, times: usize) {
    let worker_id = Token::parse("loser").unwrap();
    let pool = Token::parse("losers").unwrap();
    let bus = stack.bus.clone();
    let announcement =
        Announcement { worker_id: worker_id.clone(), pool: pool.clone(), models: vec!["lost/*".to_owned()], slots: 2 };
    let subject = Subject::Worker(worker_id.clone());
    let announcing = tokio::spawn(async move {
        loop {
            let bytes = Format::MessagePack.encode(&announcement).unwrap();
            bus.publish(&subject, bytes.into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let consumer = laneway_bus::ensure_pool_consumer(&stack.bus, &pool).await.unwrap();
    let mut dispatches = consumer.messages().await.unwrap();
    let mut claims = 0;
    while claims < times {
        let message = dispatches.next().await.unwrap().unwrap();
        let dispatch: DispatchMessage = Format::MessagePack.decode(&message.payload).unwrap();
        let claim = json!({
            "run_id": dispatch.run_id, "dispatch_no": dispatch.dispatch_no, "worker_id": worker_id, "claim_id": 1,
        });
        let claimed: Result<ClaimReply, _> = stack.bus.request(Endpoint::AttemptsClaim, &claim).await;
        message.ack().await.unwrap();
        let Ok(claimed) = claimed else { continue };
        claims += 1;
        if claimed.model_id.model() == "tool" {
            let call = json!({
                "message_id": uuid::Uuid::now_v7(), "role": "TOOL_CALL", "content": "{}", "token_count": null,
                "tool_call_id": "call-1", "finish": null,
            });
            let report = json!({
                "run_id": claimed.run_id, "epoch": claimed.epoch, "report_no": 0, "messages": [call], "outcome": null,
            });
            stack.must(Endpoint::AttemptsReport, report).await;
        }
    }
    announcing.abort();
}

const CONFIG: &str = r#"
[limits]
global = 9

[providers.lost]
kind = "echo"
backend = "LOCAL"
[providers.lost.defaults]
capabilities = { streaming = true, multi_turn = true }

[worker]
models = ["echo/*"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_produced_with_its_keys() {
    let stack = Stack::start(CONFIG).await;
    let poisoned = "0197c2f4-8f6c-7cc1-9c1b-00000000dead";
    let body = json!({"run_id": poisoned, "model_id": "lost/x", "input": "hello", "max_retries": 9});
    stack.must(Endpoint::RunsSubmit, body).await;
    let stalled = stack.must(Endpoint::RunsSubmit, json!({"model_id": "lost/tool", "input": "hello"})).await;
    let losing = lose_attempts(&stack, 4);

    let rest = async {
        let session = stack.create_session("echo/default").await;
        let run = json!({"session_id": session, "input": "one", "wait": true});
        stack.must(Endpoint::RunsSubmit, run).await;
        for model_id in ["echo/rate_limit=20", "echo/fail=1"] {
            let run = json!({"session_id": session, "model_id": model_id, "input": "two", "wait": true});
            assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["run"]["state"], "completed");
        }
        let run =
            json!({"session_id": session, "model_id": "echo/fail=9", "input": "three", "max_retries": 0, "wait": true});
        assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["run"]["state"], "failed");
        let run = json!({"session_id": session, "model_id": "echo/hang", "input": "four"});
        let run = stack.must(Endpoint::RunsSubmit, run).await["run"]["run_id"].clone();
        let actor = json!({"id": "me", "kind": "person"});
        stack.must(Endpoint::RunsCancel, json!({"run_id": run, "actor": actor, "reason": "enough"})).await;
        assert_eq!(stack.wait_run(run.as_str().unwrap()).await["run"]["state"], "cancelled");
        stack.must(Endpoint::SessionsComplete, json!({"session_id": session, "actor": actor})).await;

        let run = json!({"model_id": "echo/approve_at=1", "input": "may I go on", "budget_tokens": 5_000});
        let run = stack.must(Endpoint::RunsSubmit, run).await["run"]["run_id"].clone();
        stack.in_state(&run, "awaiting_user").await;
        let decide = json!({"run_id": run, "decision": "approve", "actor": actor, "reason": "yes"});
        stack.must(Endpoint::RunsDecide, decide).await;
        assert_eq!(stack.wait_run(run.as_str().unwrap()).await["run"]["state"], "completed");
        let run = json!({
            "model_id": "echo/default", "input": "one two three four", "estimated_tokens": 1, "budget_tokens": 8,
            "wait": true,
        });
        assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["run"]["state"], "completed");
        session
    };
    let ((), session) = tokio::join!(losing, rest);
    assert_eq!(stack.wait_run(poisoned).await["run"]["state"], "poisoned");
    stack.in_state(&stalled["run"]["run_id"], "stalled").await;

    let mut missing: BTreeSet<&str> = CATALOGUE.iter().map(|(_, kind, _)| *kind).collect();
    for _ in 0..100 {
        for bytes in flight(&stack.bus).await {
            let event: Value = serde_json::from_slice(&bytes).unwrap();
            missing.remove(event["event_type"].as_str().unwrap());
        }
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(missing.is_empty(), "never produced: {missing:?}\n{}", stack.logs());
    check(&flight(&stack.bus).await, &session);
}

#[test]
fn the_program_knows_the_catalogue_and_nothing_else() {
    let known: BTreeSet<&str> = FlightKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let catalogue: BTreeSet<&str> = CATALOGUE.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(known, catalogue);
}

fn check(events: &[Vec<u8>], session: &str) {
    let mut previous = "0".repeat(64);
    let mut sources = Vec::new();
    let mut of_session = Vec::new();
    for bytes in events {
        let event: FlightEvent = serde_json::from_slice(bytes).unwrap();
        let raw: Value = serde_json::from_slice(bytes).unwrap();
        check_keys(&raw, ENVELOPE);
        let kind = raw["event_type"].as_str().unwrap();
        let (id, _, keys) = CATALOGUE.iter().find(|(_, known, _)| *known == kind).expect(kind);
        assert_eq!(raw["event_id"], *id, "{kind}");
        check_keys(&raw["payload"], keys);
        assert_eq!(event.prev_hash, previous, "the chain is broken at {:?}", event.source);
        previous = blake3::hash(bytes).to_hex().to_string();
        sources.push(event.source);
        if event.session_id.is_some_and(|id| id.to_string() == session) {
            let named = raw["payload"].get("session_id").cloned().unwrap_or(json!(session));
            assert_eq!(named, json!(session), "SESS-1: {}", event.event_type);
            of_session.push(event.event_type);
        }
    }
    assert!(sources.is_sorted_by(|a, b| a < b), "out of order");
    assert_eq!(of_session.first(), Some(&FlightKind::SessionCreated));
    assert_eq!(of_session.last(), Some(&FlightKind::SessionCompleted));
}
