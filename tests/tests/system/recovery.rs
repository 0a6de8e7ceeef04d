//! What is folded again is the same: a long thread after the store's disk is lost, and the engine's state from the stream.

use std::collections::BTreeMap;

use laneway_contract::{Endpoint, Event, JobState, Timestamp, Token};
use laneway_engine::{Hints, State, WorkerHint};
use laneway_journal::{Body, Frame};
use laneway_tests::stack::Stack;
use laneway_tests::streams::frames;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_200_messages_is_the_same_after_the_view_was_deleted() {
    let mut stack = Stack::start("").await;
    let session = stack.create_session("echo/default").await;
    for n in 0..100 {
        let run = json!({"session_id": session, "input": format!("question {n}"), "wait": true});
        assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["done"], true);
    }
    let answered = stack.must(Endpoint::Status, json!({})).await["journal_seq"].clone();
    let read = json!({"session_id": session, "with_content": true, "limit": 1000, "min_seq": answered});
    let before = stack.must(Endpoint::SessionsMessages, read.clone()).await["messages"].clone();
    assert_eq!(before.as_array().unwrap().len(), 200);
    let shown = stack.must(Endpoint::SessionsGet, json!({"session_id": session})).await["session"].clone();

    stack.kill9_all().await;
    stack.nats.kill9().await;
    std::fs::remove_dir_all(stack.data_path("store-a")).unwrap();
    stack.nats.restart().await;
    stack.start_all().await;

    let after = stack.must(Endpoint::SessionsMessages, read).await["messages"].clone();
    assert_eq!(serde_json::to_vec(&after).unwrap(), serde_json::to_vec(&before).unwrap());
    let again = stack.must(Endpoint::SessionsGet, json!({"session_id": session})).await["session"].clone();
    assert_eq!(serde_json::to_vec(&again).unwrap(), serde_json::to_vec(&shown).unwrap());
}

/// A provider that no worker serves, so that its runs wait.
const CONFIG: &str = r#"
[limits]
global = 64
per_provider = 6

[providers.later]
kind = "echo"
backend = "LOCAL"
[providers.later.defaults]
capabilities = { streaming = true, multi_turn = true }

[worker]
models = ["echo/*"]
"#;

/// Runs that complete, fail, are retried, wait for a rate, are cancelled, or still wait when all is over.
async fn traffic(stack: &Stack) {
    let actor = json!({"id": "me", "kind": "person"});
    let mut ends = Vec::new();
    for n in 0..8 {
        let session = stack.create_session("echo/default").await;
        for (model_id, retries) in
            [("echo/default", 3), ("echo/fail=1", 3), ("echo/fail=9", 0), ("echo/rate_limit=20", 3)]
        {
            let run = json!({
                "session_id": session, "model_id": model_id, "input": format!("{n}"), "max_retries": retries,
                "retry_backoff": "EXPONENTIAL", "priority": n,
            });
            ends.push(stack.must(Endpoint::RunsSubmit, run).await["run"]["run_id"].as_str().unwrap().to_owned());
        }
        // One is cancelled while it waits behind those, one while it executes.
        let waits = json!({"session_id": session, "input": "never", "cancellation_token": format!("t{n}")});
        stack.must(Endpoint::RunsSubmit, waits).await;
        stack.must(Endpoint::RunsCancel, json!({"cancellation_token": format!("t{n}"), "actor": actor})).await;
        let hangs = json!({"model_id": format!("echo/hang,name={n}"), "input": "stay"});
        let hangs = stack.must(Endpoint::RunsSubmit, hangs).await["run"]["run_id"].as_str().unwrap().to_owned();
        stack.must(Endpoint::RunsCancel, json!({"run_id": hangs, "actor": actor})).await;
        ends.push(hangs);
        for lane in ["BACKGROUND", "PRIMARY"] {
            let model_id = format!("later/m{}", n % 5);
            let waits = json!({"model_id": model_id, "input": "later", "lane": lane, "priority": 9 - n});
            stack.must(Endpoint::RunsSubmit, waits).await;
        }
    }
    for run in ends {
        stack.wait_run(&run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fold_of_the_stream_gives_the_same_state_and_the_digests_of_the_leader() {
    let stack = Stack::start(CONFIG).await;
    traffic(&stack).await;
    let session = stack.create_session("echo/default").await;
    // Every 1,000th frame carries a digest, so there have to be that many: one append each, one after the other.
    for n in 0..1_100 {
        let append = json!({"session_id": session, "messages": [{"content": format!("note {n}")}]});
        stack.must(Endpoint::SessionsAppend, append).await;
    }
    let last = stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    let read = frames(&stack.bus, last).await;
    let (mut first, mut other) = (fold(&read), fold(&frames(&stack.bus, last).await));
    assert_eq!(first.digest(), other.digest());
    assert_eq!(
        (first.digest(), other.digest()),
        (first.full_digest(), other.full_digest()),
        "kept up and from nothing"
    );

    // What both decide next is the same, too: the runs that have waited for a worker start in the same order.
    let now = read[read.len() - 1].time;
    let worker = WorkerHint {
        pool: Token::parse("later").unwrap(),
        models: vec!["later/*".to_owned()],
        slots: 32,
        valid_until: now.plus_millis(1),
    };
    let mut hints = Hints::default();
    hints.workers.insert(Token::parse("w").unwrap(), worker);
    let (one, two) = (first.tick(&hints, now), other.tick(&hints, now));
    let dispatched = one.events.iter().filter(|event| matches!(event, Event::RunDispatched { .. })).count();
    assert_eq!(dispatched, 6, "as many as the provider's limit allows: {:?}", one.events);
    assert_eq!(one.events, two.events);
    assert_eq!(first.digest(), other.digest());
}

/// The state that frames fold into, compared with each digest of the leader on the way.
fn fold(frames: &[Frame<Event>]) -> State {
    let (mut state, mut compared, mut settled) = (State::default(), 0, BTreeMap::<JobState, usize>::new());
    let mut last = frames.first().map_or(Timestamp::ZERO, |frame| frame.time);
    for frame in frames {
        let gap_ms = frame.time.millis_since(std::mem::replace(&mut last, frame.time));
        let turns = match &frame.body {
            Body::Started { .. } => {
                state.stood_still(gap_ms);
                continue;
            }
            Body::Stopped | Body::FormatRaised { .. } => continue,
            Body::Turns(turns) => turns,
        };
        for turn in turns {
            for event in &turn.events {
                match event {
                    Event::StateDigest { digest } => {
                        assert_eq!(state.digest(), *digest, "frame {}", frame.number);
                        compared += 1;
                    }
                    Event::RunSettled { run, .. } => *settled.entry(run.status.state).or_default() += 1,
                    _ => {}
                }
                state.apply(event, turn.at);
            }
        }
    }
    assert!(compared > 0, "no digest in {} frames", frames.len());
    let expected = [(JobState::Completed, 24), (JobState::Failed, 8), (JobState::Cancelled, 16)];
    assert_eq!(settled, expected.into(), "the runs that were to end");
    state
}
