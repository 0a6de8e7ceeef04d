//! Public events: every one that exists is produced by the real system, with exactly its keys, in order and chained.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use laneway_bus::async_nats::jetstream::consumer::pull::OrderedConfig;
use laneway_contract::{
    Announcement, ClaimReply, DispatchMessage, Endpoint, FlightEvent, FlightKind, Format, Stream, Subject, Token,
};
use laneway_tests::stack::Stack;
use serde_json::{Value, json};

/// All events so far, as bytes.
async fn flight(stack: &Stack) -> Vec<Vec<u8>> {
    let stream = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Flight)).await.unwrap();
    let total = stream.get_info().await.unwrap().state.messages as usize;
    let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(total);
    messages.map(|message| message.unwrap().payload.to_vec()).collect().await
}

/// A worker that takes runs of `echo/name=lost` and never renews.
async fn lose_attempts(stack: &Stack, times: usize) {
    let worker_id = Token::parse("loser").unwrap();
    let pool = Token::parse("losers").unwrap();
    let bus = stack.bus.clone();
    let announcement =
        Announcement { worker_id: worker_id.clone(), pool: pool.clone(), models: vec!["lost/x".to_owned()], slots: 1 };
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
        claims += usize::from(claimed.is_ok());
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
    let losing = lose_attempts(&stack, 3);

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
        session
    };
    let ((), session) = tokio::join!(losing, rest);
    assert_eq!(stack.wait_run(poisoned).await["run"]["state"], "poisoned");

    let mut kinds = BTreeMap::<FlightKind, usize>::new();
    for _ in 0..100 {
        let events = flight(&stack).await;
        kinds = events.iter().map(|bytes| serde_json::from_slice::<FlightEvent>(bytes).unwrap().event_type).fold(
            BTreeMap::new(),
            |mut kinds, kind| {
                *kinds.entry(kind).or_default() += 1;
                kinds
            },
        );
        if FlightKind::ALL.iter().all(|kind| kinds.contains_key(kind)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let missing: Vec<_> = FlightKind::ALL.iter().filter(|kind| !kinds.contains_key(kind)).collect();
    assert!(missing.is_empty(), "never produced: {missing:?}\n{}", stack.logs());
    check(&flight(&stack).await, &session);
}

fn check(events: &[Vec<u8>], session: &str) {
    let mut previous = "0".repeat(64);
    let mut sources = Vec::new();
    let mut of_session = Vec::new();
    for bytes in events {
        let event: FlightEvent = serde_json::from_slice(bytes).unwrap();
        let raw: Value = serde_json::from_slice(bytes).unwrap();
        let keys: BTreeSet<&str> = raw["payload"].as_object().unwrap().keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = event.event_type.payload_keys().iter().copied().collect();
        assert_eq!(keys, expected, "{}", event.event_type);
        assert_eq!(event.event_id, event.event_type.event_id());
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
