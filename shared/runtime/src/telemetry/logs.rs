//! Log lines: which are written, and how.

use std::panic::PanicHookInfo;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::config::LogFormat;

/// Writes the log lines at `level` to `writer`.
pub(super) fn subscriber<W>(
    format: LogFormat,
    level: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(level)?.and(FilterFn::new(holds_no_content));
    let lines = match format {
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).with_filter(filter).boxed()
        }
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer).with_filter(filter).boxed()
        }
    };
    Ok(Registry::default().with(lines))
}

/// IMPORTANT: libraries trace what they send and receive below `warn`, which here is content; no level lets that through.
fn holds_no_content(line: &Metadata<'_>) -> bool {
    line.target().starts_with("laneway") || *line.level() <= Level::WARN
}

/// A panic is a log line with its place; its message could hold content and is left out.
pub(super) fn panicked(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(target: "laneway_runtime::panic", place, "panicked");
}
