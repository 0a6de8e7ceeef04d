//! What is written and sent, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use laneway_contract::{JobState, ModelId, RunId, RunRecord, SessionId, SessionState, Timestamp, Usage};
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, level: &str, write: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let logs = logs::subscriber(format, level, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(logs, write);
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn no_level_lets_a_library_log_what_it_carries() {
    for level in ["trace", "hyper=trace,async_nats=trace,genai=debug", "debug"] {
        let text = logged(LogFormat::Json, level, || {
            tracing::trace!(target: "hyper::proto", "canary");
            tracing::debug!(target: "genai::webc", "canary");
            tracing::info!(target: "async_nats", "canary");
            tracing::warn!(target: "async_nats", "slow consumer");
            tracing::error!(target: "hyper", "broken");
        });
        assert!(!text.contains("canary"), "{level}: {text}");
    }
    let text = logged(LogFormat::Json, "trace", || tracing::warn!(target: "async_nats", "slow consumer"));
    assert!(text.contains("slow consumer"), "{text}");
}

#[test]
fn json_lines_are_one_object_each() {
    let text = logged(LogFormat::Json, "info", || {
        tracing::info!(target: "laneway_worker", run_id = "r1", "ready");
        tracing::debug!(target: "laneway_worker", "left out");
    });
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((&line["message"], &line["run_id"], &line["level"]), (&"ready".into(), &"r1".into(), &"INFO".into()));
    assert!(logs::subscriber(LogFormat::Text, "laneway=loud", std::io::sink).is_err());
}

#[derive(Clone, Debug, Default)]
struct Collected(Arc<Mutex<Vec<SpanData>>>);

impl opentelemetry_sdk::trace::SpanExporter for Collected {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

fn collected(record: impl FnOnce(&Spans)) -> Vec<SpanData> {
    let collector = Collected::default();
    let spans = export::processor("test", collector.clone());
    record(&spans);
    drop(Guard { spans: Some(spans) });
    let spans = collector.0.lock().unwrap();
    spans.clone()
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name == name).expect("a span of this name")
}

fn attribute(span: &SpanData, key: &str) -> String {
    span.attributes.iter().find(|a| a.key.as_str() == key).map(|a| a.value.to_string()).unwrap_or_default()
}

const SESSION: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f";
const RUN: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e";

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn attempt(model_id: &ModelId) -> AttemptTrace<'_> {
    AttemptTrace {
        session_id: SessionId::parse(SESSION).unwrap(),
        run_id: RunId::parse(RUN).unwrap(),
        attempt: 1,
        epoch: 7,
        model_id,
        queued_at: at(0),
        claimed_at: at(20),
        call: Some(CallTrace {
            started_at: at(25),
            ended_at: at(80),
            first_token_at: Some(at(30)),
            usage: Usage { input_tokens: 11, output_tokens: 22, ..Usage::default() },
            finish: Some(laneway_contract::Finish::Stop),
        }),
        outcome: JobState::Completed,
        error_code: None,
    }
}

/// The same run as the journal keeps it, with two attempts.
fn run(state: JobState, attempts: u32) -> RunRecord {
    let spent = u64::from(attempts);
    serde_json::from_value(serde_json::json!({
        "run_id": RUN,
        "session_id": SESSION,
        "fields": {
            "job_kind": "model_run", "input": [], "model_id": "openai/gpt-5", "backend": "CLOUD", "lane": "PRIMARY",
            "priority": 50, "fairness_key": "a", "on_busy": "ENQUEUE", "max_retries": 3, "retry_backoff": "FIXED",
            "timeout_ms": 1000, "generation": {},
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        },
        "status": {
            "state": state, "reason": "none", "attempt": attempts, "epoch": 7, "submitted_at": at(0),
            "queue_wait_ms": (attempts > 0).then_some(20), "output_message_ids": [], "issues": [], "pending_tool_call_ids": [],
            "usage": {
                "input_tokens": 11 * spent, "output_tokens": 22 * spent, "cached_tokens": 0, "reasoning_tokens": 0,
            },
            "error": {"code": "server", "message": "", "class": "server", "retryable": true},
        },
    }))
    .unwrap()
}

#[test]
fn a_run_is_a_span_over_its_wait_and_its_call() {
    let model = ModelId::parse("openai/gpt-5").unwrap();
    let session = SessionTrace {
        session_id: SessionId::parse(SESSION).unwrap(),
        created_at: at(0),
        ended_at: at(90),
        state: SessionState::Completed,
    };
    let spans = collected(|spans| {
        spans.record_attempt(&attempt(&model));
        spans.record_run(&run(JobState::Completed, 1), at(90));
        spans.record_session(&session);
    });
    assert_eq!(spans.len(), 4);
    let (session, run) = (named(&spans, "session"), named(&spans, "run"));
    let (wait, chat) = (named(&spans, "queue wait"), named(&spans, "chat gpt-5"));
    assert_eq!(session.parent_span_id, SpanId::INVALID);
    assert_eq!(run.parent_span_id, session.span_context.span_id());
    for part in [wait, chat] {
        assert_eq!(part.parent_span_id, run.span_context.span_id());
    }
    for span in &spans {
        assert_eq!(span.span_context.trace_id().to_string(), "0197c2f48f6c7cc19c1b2f8f0a6b1d3f");
        assert_eq!(attribute(span, "laneway.session_id"), SESSION);
    }
    let millis = |span: &SpanData| span.end_time.duration_since(span.start_time).unwrap().as_millis();
    assert_eq!((millis(run), millis(wait), millis(chat)), (90, 20, 55));
    assert_eq!(chat.span_kind, SpanKind::Client);
    assert_eq!(attribute(chat, "gen_ai.operation.name"), "chat");
    assert_eq!(attribute(chat, "gen_ai.provider.name"), "openai");
    assert_eq!(attribute(chat, "gen_ai.request.model"), "gpt-5");
    assert_eq!(attribute(chat, "gen_ai.usage.input_tokens"), "11");
    assert_eq!(attribute(chat, "gen_ai.usage.output_tokens"), "22");
    assert_eq!(attribute(chat, "laneway.attempt"), "1");
    assert_eq!(attribute(run, "laneway.outcome"), "completed");
    assert_eq!(attribute(run, "laneway.queue_wait_ms"), "20");
    assert_eq!(run.links.links.len(), 1);
    assert_eq!(run.links.links[0].span_context.span_id().to_string(), "b7ad6b7169203331");
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn attempts_share_the_run_which_has_their_sum() {
    let model = ModelId::parse("openai/gpt-5").unwrap();
    let first = AttemptTrace { outcome: JobState::Queued, error_code: Some("server"), ..attempt(&model) };
    let second =
        AttemptTrace { attempt: 2, epoch: 9, outcome: JobState::Failed, error_code: Some("server"), ..attempt(&model) };
    let spans = collected(|spans| {
        spans.record_attempt(&first);
        spans.record_attempt(&second);
        spans.record_run(&run(JobState::Failed, 2), at(90));
    });
    assert_eq!(spans.len(), 5);
    let run = named(&spans, "run");
    assert_eq!(run.status, Status::error("server"));
    assert_eq!(
        (attribute(run, "laneway.attempts"), attribute(run, "gen_ai.usage.output_tokens")),
        ("2".into(), "44".into())
    );
    let below = spans.iter().filter(|span| span.parent_span_id == run.span_context.span_id());
    let mut ids: Vec<_> = below.map(|span| span.span_context.span_id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_run_that_never_started_has_waited_until_its_end() {
    let spans = collected(|spans| spans.record_run(&run(JobState::Cancelled, 0), at(70)));
    let run = named(&spans, "run");
    assert_eq!(
        (attribute(run, "laneway.outcome"), attribute(run, "laneway.queue_wait_ms")),
        ("cancelled".into(), "70".into())
    );
    assert_eq!((run.status.clone(), attribute(run, "error.type")), (Status::Unset, String::new()));
}

#[test]
fn a_wrong_traceparent_is_no_link() {
    for text in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-zaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let mut run = run(JobState::Completed, 1);
        run.fields.traceparent = Some(text.to_owned());
        let spans = collected(|spans| spans.record_run(&run, at(90)));
        assert!(named(&spans, "run").links.links.is_empty(), "{text}");
    }
}

#[test]
fn variables_switch_the_export_on_and_off() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let cases: [(&[(&str, &str)], bool); 9] = [
        (&[], false),
        (&[endpoint], true),
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")], true),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
        (&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], false),
        (&[endpoint, ("OTEL_TRACES_EXPORTER", "")], true),
        (&[endpoint, ("OTEL_TRACES_EXPORTER", "console, otlp")], true),
        (&[endpoint, ("OTEL_SDK_DISABLED", "True")], false),
        (&[endpoint, ("OTEL_SDK_DISABLED", "false")], true),
    ];
    for (variables, exports) in cases {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(export::asks_for_export(variable), exports, "{variables:?}");
    }
}

#[test]
fn a_service_is_called_as_the_variables_say() {
    use opentelemetry::{Key, KeyValue};
    use opentelemetry_sdk::Resource;

    for (found, expected) in
        [("unknown_service", "laneway-worker"), ("unknown_service:laneway", "laneway-worker"), ("mine", "mine")]
    {
        let attributes = [KeyValue::new("service.name", found), KeyValue::new("deployment.environment", "test")];
        let resource = export::named("worker", Resource::builder_empty().with_attributes(attributes).build());
        let value = |key: &'static str| resource.get(&Key::from_static_str(key)).unwrap().to_string();
        assert_eq!((value("service.name"), value("deployment.environment")), (expected.into(), "test".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_at_a_collector_over_grpc() {
    use opentelemetry_otlp::WithExportConfig;

    let mut collector = fake_opentelemetry_collector::FakeCollectorServer::start().await.unwrap();
    let endpoint = collector.endpoint().clone();
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().unwrap();
    let spans = export::processor("worker", export::OnRuntime::new(exporter));
    let model = ModelId::parse("echo/default").unwrap();
    spans.record_attempt(&attempt(&model));
    spans.record_run(&run(JobState::Completed, 1), at(90));
    drop(Guard { spans: Some(spans) });
    let arrived = collector.exported_spans(3, FLUSH).await;
    let mut names: Vec<_> = arrived.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["chat default", "queue wait", "run"]);
    let run = arrived.iter().find(|span| span.name == "run").unwrap();
    assert_eq!(run.trace_id, "0197c2f48f6c7cc19c1b2f8f0a6b1d3f");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_at_a_collector_over_http() {
    use opentelemetry_otlp::WithExportConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let collector = crate::spawn("collector", async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("laneway-worker") {
            assert!(connection.read_buf(&mut request).await.unwrap() > 0);
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request).into_owned()
    });
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(endpoint).build().unwrap();
    let spans = export::processor("worker", export::OnRuntime::new(exporter));
    let model = ModelId::parse("echo/default").unwrap();
    spans.record_attempt(&attempt(&model));
    drop(Guard { spans: Some(spans) });
    let request = tokio::time::timeout(FLUSH, collector).await.unwrap().unwrap();
    assert!(request.starts_with("POST /v1/traces"), "{request}");
}
