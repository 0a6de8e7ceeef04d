//! The messages of a stream as they are, holes and all.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use laneway_bus::Bus;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use laneway_bus::async_nats::jetstream::context::GetStreamErrorKind;
use laneway_bus::async_nats::jetstream::stream::Config;
use laneway_contract::Stream;

use crate::exit::CliError;
use crate::output::Output;

/// The server has to deliver the next message within this time.
const NEXT: Duration = Duration::from_secs(10);
/// How often to say how far the reading has come.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) sequence: u64,
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// A stream as it is now.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) last: u64,
    pub(super) messages: u64,
    pub(super) config: Config,
}

/// Looks at a stream; none when it is not there.
pub(super) async fn find(bus: &Bus, stream: Stream) -> Result<Option<Found>, CliError> {
    let name = bus.prefix().stream(stream);
    match bus.jetstream().get_stream(&name).await {
        Ok(found) => {
            let info = found.cached_info();
            let (last, messages) = (info.state.last_sequence, info.state.messages);
            Ok(Some(Found { last, messages, config: info.config.clone() }))
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.code() == 404 => Ok(None),
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::InvalidStreamName => Err(unreadable(&name, &error)),
        },
    }
}

/// Hands every message from `first` on to `take`, up to the end that the stream has now; gives its last sequence.
pub(super) async fn each(
    bus: &Bus,
    stream: Stream,
    first: u64,
    out: Output,
    mut take: impl FnMut(Raw) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    let name = bus.prefix().stream(stream);
    let Some(Found { last, messages, .. }) = find(bus, stream).await? else { return Ok(0) };
    if messages == 0 || last < first {
        return Ok(last);
    }
    let error = |error: &dyn std::fmt::Display| unreadable(&name, error);
    let config = OrderedConfig {
        description: Some("laneway journal".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first.max(1) },
        ..OrderedConfig::default()
    };
    let found = bus.jetstream().get_stream(&name).await.map_err(|e| error(&e))?;
    let consumer = found.create_consumer(config).await.map_err(|e| error(&e))?;
    // Behind holes at the end of a stream nothing would ever be delivered.
    if consumer.cached_info().num_pending == 0 {
        return Ok(last);
    }
    let mut delivered = consumer.messages().await.map_err(|e| error(&e))?;
    let (mut sequence, mut said) = (0, Instant::now());
    while sequence < last {
        let silent = |_| unreadable(&name, &format!("nothing was delivered behind {sequence}"));
        let Some(message) = tokio::time::timeout(NEXT, delivered.next()).await.map_err(silent)? else { break };
        let message = message.map_err(|e| error(&e))?;
        let info = message.info().map_err(|e| error(&e))?;
        let pending = info.pending;
        sequence = info.stream_sequence;
        let message = message.message;
        take(Raw {
            sequence,
            subject: message.subject.to_string(),
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
        })?;
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            out.note(format!("{name}: {sequence} of {last} read"))?;
        }
        if pending == 0 {
            break;
        }
    }
    Ok(last.max(sequence))
}

/// One message; none when the stream does not have it.
pub(super) async fn get(bus: &Bus, stream: Stream, sequence: u64) -> Result<Option<Raw>, CliError> {
    use laneway_bus::async_nats::jetstream::stream::RawMessageErrorKind;
    let name = bus.prefix().stream(stream);
    let found = bus.jetstream().get_stream_no_info(&name).await.map_err(|error| unreadable(&name, &error))?;
    match found.get_raw_message(sequence).await {
        Ok(message) => {
            let subject = message.subject.to_string();
            Ok(Some(Raw { sequence, subject, headers: message.headers, payload: message.payload }))
        }
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(unreadable(&name, &error)),
    }
}

pub(super) fn unreadable(stream: &str, error: &dyn std::fmt::Display) -> CliError {
    CliError::Stream { doing: format!("read {stream}"), reason: error.to_string() }
}
