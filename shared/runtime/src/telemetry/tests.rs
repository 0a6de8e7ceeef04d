//! What is written and sent, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use laneway_contract::{JobState, ModelId, RunId, SessionId, SessionState, Timestamp, Usage};
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

fn trace(model_id: &ModelId) -> RunTrace<'_> {
    let at = |millis: i64| Timestamp::from_millis(1_790_000_000_000 + millis);
    RunTrace {
        session_id: SessionId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f").unwrap(),
        run_id: RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap(),
        attempt: 1,
        epoch: 7,
        model_id,
        submitted_at: at(0),
        queued_at: at(0),
        claimed_at: at(20),
        ended_at: at(90),
        call: Some(CallTrace {
            started_at: at(25),
            ended_at: at(80),
            first_token_at: Some(at(30)),
            usage: Usage { input_tokens: 11, output_tokens: 22, ..Usage::default() },
            finish: Some(laneway_contract::Finish::Stop),
        }),
        outcome: JobState::Completed,
        error_code: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    }
}

#[test]
fn a_run_is_a_span_over_its_wait_and_its_call() {
    let model = ModelId::parse("openai/gpt-5").unwrap();
    let run_trace = trace(&model);
    let session_trace = SessionTrace {
        session_id: run_trace.session_id,
        created_at: run_trace.submitted_at,
        ended_at: run_trace.ended_at,
        state: SessionState::Completed,
    };
    let spans = collected(|spans| {
        spans.record_run(&run_trace);
        spans.record_session(&session_trace);
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
        assert_eq!(attribute(span, "laneway.session_id"), "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f");
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
    assert_eq!(run.links.links.len(), 1);
    assert_eq!(run.links.links[0].span_context.span_id().to_string(), "b7ad6b7169203331");
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn attempts_share_the_run_which_is_sent_once() {
    let model = ModelId::parse("openai/gpt-5").unwrap();
    let first = RunTrace { outcome: JobState::Queued, error_code: Some("server"), ..trace(&model) };
    let second =
        RunTrace { attempt: 2, epoch: 9, outcome: JobState::Failed, error_code: Some("server"), ..trace(&model) };
    let spans = collected(|spans| {
        spans.record_run(&first);
        spans.record_run(&second);
    });
    assert_eq!(spans.len(), 5);
    let run = named(&spans, "run");
    assert_eq!(run.status, Status::error("server"));
    let below = spans.iter().filter(|span| span.parent_span_id == run.span_context.span_id());
    let mut ids: Vec<_> = below.map(|span| span.span_context.span_id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_wrong_traceparent_is_no_link() {
    let model = ModelId::parse("echo/default").unwrap();
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
        let run = RunTrace { traceparent: Some(text), ..trace(&model) };
        let spans = collected(|spans| spans.record_run(&run));
        assert!(named(&spans, "run").links.links.is_empty(), "{text}");
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
    spans.record_run(&trace(&model));
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
    spans.record_run(&trace(&model));
    drop(Guard { spans: Some(spans) });
    let request = tokio::time::timeout(FLUSH, collector).await.unwrap().unwrap();
    assert!(request.starts_with("POST /v1/traces"), "{request}");
}
