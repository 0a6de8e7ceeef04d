//! Spans with given times and identifiers that every process derives alike, so that the parts of a run meet in one trace
//! although different processes know them: the trace is the session's id, a run's span the second half of the run's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use laneway_contract::{Epoch, Finish, JobState, ModelId, RunId, RunRecord, SessionId, SessionState, Timestamp, Usage};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};

/// An attempt, as its worker knows it when it ends.
#[derive(Clone, Debug)]
pub struct AttemptTrace<'a> {
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
    /// Since when this attempt waited: the start of `queue wait`.
    pub queued_at: Timestamp,
    /// When this attempt was claimed: the end of `queue wait`.
    pub claimed_at: Timestamp,
    /// The provider's call, where it came to one.
    pub call: Option<CallTrace>,
    /// The state of the run after the attempt.
    pub outcome: JobState,
    /// The stable code of the error, where there was one.
    pub error_code: Option<&'a str>,
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

    pub(super) fn record_attempt(&self, attempt: &AttemptTrace<'_>) {
        let run = run_span_id(attempt.run_id);
        let part = |no: u8| part_span_id(attempt, no);

        let mut wait = span(attempt.session_id, part(1), run, "queue wait", attempt.queued_at, attempt.claimed_at);
        wait.attributes = attempt_attributes(attempt);
        self.0.on_end(wait);

        if let Some(call) = &attempt.call {
            let name = format!("chat {}", attempt.model_id.model());
            let mut chat = span(attempt.session_id, part(2), run, name, call.started_at, call.ended_at);
            chat.span_kind = SpanKind::Client;
            chat.attributes = attempt_attributes(attempt);
            chat.attributes.extend(call_attributes(attempt.model_id, call));
            chat.status = status(attempt.outcome, attempt.error_code);
            self.0.on_end(chat);
        }
    }

    pub(super) fn record_run(&self, run: &RunRecord, ended_at: Timestamp) {
        let (own, parent) = (run_span_id(run.run_id), session_span_id(run.session_id));
        let mut whole = span(run.session_id, own, parent, "run", run.status.submitted_at, ended_at);
        whole.attributes = run_attributes(run, ended_at);
        whole.links = caller_link(run.fields.traceparent.as_deref());
        whole.status = status(run.status.state, error_code(run));
        self.0.on_end(whole);
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

/// A run that was cancelled is no error, whatever its last attempt met.
fn error_code(run: &RunRecord) -> Option<&str> {
    let failed = matches!(run.status.state, JobState::Failed | JobState::Poisoned);
    run.status.error.as_ref().filter(|_| failed).map(|error| error.code.as_str())
}

fn status(outcome: JobState, error_code: Option<&str>) -> Status {
    if matches!(outcome, JobState::Failed | JobState::Poisoned) || error_code.is_some() {
        Status::Error { description: Cow::Owned(error_code.unwrap_or(outcome.as_str()).to_owned()) }
    } else {
        Status::Unset
    }
}

fn attempt_attributes(attempt: &AttemptTrace<'_>) -> Vec<KeyValue> {
    let AttemptTrace { session_id, run_id, outcome, error_code, .. } = attempt;
    let mut attributes = common_attributes(*session_id, *run_id, attempt.model_id, *outcome, *error_code);
    attributes.push(KeyValue::new("laneway.attempt", i64::from(attempt.attempt)));
    attributes.push(KeyValue::new("laneway.epoch", attempt.epoch as i64));
    attributes
}

/// The totals of all attempts. One that never left its queue has waited until its end.
fn run_attributes(run: &RunRecord, ended_at: Timestamp) -> Vec<KeyValue> {
    let RunRecord { run_id, session_id, fields, status } = run;
    let mut attributes = common_attributes(*session_id, *run_id, &fields.model_id, status.state, error_code(run));
    let wait = status.queue_wait_ms.unwrap_or_else(|| ended_at.millis_since(status.submitted_at));
    attributes.push(KeyValue::new("laneway.attempts", i64::from(status.attempt)));
    attributes.push(KeyValue::new("laneway.queue_wait_ms", wait as i64));
    attributes.push(KeyValue::new("laneway.lane", fields.lane.as_str()));
    attributes.extend(usage_attributes(&status.usage));
    attributes.extend(status.cost_usd.map(|cost| KeyValue::new("laneway.cost_usd", cost.0 as f64 / 1e6)));
    attributes
}

fn common_attributes(
    session_id: SessionId,
    run_id: RunId,
    model_id: &ModelId,
    outcome: JobState,
    error_code: Option<&str>,
) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("laneway.session_id", session_id.to_string()),
        KeyValue::new("laneway.run_id", run_id.to_string()),
        KeyValue::new("laneway.model_id", model_id.to_string()),
        KeyValue::new("laneway.outcome", outcome.as_str()),
    ];
    attributes.extend(error_code.map(|code| KeyValue::new("error.type", code.to_owned())));
    attributes
}

/// The GenAI semantic conventions.
fn call_attributes(model_id: &ModelId, call: &CallTrace) -> Vec<KeyValue> {
    let provider = model_id.provider().to_owned();
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", provider.clone()),
        // The name before version 1.37 of the conventions, which backends still look for.
        KeyValue::new("gen_ai.system", provider),
        KeyValue::new("gen_ai.request.model", model_id.model().to_owned()),
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
fn part_span_id(attempt: &AttemptTrace<'_>, part: u8) -> SpanId {
    // The step of SplitMix64 spreads the small numbers over the whole width.
    let number = (attempt.epoch << 2 | u64::from(part)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    SpanId::from((attempt.run_id.uuid().as_u128() as u64 ^ number).max(1))
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
