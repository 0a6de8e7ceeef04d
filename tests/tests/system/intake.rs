//! The intake with real processes: rejects at the command line, a leader that is killed, and messages that nobody takes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::consumer::pull;
use laneway_bus::{ensure_streams, intake_consumer_config};
use laneway_contract::{Endpoint, Event, MAX_BODY_BYTES, ServiceName, Stream, Subject};
use laneway_journal::Body;
use laneway_tests::stack::{Stack, binary};
use laneway_tests::streams::{flight, frames};
use serde_json::{Value, json};

/// Submits of which the leader is killed in the middle.
const MESSAGES: usize = 2_000;

async fn publish(stack: &Stack, body: Vec<u8>) -> u64 {
    stack.bus.publish_stored(&Subject::Intake, HeaderMap::new(), body.into()).await.unwrap()
}

async fn publish_json(stack: &Stack, body: &Value) -> u64 {
    publish(stack, serde_json::to_vec(body).unwrap()).await
}

/// What a verb shows on stdout, byte for byte, and its exit code.
fn shown(stack: &Stack, arguments: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = Command::new(binary());
    command.args(arguments).args(stack.flags()).current_dir(stack.dir()).env("USER", "ada");
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// As text, with stderr behind, for a verb below `laneway intake rejects`.
fn rejects(stack: &Stack, arguments: &[&str]) -> (Option<i32>, String) {
    let (code, out, error) = shown(stack, &[&["intake", "rejects"], arguments].concat());
    (code, String::from_utf8_lossy(&out).into_owned() + &error)
}

/// The same with `--json`: one value per line.
fn rejects_json(stack: &Stack, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let (code, out, error) = shown(stack, &[&["intake", "rejects", "--json"], arguments].concat());
    let out = String::from_utf8_lossy(&out);
    (code, out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{out}{error}"))).collect())
}

/// Waits for so many letters; they are in the order in which their messages were decided.
async fn letters(stack: &Stack, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let (code, pages) = rejects_json(stack, &["list"]);
        assert_eq!(code, Some(0), "{pages:?}");
        let letters = pages[0]["rejects"].as_array().unwrap();
        if letters.len() >= count {
            return letters.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there are never {count} letters\n{}", stack.logs());
}

async fn runs_of(stack: &Stack, session: &str) -> usize {
    stack.must(Endpoint::RunsList, json!({"session_id": session})).await["runs"].as_array().unwrap().len()
}

/// Waits until the leader has acknowledged all.
async fn until_empty(stack: &Stack) {
    for _ in 0..1_200 {
        let stream = stack.bus.jetstream().get_stream("LANEWAY_INTAKE").await.unwrap();
        if stream.cached_info().state.messages == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the intake is never empty\n{}", stack.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_listed_a_page_at_a_time_and_shown_with_their_bodies() {
    let stack = Stack::start("").await;
    let large = vec![b'x'; MAX_BODY_BYTES - 100];
    for (body, count) in [
        (br#"{"model_id": "nobody/x", "input": "first words"}"#.to_vec(), 1),
        (b"\xff\xfe no text".to_vec(), 2),
        (large, 3),
    ] {
        publish(&stack, body).await;
        letters(&stack, count).await;
    }
    let (code, text) = rejects(&stack, &["list"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("unknown_model") && text.contains("bad_request") && !text.contains("first words"), "{text}");
    let seqs = |arguments: &[&str]| {
        let (code, pages) = rejects_json(&stack, &[&["list"], arguments].concat());
        assert_eq!(code, Some(0), "{pages:?}");
        let rows: Vec<_> =
            pages[0]["rejects"].as_array().unwrap().iter().map(|row| row["seq"].as_u64().unwrap()).collect();
        (rows, pages[0]["cursor"].as_u64())
    };
    assert_eq!(seqs(&["--limit", "2"]), (vec![1, 2], Some(2)));
    assert_eq!(seqs(&["--limit", "2", "--cursor", "2"]), (vec![3], None));
    assert_eq!(seqs(&["--code", "bad_request"]), (vec![2, 3], None));
    assert_eq!(seqs(&["--since", "2099-01-01T00:00:00Z"]), (vec![], None));
    assert_eq!(seqs(&["--since", "2020-01-01T00:00:00Z"]), (vec![1, 2, 3], None));

    let (code, text) = rejects(&stack, &["show", "1"]);
    assert!(code == Some(0) && text.contains("unknown_model") && text.contains("first words"), "{text}");
    let (_, shown_one) = rejects_json(&stack, &["show", "1"]);
    assert_eq!((&shown_one[0]["body_is"], &shown_one[0]["stream_seq"]), (&json!("text"), &json!(1)));
    let (code, out, error) = shown(&stack, &["intake", "rejects", "show", "2", "--raw", "-"]);
    assert_eq!((code, out), (Some(0), b"\xff\xfe no text".to_vec()), "{error}");
    let (code, text) = rejects(&stack, &["show", "2", "--raw", "body"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(std::fs::read(stack.dir().join("body")).unwrap(), b"\xff\xfe no text");
    let (code, text) = rejects(&stack, &["show", "3"]);
    assert!(code == Some(0) && text.contains("too large to be kept") && text.contains("--with FILE"), "{text}");
    for arguments in [&["show", "3", "--raw", "-"][..], &["show", "99"], &["replay", "99"]] {
        let (code, text) = rejects(&stack, arguments);
        assert!(code == Some(1) && text.contains("not_found"), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_that_is_replayed_twice_is_one_run() {
    let stack = Stack::start("").await;
    let session = uuid::Uuid::now_v7().to_string();
    publish_json(&stack, &json!({"session_id": session, "input": "later words"})).await;
    let letter = letters(&stack, 1).await.remove(0);
    assert_eq!(letter["code"], "not_found", "{letter}");
    let create = json!({"session_id": session, "model_id": "echo/default", "memory_policy": "SESSION_SCOPED"});
    stack.must(Endpoint::SessionsCreate, create).await;
    for keep in [true, true, false] {
        let arguments: &[&str] = if keep { &["replay", "1", "--keep"] } else { &["replay", "1"] };
        let (code, rows) = rejects_json(&stack, arguments);
        assert_eq!((code, rows.len(), &rows[0]["removed"]), (Some(0), 1, &json!(!keep)), "{rows:?}");
        assert_eq!(rows[0]["run_id"], letter["run_id"]);
        until_empty(&stack).await;
    }
    let run = letter["run_id"].as_str().unwrap();
    assert_eq!(stack.wait_run(run).await["output"], "later words");
    assert_eq!(runs_of(&stack, &session).await, 1);
    assert_eq!(stack.thread(&session).await.len(), 2, "one question, one answer");
    assert_eq!(rejects_json(&stack, &["list"]).1[0]["rejects"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_body_is_the_run_of_its_letter_and_what_stays_wrong_is_a_new_letter() {
    let stack = Stack::start("").await;
    publish_json(&stack, &json!({"model_id": "nobody/x", "input": "wrong"})).await;
    let first = letters(&stack, 1).await.remove(0);
    std::fs::write(stack.dir().join("mended.json"), r#"{"model_id": "echo/default", "input": "mended"}"#).unwrap();
    let (code, text) = rejects(&stack, &["replay", "1", "--with", "mended.json"]);
    let run = first["run_id"].as_str().unwrap();
    assert!(code == Some(0) && text.contains(run), "{text}");
    assert_eq!(stack.wait_run(run).await["output"], "mended");

    publish(&stack, b"hello".to_vec()).await;
    letters(&stack, 1).await;
    publish(&stack, vec![b'x'; MAX_BODY_BYTES - 100]).await;
    letters(&stack, 2).await;
    // Of the two, one is published and comes back, the other is not there to be published.
    let (code, rows) = rejects_json(&stack, &["replay", "--all", "--code", "bad_request"]);
    assert_eq!((code, rows.len()), (Some(1), 2), "{rows:?}");
    assert_eq!((&rows[0]["error"], &rows[0]["removed"]), (&Value::Null, &json!(true)));
    assert_eq!((&rows[1]["error"]["code"], &rows[1]["removed"]), (&json!("not_found"), &json!(false)));
    until_empty(&stack).await;
    let left = letters(&stack, 2).await;
    let left: Vec<_> = left.iter().map(|letter| (&letter["seq"], &letter["run_id"], &letter["size"])).collect();
    assert_eq!(left[0], (&json!(3), &rows[1]["run_id"], &json!(MAX_BODY_BYTES - 100)));
    assert_eq!(left[1], (&json!(4), &rows[0]["run_id"], &json!(5)), "the same run, refused again");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_the_intake_is_one_run_also_when_its_leader_is_killed() {
    let mut stack = Stack::bare("").await;
    ensure_streams(&stack.bus).await.unwrap();
    // What the killed leader had in hand comes again soon.
    let config = pull::Config { ack_wait: Duration::from_secs(2), ..intake_consumer_config() };
    stack.bus.jetstream().create_consumer_on_stream(config, "LANEWAY_INTAKE").await.unwrap();
    for (service, name) in [
        (ServiceName::Scheduler, "scheduler-a"),
        (ServiceName::Scheduler, "scheduler-b"),
        (ServiceName::SessionStore, "store-a"),
    ] {
        stack.start_part(service, name, &[]);
    }
    stack.ready().await;
    let mut stored = Vec::new();
    for n in 0..MESSAGES {
        let body = serde_json::to_vec(&json!({"model_id": "echo/default", "input": format!("{n}")})).unwrap();
        stored.push(stack.bus.publish_pending(&Subject::Intake, HeaderMap::new(), body.into()).await.unwrap());
        if n == MESSAGES / 2 {
            let leader = stack.leader().await;
            stack.kill9(&leader).await;
        }
    }
    for ack in stored {
        ack.stored().await.unwrap();
    }
    until_empty(&stack).await;
    let last = stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    let mut runs = Vec::new();
    for frame in frames(&stack.bus, last).await {
        let Body::Turns(turns) = frame.body else { continue };
        for event in turns.into_iter().flat_map(|turn| turn.events) {
            if let Event::RunQueued { run, .. } = event {
                runs.push(run.run_id);
            }
        }
    }
    assert_eq!((runs.len(), runs.iter().collect::<BTreeSet<_>>().len()), (MESSAGES, MESSAGES));
    assert_eq!(rejects_json(&stack, &["list"]).1[0]["rejects"], json!([]));
}

/// The recoveries among the public events, whose text begins like this.
async fn recoveries(stack: &Stack, found: &str) -> Vec<Value> {
    let events = flight(&stack.bus).await;
    let events = events.iter().map(|bytes| serde_json::from_slice::<Value>(bytes).unwrap());
    let is_one = |event: &Value| {
        event["event_type"] == "workflow.recovery"
            && event["payload"]["found"].as_str().is_some_and(|text| text.starts_with(found))
    };
    events.filter(is_one).collect()
}

async fn recovery(stack: &Stack, found: &str) -> Value {
    for _ in 0..400 {
        if let Some(event) = recoveries(stack, found).await.into_iter().next() {
            return event;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no recovery of {found}\n{}", stack.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_takes_nothing_is_a_public_event() {
    let stack = Stack::start("").await;
    publish(&stack, b"hello".to_vec()).await;
    letters(&stack, 1).await;
    let config = pull::Config {
        durable_name: Some("probe".to_owned()),
        max_deliver: 1,
        ack_wait: Duration::from_millis(100),
        ..pull::Config::default()
    };
    let consumer = stack.bus.jetstream().create_consumer_on_stream(config, "LANEWAY_REJECTS").await.unwrap();
    for _ in 0..2 {
        let expires = Duration::from_millis(500);
        consumer.batch().max_messages(1).expires(expires).messages().await.unwrap().count().await;
    }
    let event = recovery(&stack, "max_deliveries").await;
    let payload = json!({"found": "max_deliveries LANEWAY_REJECTS/probe message 1", "action": "none", "run_id": null,
        "epoch": null, "checkpoint_id": null});
    assert_eq!((&event["payload"], &event["event_id"]), (&payload, &json!("FR-EVT-WF-RECOVERY")));
    assert_eq!(event["actor"], json!({"id": "system", "kind": "runtime"}));
    let (code, _, error) = shown(&stack, &["events", "verify"]);
    assert_eq!(code, Some(0), "{error}");
}

/// Somebody has given the consumer of the intake a limit of deliveries, and no replica says what an artifact is.
#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_the_server_gives_up_is_kept_and_can_be_replayed() {
    let mut stack = Stack::bare("").await;
    ensure_streams(&stack.bus).await.unwrap();
    let config = pull::Config { max_deliver: 1, ..intake_consumer_config() };
    stack.bus.jetstream().create_consumer_on_stream(config, "LANEWAY_INTAKE").await.unwrap();
    stack.start_all().await;
    let put = stack.must(Endpoint::ArtifactsPut, json!({"text": "long words"})).await;
    stack.kill9("store-a").await;
    let body = json!({"model_id": "echo/default", "input": [{"content": {"artifact_id": put["artifact_id"]}}]});
    publish_json(&stack, &body).await;
    let event = recovery(&stack, "max_deliveries LANEWAY_INTAKE/scheduler").await;
    assert_eq!(event["payload"]["action"], "dead_letter", "{event}");
    let letter = letters(&stack, 1).await.remove(0);
    assert_eq!((&letter["code"], &letter["run_id"]), (&json!("internal"), &event["run_id"]));
    until_empty(&stack).await;
    stack.start_all().await;
    let (code, text) = rejects(&stack, &["replay", "--all", "--code", "internal"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(stack.wait_run(letter["run_id"].as_str().unwrap()).await["output"], "long words");
    let stream = stack.bus.prefix().stream(Stream::Rejects);
    assert_eq!(stack.bus.jetstream().get_stream(stream).await.unwrap().cached_info().state.messages, 0);
}
