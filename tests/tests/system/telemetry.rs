//! Spans of a run, sent over OTLP to a collector of somebody else.

use std::time::Duration;

use fake_opentelemetry_collector::FakeCollectorServer;
use laneway_bus::RequestOptions;
use laneway_contract::{ApiError, Endpoint};
use laneway_tests::stack::Stack;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_seen_with_its_wait_its_call_and_its_session() {
    let mut collector = FakeCollectorServer::start().await.unwrap();
    let mut stack = Stack::bare("").await;
    stack.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
    stack.set_env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    stack.start_all().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = json!({"model_id": "echo/default", "input": "hello you", "wait": true});
    let options = RequestOptions { traceparent: Some(traceparent.to_owned()), ..RequestOptions::default() };
    let reply: Result<Value, ApiError> = stack.bus.request_with(Endpoint::RunsSubmit, &body, &options).await;
    let run = reply.unwrap()["run"].clone();
    let spans = collector.exported_spans(4, Duration::from_secs(30)).await;

    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let find = |name: &str| spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}"));
    let (session, whole) = (find("session"), find("run"));
    let (wait, call) = (find("queue wait"), find("chat default"));
    let trace_id = run["session_id"].as_str().unwrap().replace('-', "");
    for span in [session, whole, wait, call] {
        assert_eq!(span.trace_id, trace_id, "{}", span.name);
    }
    assert_eq!((&whole.parent_span_id, &wait.parent_span_id), (&session.span_id, &whole.span_id));
    assert_eq!(call.parent_span_id, whole.span_id);
    assert!(format!("{:?}", whole.links).contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{:?}", whole.links);
    let attributes = format!("{:?}", whole.attributes);
    for value in [run["run_id"].as_str().unwrap(), run["session_id"].as_str().unwrap(), "completed"] {
        assert!(attributes.contains(value), "{value}: {attributes}");
    }
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "default"),
        ("laneway.outcome", "completed"),
        ("gen_ai.usage.input_tokens", &run["usage"]["input_tokens"].to_string()),
        ("gen_ai.usage.output_tokens", &run["usage"]["output_tokens"].to_string()),
    ] {
        assert!(call.attributes[key].contains(value), "{key} is not {value}: {:?}", call.attributes);
    }
    assert!(run["usage"]["input_tokens"].as_u64() > Some(0) && run["usage"]["output_tokens"].as_u64() > Some(0));
    // The wait begins with the run, which lies in its session.
    assert_eq!(wait.start_time_unix_nano, whole.start_time_unix_nano);
    assert!(wait.start_time_unix_nano <= wait.end_time_unix_nano);
    assert!(session.start_time_unix_nano <= whole.start_time_unix_nano);
    assert!(whole.end_time_unix_nano <= session.end_time_unix_nano);

    // One that no worker ever saw.
    let session_id = stack.create_session("echo/default").await;
    let actor = json!({"id": "ada", "kind": "person"});
    stack.must(Endpoint::SessionsPause, json!({"session_id": session_id, "actor": actor})).await;
    let queued = stack.must(Endpoint::RunsSubmit, json!({"session_id": session_id, "input": "hello"})).await;
    stack.must(Endpoint::RunsCancel, json!({"run_id": queued["run"]["run_id"], "actor": actor})).await;
    let [cancelled] = &collector.exported_spans(1, Duration::from_secs(30)).await[..] else { panic!("one span") };
    assert_eq!((cancelled.name.as_str(), &cancelled.trace_id), ("run", &session_id.replace('-', "")));
    let attributes = format!("{:?}", cancelled.attributes);
    for value in [queued["run"]["run_id"].as_str().unwrap(), "cancelled", "laneway.queue_wait_ms"] {
        assert!(attributes.contains(value), "{value}: {attributes}");
    }
}
