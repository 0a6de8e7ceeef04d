//! Looks for missing, altered and reordered events, by what the stream itself says: its sequences, the chain of hashes, the
//! order of the sources, and the shape of each event. An altered last event shows only when the next one is there.

use std::time::Duration;

use futures::StreamExt;
use laneway_bus::Bus;
use laneway_bus::async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use laneway_contract::{FlightEvent, FlightSource, Prefix, Stream, Subject};
use serde::Serialize;

use crate::hash::EventHash;

/// The most breaks that a report lists; all are counted.
pub const MAX_BREAKS: usize = 100;

/// The server has to deliver the next event within this time.
const NEXT_EVENT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The first sequence that was to be there.
    pub first: u64,
    /// The last sequence of the stream; zero when it is empty.
    pub last: u64,
    /// Events that were read.
    pub events: u64,
    /// All breaks.
    pub broken: u64,
    /// The first of them, at most [`MAX_BREAKS`].
    pub breaks: Vec<Break>,
}

impl Report {
    /// Whether there is no break.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.broken == 0
    }
}

/// A place where the stream is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The sequence of the message.
    pub sequence: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub breach: Breach,
}

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "breach", rename_all = "snake_case")]
pub enum Breach {
    /// Messages are missing: from this one up to before the sequence of the break, or to the end.
    #[error("missing up to {last}")]
    Missing {
        /// The last of them.
        last: u64,
    },
    /// The bytes are no public event, or one of an unknown type.
    #[error("no public event: {reason}")]
    Unreadable {
        /// What is wrong with the bytes.
        reason: String,
    },
    /// The payload has other keys than its type says, or the id is that of another type.
    #[error("not the shape of {kind}")]
    Shape {
        /// The type that the event claims.
        kind: String,
    },
    /// The message stands under another subject than its event says.
    #[error("stands under another subject")]
    Subject,
    /// The hash that it holds is not that of the event before.
    #[error("the event before is not the one that it names")]
    Chain,
    /// Its source does not continue that of the event before.
    #[error("its source {}/{} does not continue {}/{}", found.seq, found.index, before.seq, before.index)]
    Order {
        /// The source of the event before.
        before: FlightSource,
        /// Its own.
        found: FlightSource,
    },
}

/// Why the stream could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The server refused or broke off.
    #[error("cannot read {stream}: {reason}")]
    Read {
        /// The stream.
        stream: String,
        /// What happened.
        reason: String,
    },
    /// The server delivered nothing for too long.
    #[error("{stream}: nothing was delivered behind {sequence} for {} s", NEXT_EVENT.as_secs())]
    Silent {
        /// The stream.
        stream: String,
        /// The last message that came.
        sequence: u64,
    },
}

/// Checks events one after the other.
#[derive(Debug)]
pub struct Verifier {
    prefix: Prefix,
    next: u64,
    /// None behind a gap and at a start in the middle.
    hash: Option<EventHash>,
    source: Option<FlightSource>,
    /// Whether the event before was there, so that the source must continue without a gap.
    dense: bool,
    report: Report,
}

impl Verifier {
    /// Begins at a sequence; at 1 for the whole stream. What stands before it is not looked at.
    #[must_use]
    pub fn new(prefix: Prefix, first: u64) -> Self {
        let report = Report { first, last: 0, events: 0, broken: 0, breaks: Vec::new() };
        let hash = (first == 1).then_some(EventHash::ZERO);
        Self { prefix, next: first, hash, source: None, dense: true, report }
    }

    /// Takes the next message of the stream.
    pub fn take(&mut self, sequence: u64, subject: &str, bytes: &[u8]) {
        if sequence != self.next {
            self.missing_before(sequence);
        }
        self.next = sequence + 1;
        self.report.events += 1;
        self.report.last = sequence;
        let expected = self.hash.replace(EventHash::of(bytes));
        match serde_json::from_slice::<FlightEvent>(bytes) {
            Ok(event) => self.check(sequence, subject, &event, expected),
            Err(error) => {
                // Its source is not known, so the next one's cannot be compared closely.
                self.dense = false;
                self.found(sequence, Breach::Unreadable { reason: error.to_string() });
            }
        }
    }

    /// Ends at the last sequence that the stream has ever given.
    #[must_use]
    pub fn finish(mut self, last: u64) -> Report {
        if self.next <= last {
            self.missing_before(last + 1);
        }
        self.report.last = self.report.last.max(last);
        self.report
    }

    fn missing_before(&mut self, sequence: u64) {
        self.found(self.next, Breach::Missing { last: sequence.saturating_sub(1) });
        self.hash = None;
        self.dense = false;
    }

    fn check(&mut self, sequence: u64, subject: &str, event: &FlightEvent, expected: Option<EventHash>) {
        let kind = event.event_type;
        let keys = |name: &&str| event.payload.get(name).is_some();
        let count = event.payload.as_object().map(serde_json::Map::len);
        let complete = kind.payload_keys().iter().all(keys) && count == Some(kind.payload_keys().len());
        if !complete || event.event_id != kind.event_id() {
            self.found(sequence, Breach::Shape { kind: kind.as_str().to_owned() });
        }
        if subject != self.prefix.subject(&Subject::Flight { session: event.session_id, kind }) {
            self.found(sequence, Breach::Subject);
        }
        if expected.is_some_and(|hash| hash.to_string() != event.prev_hash) {
            self.found(sequence, Breach::Chain);
        }
        let found = event.source;
        if let Some(before) = self.source.replace(found)
            && !continues(before, found, self.dense)
        {
            self.found(sequence, Breach::Order { before, found });
        }
        self.dense = true;
    }

    fn found(&mut self, sequence: u64, breach: Breach) {
        self.report.broken += 1;
        if self.report.breaks.len() < MAX_BREAKS {
            self.report.breaks.push(Break { sequence, breach });
        }
    }
}

/// Frames may have no public events, but those of one frame are counted without gaps.
fn continues(before: FlightSource, found: FlightSource, dense: bool) -> bool {
    if dense {
        let next_in_frame = found.seq == before.seq && found.index == before.index + 1;
        next_in_frame || (found.seq > before.seq && found.index == 0)
    } else {
        found > before
    }
}

/// Reads FLIGHT from a sequence on (from its start when none is given) up to the end that it has now, and checks it.
pub async fn verify(bus: &Bus, from: Option<u64>) -> Result<Report, VerifyError> {
    let name = bus.prefix().stream(Stream::Flight);
    let unreadable =
        |error: &dyn std::error::Error| VerifyError::Read { stream: name.clone(), reason: error.to_string() };
    let stream = bus.jetstream().get_stream(&name).await.map_err(|error| unreadable(&error))?;
    let last = stream.cached_info().state.last_sequence;
    let first = from.unwrap_or(1).max(1);
    let mut verifier = Verifier::new(bus.prefix().clone(), first);
    if last < first || stream.cached_info().state.messages == 0 {
        return Ok(verifier.finish(last));
    }
    let config = OrderedConfig {
        description: Some("laneway events verify".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| unreadable(&error))?;
    let mut messages = consumer.messages().await.map_err(|error| unreadable(&error))?;
    let mut sequence = first - 1;
    while sequence < last {
        let silent = |_| VerifyError::Silent { stream: name.clone(), sequence };
        let Some(message) = tokio::time::timeout(NEXT_EVENT, messages.next()).await.map_err(silent)? else { break };
        let message = message.map_err(|error| unreadable(&error))?;
        let info = message.info().map_err(|error| unreadable(error.as_ref()))?;
        sequence = info.stream_sequence;
        verifier.take(sequence, message.subject.as_str(), &message.payload);
        if info.pending == 0 {
            break;
        }
    }
    Ok(verifier.finish(last))
}

#[cfg(test)]
mod tests;
