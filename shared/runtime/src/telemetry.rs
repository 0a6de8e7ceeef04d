//! Log lines on stderr, and spans over OTLP where an endpoint is configured.

mod export;
mod logs;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::time::Duration;

use laneway_contract::{RunRecord, Timestamp};

use crate::config::LogFormat;
use spans::Spans;

pub use spans::{AttemptTrace, CallTrace, SessionTrace};

/// The exporter of this process, where there is one. Set once, by [`init`].
static SPANS: OnceLock<Spans> = OnceLock::new();
/// The longest time that the end of a process waits for its last spans to be sent.
const FLUSH: Duration = Duration::from_secs(5);

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log level cannot be read.
    #[error("log_level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Log lines already go elsewhere in this process.
    #[error("telemetry was started twice in this process")]
    Twice,
    /// The `OTEL_*` variables ask for something that this exporter cannot do.
    #[error("OTLP exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sends what is left when it is dropped, waiting at most five seconds. Drop it at the end of `main`.
#[must_use = "spans that are not sent yet are lost without the guard"]
#[derive(Debug)]
pub struct Guard {
    spans: Option<Spans>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(spans) = &self.spans
            && let Err(error) = spans.shutdown(FLUSH)
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Starts log lines on stderr and, where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, the export
/// of spans as `laneway-<service>`. Call once, inside a multi-threaded Tokio runtime.
pub fn init(service: &str, format: LogFormat, level: &str) -> Result<Guard, TelemetryError> {
    let logs = logs::subscriber(format, level, std::io::stderr)?;
    tracing::subscriber::set_global_default(logs).map_err(|_| TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(logs::panicked));
    let spans = if export::is_configured() { Some(export::start(service)?) } else { None };
    if let Some(spans) = spans.clone() {
        SPANS.set(spans).map_err(|_| TelemetryError::Twice)?;
    }
    Ok(Guard { spans })
}

/// Exports the spans of an attempt at its end: `queue wait` and `chat <model>`. Does nothing where no exporter is configured.
pub fn record_attempt(trace: &AttemptTrace<'_>) {
    if let Some(spans) = SPANS.get() {
        spans.record_attempt(trace);
    }
}

/// Exports the span of a run that ended at this time: the parent of its attempts. Does nothing where no exporter is configured.
pub fn record_run(run: &RunRecord, ended_at: Timestamp) {
    if let Some(spans) = SPANS.get() {
        spans.record_run(run, ended_at);
    }
}

/// Exports the span of a session that has ended: the parent of its runs. Does nothing where no exporter is configured.
pub fn record_session(trace: &SessionTrace) {
    if let Some(spans) = SPANS.get() {
        spans.record_session(trace);
    }
}
