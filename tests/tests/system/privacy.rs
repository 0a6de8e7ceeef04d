//! A canary goes through every path; then every place that must not hold content is searched for it.

use std::time::Duration;

use futures::StreamExt;
use laneway_bus::async_nats::jetstream;
use laneway_contract::{Endpoint, Stream};
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::Stack;
use serde_json::json;

const CANARY: &str = "canary-7f3a9c51";

#[tokio::test(flavor = "multi_thread")]
async fn content_stays_in_artifacts_and_token_streams() {
    let provider = CountingProvider::start(2, Duration::from_millis(1)).await;
    let mut stack = Stack::start(&provider.section("alpha")).await;
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
    for (endpoint, bad) in [
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "input": {"x": CANARY}})),
        (Endpoint::RunsSubmit, json!({"model_id": "alpha/m", "lane": CANARY})),
        (Endpoint::SessionsAppend, json!({"session_id": session, "messages": [{"role": CANARY, "content": "x"}]})),
        (Endpoint::SessionsAppend, json!({"session_id": CANARY, "messages": [{"content": CANARY}]})),
        (Endpoint::ArtifactsPut, json!({"text": CANARY, "base64": CANARY})),
    ] {
        let error = stack.ask(endpoint, bad).await.unwrap_err();
        assert!(!serde_json::to_string(&error).unwrap().contains(CANARY), "{endpoint}: {error}");
    }
    assert!(provider.seen().bodies.iter().any(|body| body.to_string().contains(CANARY)), "the canary did fly");

    let mut searched = 0;
    for stream in Stream::ALL {
        let name = stack.bus.prefix().stream(*stream);
        let allowed = matches!(stream, Stream::Journal | Stream::Intake | Stream::Tokens);
        let found = search(&stack, &name, &mut searched).await;
        assert!(allowed || found == 0, "{name}: {found} messages hold the canary");
        assert!(*stream != Stream::Journal || found > 0, "the search finds nothing at all");
    }
    assert!(searched > 20, "{searched} messages searched");
    for part in ["scheduler-a", "scheduler-b", "store-a", "worker-a", "recorder-a"] {
        assert_eq!(stack.terminate(part).await, Some(0), "{part}");
        let log = std::fs::read_to_string(stack.log_path(part)).unwrap();
        assert!(!log.is_empty() && !log.contains(CANARY), "{part}: {log}");
    }
}

/// Messages of a stream that hold the canary, in body, subject or headers.
async fn search(stack: &Stack, name: &str, searched: &mut usize) -> usize {
    let stream = stack.bus.jetstream().get_stream(name).await.unwrap();
    let total = stream.get_info().await.unwrap().state.messages;
    if total == 0 {
        return 0;
    }
    let mut found = 0;
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let config = jetstream::consumer::pull::OrderedConfig::default();
    // A work queue takes no second consumer, so its messages are read one by one.
    if let Ok(consumer) = stream.create_consumer(config).await {
        let mut messages = consumer.messages().await.unwrap().take(total as usize);
        while let Some(Ok(message)) = messages.next().await {
            *searched += 1;
            let text = String::from_utf8_lossy(&message.payload).into_owned() + &format!("{:?}", message.headers);
            found += usize::from(text.contains(CANARY));
        }
        return found;
    }
    for seq in 1..=last {
        if let Ok(message) = stream.get_raw_message(seq).await {
            *searched += 1;
            found += usize::from(String::from_utf8_lossy(&message.payload).contains(CANARY));
        }
    }
    found
}
