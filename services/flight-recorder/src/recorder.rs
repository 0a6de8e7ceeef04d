//! The service: follows the journal, publishes to FLIGHT.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use laneway_bus::async_nats::jetstream::stream::RawMessageErrorKind;
use laneway_bus::{Bus, BusError, READS_FORMAT, Service, ensure_streams};
use laneway_contract::{Event, ServiceName, Stream, Subject, Timestamp};
use laneway_journal::clock::wall_now;
use laneway_journal::frame::FORMAT;
use laneway_journal::place::Place;
use laneway_journal::{Committed, Fault, Follower, FrameHash, Loss, Position, check_position};
use laneway_runtime::Shutdown;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::event::public_events;
use crate::hash::EventHash;
use crate::trace;

/// One acknowledgement is asked for so many events. Each has its sequence, so the one that is stored says that all before it are.
const EVENTS_PER_ACK: u32 = 64;
/// Acknowledgements that are out at a time.
const MAX_IN_FLIGHT: usize = 8;
/// Frames that are taken from the journal at a time.
const FRAMES_AT_A_TIME: usize = 64;
/// How often the lag is measured.
const MEASURE: Duration = Duration::from_secs(1);
/// A lag of more than this is logged, in milliseconds.
const LAG_TO_LOG_MS: u64 = 2_000;
/// A lag is logged this often.
const LOG_LAG: Duration = Duration::from_secs(10);
/// How long to wait before going on behind the last stored event again, after a failure.
const AGAIN: Duration = Duration::from_millis(250);
/// The last event counts as lost only after this time: a server that has just started may answer from the past.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Why the recorder stopped.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The journal is not the one that the stored events come from, or frames of it are missing.
    #[error("{}", .0.halt())]
    Journal(#[from] Fault),
    /// The last message of FLIGHT is not the recorder's.
    #[error(
        "message {sequence} of {stream} was not published by the flight recorder: remove the stream to have it written again"
    )]
    Foreign {
        /// The stream.
        stream: String,
        /// The sequence of the message.
        sequence: u64,
    },
    /// The last message of FLIGHT was removed, and with it what the next one depends on.
    #[error("message {sequence}, the last of {stream}, was removed: remove the stream to have it written again")]
    Removed {
        /// The stream.
        stream: String,
        /// The sequence of the message.
        sequence: u64,
    },
    /// NATS refused something for a reason that does not pass by itself.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An event cannot be written.
    #[error("cannot write an event: {0}")]
    Encode(#[from] serde_json::Error),
}

impl RecorderError {
    /// What is wrong with the journal, where that is what ended it.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Journal(fault) => Some(fault),
            Self::Foreign { .. } | Self::Removed { .. } | Self::Bus(_) | Self::Encode(_) => None,
        }
    }
}

/// How far the public events are behind the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The last frame whose public events are all stored.
    pub recorded: Position,
    /// Journal time of that frame.
    pub time: Timestamp,
    /// Frames of the journal behind it, at the last measurement.
    pub frames: u64,
    /// The age of the last recorded frame at the last measurement, in milliseconds; zero when no frame was behind it.
    pub behind_ms: u64,
}

/// Runs the flight recorder until a stop is requested.
pub async fn run(bus: Bus, shutdown: Shutdown) -> Result<(), RecorderError> {
    Recorder::new(bus).run(shutdown).await
}

/// The flight recorder. One is enough; a second does no harm, since every event has its sequence.
#[derive(Debug)]
pub struct Recorder {
    bus: Bus,
    flight: String,
    lag: watch::Sender<Lag>,
}

/// Why writing is begun again.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    /// It is not known how the stream ends now.
    #[error("{0}")]
    Again(String),
    /// The last message is not there.
    #[error("message {0} is not there")]
    Missing(u64),
    /// It is not begun again.
    #[error(transparent)]
    Over(#[from] RecorderError),
}

/// The end of FLIGHT.
#[derive(Clone, Copy)]
struct Tip {
    sequence: u64,
    hash: EventHash,
    place: Option<Place>,
}

/// Writes behind the end of FLIGHT.
struct Writer<'a> {
    recorder: &'a Recorder,
    /// Where writing began: events up to here are stored.
    stored: Option<Place>,
    /// The hash of the last frame that was read.
    frame: FrameHash,
    /// The sequence and the hash of the last event that was published.
    sequence: u64,
    hash: EventHash,
    /// The sequence of the last event that is stored, as far as is known.
    acknowledged: u64,
    /// The last event, until it is known whether another follows it at once.
    held: Option<Message>,
    /// Events that were published since the last that asked for an acknowledgement.
    unasked: u32,
    /// The last frame all of whose events were written, and wait for the next acknowledgement.
    written: Option<(Position, Timestamp)>,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Stored, Interrupted>>>,
}

/// An event on its way into the stream.
struct Message {
    subject: Subject,
    headers: HeaderMap,
    bytes: Bytes,
    sequence: u64,
}

/// How far it is stored.
struct Stored {
    /// The last event.
    sequence: u64,
    /// The last frame whose events are all stored, where it is another than before.
    frame: Option<(Position, Timestamp)>,
}

impl Recorder {
    /// A recorder on this connection.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        let flight = bus.prefix().stream(Stream::Flight);
        Self { bus, flight, lag: watch::Sender::new(Lag::default()) }
    }

    /// How far the public events are behind, measured every second and whenever frames are recorded.
    #[must_use]
    pub fn lag(&self) -> watch::Receiver<Lag> {
        self.lag.subscribe()
    }

    /// Runs until a stop is requested. Whatever fails, it goes on behind the last stored event; only a journal or a stream
    /// that is another than before ends it.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RecorderError> {
        let Some(differences) = shutdown.unless_requested(ensure_streams(&self.bus)).await else { return Ok(()) };
        differences?;
        let name = ServiceName::FlightRecorder;
        let details = Arc::new(|| vec![(READS_FORMAT, FORMAT.to_string())]);
        let service = Service::start_described(&self.bus, name, name.as_str(), details, Vec::new()).await?;
        tracing::info!("ready");
        let mut missing_since = None;
        while let Err(interrupted) = self.record(&shutdown).await {
            match interrupted {
                Interrupted::Over(error) => return Err(error),
                Interrupted::Again(ref reason) => {
                    missing_since = None;
                    tracing::warn!(reason, "going on behind the last stored event");
                }
                Interrupted::Missing(sequence) => {
                    if missing_since.get_or_insert_with(Instant::now).elapsed() > LOST_AFTER {
                        return Err(RecorderError::Removed { stream: self.flight.clone(), sequence });
                    }
                }
            }
            // A stream that was removed meanwhile is made again, and written from the start.
            let again = async {
                sleep(AGAIN).await;
                ensure_streams(&self.bus).await
            };
            match shutdown.unless_requested(again).await {
                Some(made) => drop(made?),
                None => break,
            }
        }
        service.stop().await;
        Ok(())
    }

    /// Writes behind the last stored event until a stop is requested, or until it is not known how the stream ends.
    async fn record(&self, shutdown: &Shutdown) -> Result<(), Interrupted> {
        let mut connections = self.bus.connections();
        connections.mark_unchanged();
        let Some(tip) = shutdown.unless_requested(self.tip()).await else { return Ok(()) };
        let tip = tip?;
        let from = tip.place.map_or(Position::START, |place| place.position_before());
        // What was recorded before and is lost is behind again.
        self.lag.send_if_modified(|lag| {
            let is_lost = lag.recorded.number > from.number;
            if is_lost {
                lag.recorded = from;
            }
            is_lost
        });
        tracing::debug!(sequence = tip.sequence, frame = from.number, "writing behind");
        let journal = self.bus.prefix().stream(Stream::Journal);
        if let Some(place) = tip.place {
            // The frame of the last event itself is read behind it only when there is one more event to write.
            let checked = check_position(self.bus.client().clone(), &journal, place.frame);
            let Some(checked) = shutdown.unless_requested(checked).await else { return Ok(()) };
            checked.map_err(RecorderError::from)?;
        }
        let mut follower = Follower::<Event>::new(self.bus.client().clone(), &journal, from);
        let mut writer = Writer::behind(self, tip, from.hash);
        let mut measure = interval(MEASURE);
        let mut logged = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.requested() => {
                    writer.settle().await;
                    return Ok(());
                }
                batch = follower.next_batch(FRAMES_AT_A_TIME) => {
                    for committed in batch.map_err(RecorderError::from)? {
                        writer.write(&committed).await?;
                    }
                    writer.close().await?;
                }
                Some(stored) = writer.in_flight.next() => writer.take(stored)?,
                // IMPORTANT: a server that was killed has lost the last events that it acknowledged, because FLIGHT is
                // persisted behind the acknowledgement.
                Ok(()) = connections.changed() => return Err(Interrupted::Again("connected again".to_owned())),
                _ = measure.tick() => self.measure(&journal, writer.acknowledged, &mut logged).await?,
            }
        }
    }

    /// The last stored event.
    async fn tip(&self) -> Result<Tip, Interrupted> {
        let again =
            |error: &dyn std::error::Error| Interrupted::Again(format!("the end of FLIGHT is not known: {error}"));
        let stream = self.bus.jetstream().get_stream(&self.flight).await.map_err(|error| again(&error))?;
        let sequence = stream.cached_info().state.last_sequence;
        if sequence == 0 {
            return Ok(Tip { sequence, hash: EventHash::ZERO, place: None });
        }
        let message = stream.get_raw_message(sequence).await.map_err(|error| match error.kind() {
            RawMessageErrorKind::NoMessageFound => Interrupted::Missing(sequence),
            RawMessageErrorKind::InvalidSubject | RawMessageErrorKind::JetStream(_) | RawMessageErrorKind::Other => {
                again(&error)
            }
        })?;
        let foreign = || RecorderError::Foreign { stream: self.flight.clone(), sequence };
        let place = Place::from_headers(&message.headers).ok_or_else(foreign)?;
        Ok(Tip { sequence, hash: EventHash::of(&message.payload), place: Some(place) })
    }

    /// Measures the lag, and whether FLIGHT still holds what it has acknowledged: a stream may lose its last messages
    /// while this connection stays, as when another server of a cluster leads it.
    async fn measure(&self, journal: &str, acknowledged: u64, logged: &mut Instant) -> Result<(), Interrupted> {
        // Without an answer nothing is known, which the follower finds out by itself.
        let (Some(end), Some(stored)) = (self.last_of(journal).await, self.last_of(&self.flight).await) else {
            return Ok(());
        };
        if stored < acknowledged {
            return Err(Interrupted::Again(format!("FLIGHT ends at {stored} and has acknowledged {acknowledged}")));
        }
        self.lag.send_modify(|lag| {
            lag.frames = end.saturating_sub(lag.recorded.number);
            lag.behind_ms = if lag.frames == 0 { 0 } else { wall_now().millis_since(lag.time) };
        });
        let Lag { recorded, time: _, frames, behind_ms } = *self.lag.borrow();
        if behind_ms > LAG_TO_LOG_MS && logged.elapsed() > LOG_LAG {
            *logged = Instant::now();
            tracing::info!(recorded = recorded.number, frames, behind_ms, "behind the journal");
        }
        Ok(())
    }

    async fn last_of(&self, stream: &str) -> Option<u64> {
        let stream = timeout(MEASURE, self.bus.jetstream().get_stream(stream)).await.ok()?.ok()?;
        Some(stream.cached_info().state.last_sequence)
    }
}

impl<'a> Writer<'a> {
    fn behind(recorder: &'a Recorder, tip: Tip, frame: FrameHash) -> Self {
        let Tip { sequence, hash, place: stored } = tip;
        Self {
            recorder,
            stored,
            frame,
            sequence,
            hash,
            acknowledged: sequence,
            held: None,
            unasked: 0,
            written: None,
            in_flight: FuturesOrdered::new(),
        }
    }

    /// Publishes what is not stored of a frame, all but its last event.
    async fn write(&mut self, committed: &Committed<Event>) -> Result<(), Interrupted> {
        let Committed { position, gap_ms: _, frame } = committed;
        let before = std::mem::replace(&mut self.frame, position.hash);
        if let Some(stored) = self.stored
            && stored.frame.number == position.number
            && stored.frame.hash != position.hash
        {
            let (first, last, loss) = (position.number, position.number, Loss::Replaced);
            return Err(RecorderError::from(Fault::DataLoss { first, last, loss }).into());
        }
        for event in public_events(frame) {
            if self.stored.is_some_and(|stored| stored.covers(event.source())) {
                continue;
            }
            let bytes = event.encode(self.hash).map_err(RecorderError::from)?;
            let place = Place { frame: *position, before, index: event.source().index };
            self.hash = EventHash::of(&bytes);
            let mut headers = place.headers();
            // IMPORTANT: this makes every event land at its own sequence or nowhere.
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, self.sequence.to_string());
            self.sequence += 1;
            let message =
                Message { subject: event.subject(), headers, bytes: Bytes::from(bytes), sequence: self.sequence };
            if let Some(before) = self.held.replace(message) {
                self.publish(before, false).await?;
            }
        }
        trace::record(frame);
        self.written = Some((*position, frame.time));
        Ok(())
    }

    /// Publishes the last event of the frames so far, which asks for an acknowledgement.
    async fn close(&mut self) -> Result<(), Interrupted> {
        if let Some(last) = self.held.take() {
            return self.publish(last, true).await;
        }
        // Frames without public events are recorded with what was published before them.
        if let Some(frame) = self.written.take() {
            let stored = Stored { sequence: self.sequence, frame: Some(frame) };
            self.in_flight.push_back(ready(Ok(stored)).boxed());
        }
        Ok(())
    }

    async fn publish(&mut self, message: Message, last: bool) -> Result<(), Interrupted> {
        let Message { subject, headers, bytes, sequence: expected } = message;
        let again = |error: BusError| Interrupted::Again(error.to_string());
        let bus = &self.recorder.bus;
        self.unasked += 1;
        if !last && self.unasked < EVENTS_PER_ACK {
            return bus.publish_unasked(&subject, headers, bytes).await.map_err(again);
        }
        self.unasked = 0;
        let frame = self.written.take();
        let pending = bus.publish_pending(&subject, headers, bytes).await.map_err(again)?;
        let stored = async move {
            match pending.stored().await {
                Ok(sequence) if sequence == expected => Ok(Stored { sequence, frame }),
                Ok(sequence) => Err(Interrupted::Again(format!("event {expected} is stored as {sequence}"))),
                Err(error) => Err(Interrupted::Again(format!("event {expected}: {error}"))),
            }
        };
        self.in_flight.push_back(stored.boxed());
        self.leave_at_most(MAX_IN_FLIGHT).await
    }

    async fn leave_at_most(&mut self, count: usize) -> Result<(), Interrupted> {
        while self.in_flight.len() > count
            && let Some(stored) = self.in_flight.next().await
        {
            self.take(stored)?;
        }
        Ok(())
    }

    fn take(&mut self, stored: Result<Stored, Interrupted>) -> Result<(), Interrupted> {
        let Stored { sequence, frame } = stored?;
        self.acknowledged = sequence;
        if let Some((position, time)) = frame {
            self.recorder.lag.send_modify(|lag| (lag.recorded, lag.time) = (position, time));
        }
        Ok(())
    }

    /// Waits for what is in flight. What is not stored now is written at the next start.
    async fn settle(mut self) {
        if let Err(error) = self.leave_at_most(0).await {
            tracing::debug!(%error, "while stopping");
        }
    }
}
