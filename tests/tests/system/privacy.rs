//! A canary goes through every path; then every place that must not hold content is searched for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_opentelemetry_collector::FakeCollectorServer;
use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream;
use laneway_contract::{Endpoint, Stream, Subject};
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::Stack;
use serde_json::{Value, json};

const CANARY: &str = "canary-7f3a9c51";

const PARTS: [&str; 5] = ["scheduler-a", "scheduler-b", "store-a", "worker-a", "recorder-a"];

#[tokio::test(flavor = "multi_thread")]
async fn content_stays_in_artifacts_and_token_streams() {
    let provider = CountingProvider::start(2, Duration::from_millis(1)).await;
    let mut collector = FakeCollectorServer::start().await.unwrap();
    let config = format!("[scheduler]\nsnapshot_every_bytes = 4096\n{}", provider.section("alpha"));
    let mut stack = Stack::bare(&config).await;
    stack.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
    stack.set_env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    stack.set_env("LANEWAY_LOG_LEVEL", "debug");
    let heard = listen(&stack).await;
    stack.start_all().await;

    let session = runs(&stack).await;
    let mut leaks = refusals(&stack, &session).await;
    intake(&stack).await;
    snapshot(&stack).await;
    assert!(provider.seen().bodies.iter().any(|body| body.to_string().contains(CANARY)), "the canary did fly");

    let mut searched = 0;
    for stream in Stream::ALL {
        let name = stack.bus.prefix().stream(*stream);
        let allowed = matches!(stream, Stream::Journal | Stream::Intake | Stream::Tokens);
        let before = searched;
        let found = search(&stack, &name, &mut searched).await;
        assert!(*stream != Stream::Journal || !found.is_empty(), "the search finds nothing at all");
        if !allowed {
            leaks.extend(found);
        }
        // Messages of a work queue are gone once they are taken: those were heard on their way.
        assert!(matches!(stream, Stream::Intake | Stream::Dispatch) || searched > before, "{name} is empty");
    }
    let statistics = stack.described("STATS", 2).await;
    assert!(statistics.iter().any(|s| s.to_string().contains("400:")), "no last error: {statistics:?}");
    leaks.extend(leaking("$SRV.STATS", statistics.iter().map(Value::to_string)));
    let heard = heard.lock().unwrap().clone();
    for (family, messages) in &heard {
        assert!(!messages.is_empty(), "nothing was heard on {family}");
        leaks.extend(leaking(family, messages.iter().cloned()));
    }
    for part in PARTS {
        assert_eq!(stack.terminate(part).await, Some(0), "{part}");
        let log = std::fs::read_to_string(stack.log_path(part)).unwrap();
        assert!(log.contains("DEBUG"), "{part}: not at the level that says most");
        leaks.extend(leaking(part, log.lines().map(str::to_owned)));
    }
    let spans = collector.exported_spans(8, Duration::from_secs(30)).await;
    assert!(spans.iter().any(|span| span.name == "chat m"), "no call of the provider among the spans: {spans:?}");
    leaks.extend(leaking("spans", spans.iter().map(|span| format!("{span:?}"))));
    let logs = collector.exported_logs(0, Duration::ZERO).await;
    leaks.extend(leaking("exported logs", logs.iter().map(|log| format!("{log:?}"))));
    let metrics = collector.exported_metrics(0, Duration::ZERO).await;
    leaks.extend(leaking("exported metrics", metrics.iter().map(|metric| format!("{metric:?}"))));
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// Waits until a snapshot of what has happened is there.
async fn snapshot(stack: &Stack) {
    for _ in 0..200 {
        let status = stack.must(Endpoint::Status, json!({})).await;
        if status["snapshot"]["journal_seq"].is_u64() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no snapshot is taken\n{}", stack.logs());
}

/// Those of the texts that hold the canary, with the place that they come from.
fn leaking(place: &str, texts: impl Iterator<Item = String>) -> Vec<String> {
    texts.filter(|text| text.contains(CANARY)).map(|text| format!("{place}: {text}")).collect()
}

type Heard = Arc<Mutex<Vec<(&'static str, Vec<String>)>>>;

/// Hears all that is said on subjects without content, as it is said: not all of it stays in a stream.
async fn listen(stack: &Stack) -> Heard {
    let families = ["dispatch", "control", "workers", "rejects", "flight"];
    let heard = Heard::new(Mutex::new(families.map(|family| (family, Vec::new())).into()));
    for (index, family) in families.into_iter().enumerate() {
        let mut messages = stack.bus.client().subscribe(format!("laneway.{family}.>")).await.unwrap();
        let heard = heard.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let text = format!("{} {:?} ", message.subject, message.headers);
                let text = text + &String::from_utf8_lossy(&message.payload);
                heard.lock().unwrap()[index].1.push(text);
            }
        });
    }
    stack.bus.flush().await.unwrap();
    heard
}

/// Content in every place of a request that takes some, runs that complete, fail and are cancelled; the session.
async fn runs(stack: &Stack) -> String {
    let session = uuid::Uuid::now_v7().to_string();
    let create = json!({
        "session_id": session, "model_id": "alpha/m", "memory_policy": "SESSION_SCOPED",
        "instructions": format!("{CANARY} instructions"),
        "history": [{"content": format!("{CANARY} history")}],
    });
    stack.must(Endpoint::SessionsCreate, create).await;
    let append = json!({"session_id": session, "messages": [{"content": format!("{CANARY} message")}]});
    stack.must(Endpoint::SessionsAppend, append).await;
    let schema = json!({"type": "object", "properties": {CANARY: {"type": "string"}}});
    let submit = json!({
        "session_id": session, "input": format!("{CANARY} prompt"), "wait": true,
        "generation": {"response_schema": schema, "stop": [format!("{CANARY} stop")]},
    });
    let reply = stack.must(Endpoint::RunsSubmit, submit).await;
    assert!(reply["output"].as_str().unwrap().contains(CANARY), "the answer itself reaches its caller: {reply}");
    let failing =
        json!({"model_id": "alpha/m", "input": format!("please fail {CANARY}"), "max_retries": 0, "wait": true});
    let reply = stack.must(Endpoint::RunsSubmit, failing).await;
    assert_eq!(reply["run"]["state"], "failed");
    assert!(!reply.to_string().contains(CANARY), "the provider's error text: {reply}");

    let run = uuid::Uuid::now_v7().to_string();
    let mut chunks = stack.bus.client().subscribe(format!("laneway.tokens.{run}")).await.unwrap();
    let hang = json!({"run_id": run, "model_id": "echo/hang", "input": format!("{CANARY} cancelled")});
    stack.must(Endpoint::RunsSubmit, hang).await;
    // Once it executes, a cancel has to reach its worker.
    tokio::time::timeout(Duration::from_secs(20), chunks.next()).await.expect("the start of the answer").unwrap();
    let actor = json!({"id": "me", "kind": "person"});
    stack.must(Endpoint::RunsCancel, json!({"run_id": run, "actor": actor})).await;
    assert_eq!(stack.wait_run(&run).await["run"]["state"], "cancelled");
    session
}

/// Bad requests with content in them; the replies that quote it.
async fn refusals(stack: &Stack, session: &str) -> Vec<String> {
    let mut replies = Vec::new();
    for (endpoint, bad) in [
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "input": {"x": CANARY}})),
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "lane": CANARY})),
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "priority": CANARY})),
        // What looks like the end of a text of the parser's own.
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "priority": format!("x, expected {CANARY}")})),
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "lane": format!("x`, expected {CANARY}")})),
        (Endpoint::SessionsAppend, json!({"session_id": session, "messages": [{"role": CANARY, "content": "x"}]})),
        (Endpoint::SessionsAppend, json!({"session_id": CANARY, "messages": [{"content": CANARY}]})),
        (Endpoint::ArtifactsPut, json!({"text": CANARY, "base64": CANARY})),
    ] {
        for reply in both_formats(stack, endpoint, &bad).await {
            assert!(reply.contains("\"error\""), "{endpoint} {bad}: {reply}");
            replies.push(reply);
        }
    }
    // The keys of a schema are the caller's own, so they are no path to name.
    for broken in ["nope", "1 2", "\"\\u12\"", "[[["] {
        let body = format!(
            r#"{{"model_id":"alpha/m","generation":{{"response_schema":{{"properties":{{"{CANARY}":{broken}}}}}}}}}"#
        );
        let reply = send(stack, Endpoint::RunsSubmit, None, body.into_bytes()).await;
        assert!(reply.contains("\"error\""), "a schema with {broken}: {reply}");
        replies.push(reply);
    }
    leaking("reply", replies.into_iter())
}

/// Replies to a body in JSON and in MessagePack, headers included.
async fn both_formats(stack: &Stack, endpoint: Endpoint, body: &Value) -> [String; 2] {
    let packed = rmp_serde::to_vec(body).unwrap();
    [
        send(stack, endpoint, None, serde_json::to_vec(body).unwrap()).await,
        send(stack, endpoint, Some("application/msgpack"), packed).await,
    ]
}

async fn send(stack: &Stack, endpoint: Endpoint, content_type: Option<&str>, body: Vec<u8>) -> String {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert("Content-Type", content_type);
    }
    let request = stack.bus.client().request_with_headers(format!("laneway.{endpoint}"), headers, body.into());
    let reply = request.await.unwrap();
    let body: Value = match content_type {
        None => serde_json::from_slice(&reply.payload).unwrap(),
        Some(_) => rmp_serde::from_slice(&reply.payload).unwrap(),
    };
    format!("{body} {:?}", reply.headers)
}

/// A submit that nobody waits for, refused; its body stays in the journal and nowhere else.
async fn intake(stack: &Stack) {
    let mut rejects = stack.bus.client().subscribe("laneway.rejects.runs").await.unwrap();
    let bad =
        json!({"model_id": "alpha/m", "input": format!("{CANARY} refused"), "lane": format!("x, expected {CANARY}")});
    let bad = serde_json::to_vec(&bad).unwrap();
    stack.bus.publish_stored(&Subject::Intake, HeaderMap::new(), bad.into()).await.unwrap();
    let letter = tokio::time::timeout(Duration::from_secs(20), rejects.next()).await.expect("a dead letter").unwrap();
    assert!(String::from_utf8_lossy(&letter.payload).contains("bad_request"), "{letter:?}");
}

/// Messages of a stream that hold the canary, in body, subject or headers.
async fn search(stack: &Stack, name: &str, searched: &mut usize) -> Vec<String> {
    let stream = stack.bus.jetstream().get_stream(name).await.unwrap();
    let state = stream.cached_info().state.clone();
    let mut texts = Vec::new();
    // A work queue takes no second consumer, so its messages are read one by one.
    if let Ok(consumer) = stream.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await {
        let mut messages = consumer.messages().await.unwrap().take(state.messages as usize);
        while let Some(Ok(message)) = messages.next().await {
            let text = format!("{} {:?} ", message.subject, message.headers);
            texts.push(text + &String::from_utf8_lossy(&message.payload));
        }
    } else {
        for seq in 1..=state.last_sequence {
            if let Ok(message) = stream.get_raw_message(seq).await {
                let text = format!("{} {:?} ", message.subject, message.headers);
                texts.push(text + &String::from_utf8_lossy(&message.payload));
            }
        }
    }
    *searched += texts.len();
    leaking(name, texts.into_iter())
}
