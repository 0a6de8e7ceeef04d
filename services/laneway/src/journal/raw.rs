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
    take: impl FnMut(Raw) -> Result<(), CliError>,
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
    let delivered = consumer.messages().await.map_err(|e| error(&e))?;
    let delivered = delivered.map(|message| {
        let message = message.map_err(|e| error(&e))?;
        let info = message.info().map_err(|e| error(&e))?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        let message = message.message;
        let subject = message.subject.to_string();
        let headers = message.headers.unwrap_or_default();
        Ok((Raw { sequence, subject, headers, payload: message.payload }, pending))
    });
    hand_over(&name, last, delivered, out, take).await
}

/// Hands over what is delivered, each with the number of those that are still to come, up to `last` or the last there is.
async fn hand_over(
    name: &str,
    last: u64,
    delivered: impl futures::Stream<Item = Result<(Raw, u64), CliError>>,
    out: Output,
    mut take: impl FnMut(Raw) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    tokio::pin!(delivered);
    let (mut sequence, mut said) = (0, Instant::now());
    while sequence < last {
        let silent = |_| unreadable(name, &format!("nothing was delivered behind {sequence}"));
        let next = tokio::time::timeout(NEXT, delivered.next()).await.map_err(silent)?;
        // IMPORTANT: what was read so far must not pass for all of it: a repair writes nothing else again.
        let ended = || unreadable(name, &format!("the delivery ended behind {sequence} of {last}"));
        let (message, pending) = next.ok_or_else(ended)??;
        sequence = message.sequence;
        take(message)?;
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            out.note(format!("{name}: {sequence} of {last} read"))?;
        }
        // There are holes up to the end.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures::stream;

    use super::{Bytes, CliError, HeaderMap, Output, Raw, hand_over};

    /// How it ends when these are delivered of a stream whose last is 5, and which were handed over.
    async fn read(sequences: &[u64], pending_of_last: u64) -> (Result<u64, CliError>, Vec<u64>) {
        let raw = |sequence| Raw { sequence, subject: String::new(), headers: HeaderMap::new(), payload: Bytes::new() };
        let to_come = |place: usize| (sequences.len() - 1 - place) as u64 + pending_of_last;
        let delivered = sequences.iter().enumerate().map(|(place, sequence)| Ok((raw(*sequence), to_come(place))));
        let mut taken = Vec::new();
        let take = |raw: Raw| {
            taken.push(raw.sequence);
            Ok(())
        };
        let end = hand_over("a stream", 5, stream::iter(delivered), Output::new(true), take).await;
        (end, taken)
    }

    #[tokio::test]
    async fn a_delivery_that_ends_early_is_no_end_of_the_stream() {
        for (sequences, pending) in [(&[][..], 0), (&[1, 2, 3], 2), (&[1, 4], 1)] {
            let (end, taken) = read(sequences, pending).await;
            let error = end.unwrap_err().to_string();
            assert_eq!(taken, sequences);
            assert!(error.contains(&format!("ended behind {} of 5", sequences.last().unwrap_or(&0))), "{error}");
        }
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_last_or_the_holes_at_its_end() {
        for (sequences, pending, all) in [(&[1, 2, 3, 4, 5, 6][..], 0, &[1, 2, 3, 4, 5][..]), (&[2, 3], 0, &[2, 3])] {
            let (end, taken) = read(sequences, pending).await;
            assert_eq!((end.unwrap(), &taken[..]), (5, all));
        }
    }
}
