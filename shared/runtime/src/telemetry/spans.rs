//! Spans with given times and identifiers that every process derives alike, so that the parts of a run meet in one trace
//! although different processes know them: the trace is the session's id, a run's span the second half of the run's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use laneway_contract::{Epoch, Finish, JobState, ModelId, RunId, SessionId, SessionState, Timestamp, Usage};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};

/// An attempt, as its worker knows it when it ends.
#[derive(Clone, Debug)]
pub struct RunTrace<'a> {
    /// The session: its id is the trace id.
    pub session_id: SessionId,
    /// The run.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The epoch of its lease.
    pub epoch: Epoch,
    /// The model.
    pub model_id: &'a ModelId,
    /// When the run was accepted: the start of `run`.
    pub submitted_at: Timestamp,
    /// Since when this attempt waited: the start of `queue wait`. The same as `submitted_at` for the first.
    pub queued_at: Timestamp,
    /// When this attempt was claimed: the end of `queue wait`.
    pub claimed_at: Timestamp,
    /// When the attempt ended.
    pub ended_at: Timestamp,
    /// The provider's call, where it came to one.
    pub call: Option<CallTrace>,
    /// The state of the run after the attempt.
    pub outcome: JobState,
    /// The stable code of the error, where there was one.
    pub error_code: Option<&'a str>,
    /// The caller's `traceparent`, which is linked.
    pub traceparent: Option<&'a str>,
}

/// One call of a provider.
#[derive(Clone, Debug)]
pub struct CallTrace {
    /// When the request was sent.
    pub started_at: Timestamp,
    /// When the answer ended or was given up.
    pub ended_at: Timestamp,
    /// When the first token came.
    pub first_token_at: Option<Timestamp>,
    /// Tokens.
    pub usage: Usage,
    /// How the answer ended.
    pub finish: Option<Finish>,
}

/// A session that has ended.
#[derive(Clone, Debug)]
pub struct SessionTrace {
    /// The session.
    pub session_id: SessionId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub state: SessionState,
}

/// Where spans go.
#[derive(Clone, Debug)]
pub(super) struct Spans(Arc<BatchSpanProcessor>);

impl Spans {
    pub(super) fn new(processor: BatchSpanProcessor) -> Self {
        Self(Arc::new(processor))
    }

    /// Sends what is left.
    pub(super) fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    pub(super) fn record_run(&self, run: &RunTrace<'_>) {
        let run_span = run_span_id(run.run_id);
        let part = |no: u8| part_span_id(run, no);
        let failed = matches!(run.outcome, JobState::Failed | JobState::Poisoned) || run.error_code.is_some();
        let status = if failed {
            Status::Error { description: Cow::Owned(run.error_code.unwrap_or(run.outcome.as_str()).to_owned()) }
        } else {
            Status::Unset
        };

        let mut wait = span(run.session_id, part(1), run_span, "queue wait", run.queued_at, run.claimed_at);
        wait.attributes = run_attributes(run);
        self.0.on_end(wait);

        if let Some(call) = &run.call {
            let name = format!("chat {}", run.model_id.model());
            let mut chat = span(run.session_id, part(2), run_span, name, call.started_at, call.ended_at);
            chat.span_kind = SpanKind::Client;
            chat.attributes = run_attributes(run);
            chat.attributes.extend(call_attributes(run, call));
            chat.status = status.clone();
            self.0.on_end(chat);
        }

        // Attempts before the last have the same parent, which is sent once.
        if run.outcome.is_terminal() {
            let parent = session_span_id(run.session_id);
            let mut whole = span(run.session_id, run_span, parent, "run", run.submitted_at, run.ended_at);
            whole.attributes = run_attributes(run);
            if let Some(call) = &run.call {
                whole.attributes.extend(usage_attributes(&call.usage));
            }
            whole.links = caller_link(run.traceparent);
            whole.status = status;
            self.0.on_end(whole);
        }
    }

    pub(super) fn record_session(&self, session: &SessionTrace) {
        let own = session_span_id(session.session_id);
        let mut whole = span(session.session_id, own, SpanId::INVALID, "session", session.created_at, session.ended_at);
        whole.attributes = vec![
            KeyValue::new("laneway.session_id", session.session_id.to_string()),
            KeyValue::new("laneway.state", session.state.as_str()),
        ];
        self.0.on_end(whole);
    }
}

fn run_attributes(run: &RunTrace<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("laneway.session_id", run.session_id.to_string()),
        KeyValue::new("laneway.run_id", run.run_id.to_string()),
        KeyValue::new("laneway.attempt", i64::from(run.attempt)),
        KeyValue::new("laneway.epoch", run.epoch as i64),
        KeyValue::new("laneway.model_id", run.model_id.to_string()),
        KeyValue::new("laneway.outcome", run.outcome.as_str()),
    ];
    attributes.extend(run.error_code.map(|code| KeyValue::new("error.type", code.to_owned())));
    attributes
}

/// The GenAI semantic conventions.
fn call_attributes(run: &RunTrace<'_>, call: &CallTrace) -> Vec<KeyValue> {
    let provider = run.model_id.provider().to_owned();
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", provider.clone()),
        // The name before version 1.37 of the conventions, which backends still look for.
        KeyValue::new("gen_ai.system", provider),
        KeyValue::new("gen_ai.request.model", run.model_id.model().to_owned()),
    ];
    attributes.extend(usage_attributes(&call.usage));
    if let Some(finish) = call.finish {
        let reasons = opentelemetry::Array::String(vec![finish.as_str().into()]);
        attributes.push(KeyValue::new("gen_ai.response.finish_reasons", opentelemetry::Value::Array(reasons)));
    }
    if let Some(first) = call.first_token_at {
        let wait = first.millis_since(call.started_at) as i64;
        attributes.push(KeyValue::new("laneway.time_to_first_token_ms", wait));
    }
    attributes
}

fn usage_attributes(usage: &Usage) -> [KeyValue; 2] {
    [
        KeyValue::new("gen_ai.usage.input_tokens", usage.input_tokens as i64),
        KeyValue::new("gen_ai.usage.output_tokens", usage.output_tokens as i64),
    ]
}

/// An internal span without attributes.
fn span(
    session: SessionId,
    id: SpanId,
    parent: SpanId,
    name: impl Into<Cow<'static, str>>,
    start: Timestamp,
    end: Timestamp,
) -> SpanData {
    SpanData {
        span_context: SpanContext::new(trace_id(session), id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: parent,
        // Runs are not made by the process that sends their session, nor attempts by the one that sends their run.
        parent_span_is_remote: parent != SpanId::INVALID,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: system_time(start),
        end_time: system_time(end.max(start)),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("laneway").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time.millis().max(0) as u64)
}

/// The trace of a session: its id.
fn trace_id(session: SessionId) -> TraceId {
    TraceId::from(session.uuid().as_u128().max(1))
}

/// The span of a session. Not the plain half of its id: a caller may give a run the same id.
fn session_span_id(session: SessionId) -> SpanId {
    const SESSION: u64 = 0x5e55_1011_5e55_1011;
    SpanId::from((session.uuid().as_u128() as u64 ^ SESSION).max(1))
}

/// The span of a run.
fn run_span_id(run: RunId) -> SpanId {
    SpanId::from((run.uuid().as_u128() as u64).max(1))
}

/// The spans below a run: another for each epoch and part.
fn part_span_id(run: &RunTrace<'_>, part: u8) -> SpanId {
    // The step of SplitMix64 spreads the small numbers over the whole width.
    let number = (run.epoch << 2 | u64::from(part)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    SpanId::from((run.run_id.uuid().as_u128() as u64 ^ number).max(1))
}

/// The caller's span as a link; none when the text is not a `traceparent` of W3C Trace Context.
fn caller_link(traceparent: Option<&str>) -> SpanLinks {
    let mut links = SpanLinks::default();
    links.links.extend(traceparent.and_then(parse_traceparent).map(Link::with_context));
    links
}

fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let mut fields = text.trim().split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |field: &str, digits| field.len() == digits && field.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex(version, 2) || version == "ff" || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context =
        SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}
