//! The OTLP exporter, configured by the standard `OTEL_*` variables.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanExporter as Exporter, SpanProcessor};
use tokio::runtime::Handle;

use super::TelemetryError;
use super::spans::Spans;

/// Whether an endpoint is configured. The SDK's own default, a collector on this host, is not taken.
#[allow(clippy::disallowed_methods, reason = "configuration is read in this crate")]
pub(super) fn is_configured() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !is_disabled && (is_set(OTEL_EXPORTER_OTLP_ENDPOINT) || is_set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT))
}

/// Starts the exporter; the protocol, headers, timeout and further resource attributes are those of the variables.
pub(super) fn start(service: &str) -> Result<Spans, TelemetryError> {
    Ok(processor(service, OnRuntime::new(SpanExporter::builder().build()?)))
}

/// Spans that are sent in batches by `exporter`.
pub(super) fn processor(service: &str, exporter: impl Exporter + 'static) -> Spans {
    let resource = Resource::builder().with_service_name(format!("laneway-{service}")).build();
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    processor.set_resource(&resource);
    Spans::new(processor)
}

/// The batch processor calls its exporter on a thread of its own, and the HTTP client needs the runtime's timers and sockets.
#[derive(Debug)]
pub(super) struct OnRuntime {
    inner: Arc<SpanExporter>,
    runtime: Handle,
}

impl OnRuntime {
    pub(super) fn new(exporter: SpanExporter) -> Self {
        Self { inner: Arc::new(exporter), runtime: Handle::current() }
    }
}

impl Exporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let inner = Arc::clone(&self.inner);
        let sent = self.runtime.spawn(async move { inner.export(batch).await });
        sent.await.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}
