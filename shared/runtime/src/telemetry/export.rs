//! The OTLP exporter, configured by the standard `OTEL_*` variables.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanExporter as Exporter, SpanProcessor};
use tokio::runtime::Handle;

use super::TelemetryError;
use super::spans::Spans;

/// Whether spans are exported. The SDK's own default endpoint, a collector on this host, is not taken.
#[allow(clippy::disallowed_methods, reason = "configuration is read in this crate")]
pub(super) fn is_configured() -> bool {
    asks_for_export(|name| std::env::var(name).ok())
}

/// Whether the variables name an endpoint, and nothing switches the export off.
pub(super) fn asks_for_export(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // A list; this program has one exporter.
    let is_otlp = set("OTEL_TRACES_EXPORTER").is_none_or(|list| list.split(',').any(|name| name.trim() == "otlp"));
    let has_endpoint = set(OTEL_EXPORTER_OTLP_ENDPOINT).or_else(|| set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)).is_some();
    !is_disabled && is_otlp && has_endpoint
}

/// Starts the exporter; the protocol, headers, timeout and further resource attributes are those of the variables.
pub(super) fn start(service: &str) -> Result<Spans, TelemetryError> {
    Ok(processor(service, OnRuntime::new(SpanExporter::builder().build()?)))
}

/// Spans that are sent in batches by `exporter`.
pub(super) fn processor(service: &str, exporter: impl Exporter + 'static) -> Spans {
    let resource = named(service, Resource::builder().build());
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    processor.set_resource(&resource);
    Spans::new(processor)
}

/// The resource of the `OTEL_*` variables, called `laneway-<service>` unless they name it.
pub(super) fn named(service: &str, found: Resource) -> Resource {
    let name = found.get(&Key::from_static_str("service.name"));
    // What the SDK makes up for a service without a name.
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return found;
    }
    let attributes = found.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let empty = Resource::builder_empty().with_attributes(attributes.collect::<Vec<_>>());
    empty.with_service_name(format!("laneway-{service}")).build()
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
