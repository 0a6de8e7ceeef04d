//! Submits that waited in a stream. A message is acknowledged when its frame is in the journal: accepted, or as a dead
//! letter whose body is an artifact. Whatever cannot be decided now comes again.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use laneway_bus::async_nats::jetstream::{self, AckKind};
use laneway_bus::{Bus, CONTENT_TYPE, Gate, PullConsumer, Refusal, TRACEPARENT, ensure_intake_consumer, header};
use laneway_contract::{ApiError, ErrorCode, Format, SubmitRun};
use laneway_journal::clock::wall_now;
use laneway_runtime::{Shutdown, random};
use tokio::time::{Instant, sleep, timeout_at};

use crate::desk::Desk;
use crate::endpoints::intake_submit;
use crate::leader::HAND_OVER;

use letter::Message;
use memory::{InHand, Memory};

mod letter;
mod memory;
mod stuck;

/// Messages that are asked for at a time, and that are under way at most.
const BATCH: usize = 256;
/// The server answers a request for messages after this time at the latest.
const EXPIRES: Duration = Duration::from_secs(5);
/// What the client waits longer, for an answer that is on its way.
const GRACE: Duration = Duration::from_millis(500);
/// Between two requests that the server refuses, and before a message comes again that could not be decided.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause is the first, doubled so often.
const MAX_DOUBLINGS: u64 = 6;
/// How long a message may be on its way from a server that counts it as delivered.
const ON_ITS_WAY: Duration = Duration::from_millis(10);
/// How long what is under way may take after the close.
const PATIENCE: Duration = Duration::from_millis(50);
/// The name of the leader's consumer.
const CONSUMER: &str = "scheduler";
/// A message that meets a fault of ours so often is a dead letter.
const MAX_FAULTS: u32 = 5;

// The rest has gone back before the journal is left.
const _: () = assert!(ON_ITS_WAY.as_millis() + PATIENCE.as_millis() < HAND_OVER.as_millis());

/// What becomes of a message.
enum Verdict {
    /// It is in the journal.
    Done,
    /// It comes again after this time.
    Again(Duration),
}

/// The intake of one epoch.
pub(crate) struct Intake {
    bus: Bus,
    desk: Desk,
    gate: Gate,
    close: Shutdown,
    memory: Memory,
}

impl Intake {
    /// Takes submits from the stream until `close` is requested.
    pub(crate) fn new(bus: &Bus, desk: &Desk, gate: Gate, close: &Shutdown) -> Self {
        Self { bus: bus.clone(), desk: desk.clone(), gate, close: close.clone(), memory: Memory::default() }
    }

    /// Takes submits. Ends after the close, when what is under way is decided or has gone back to the server.
    pub(crate) async fn take(&self) {
        while !self.close.is_requested() {
            let taken = match self.close.unless_requested(Box::pin(ensure_intake_consumer(&self.bus))).await {
                None => return,
                Some(Ok(consumer)) => self.take_from(&consumer).await,
                Some(Err(error)) => Err(error.to_string()),
            };
            if let Err(reason) = taken {
                tracing::warn!(reason, "the intake was interrupted");
                self.close.unless_requested(sleep(PAUSE)).await;
            }
        }
    }

    /// Takes submits until the close, or until the consumer fails.
    async fn take_from(&self, consumer: &PullConsumer) -> Result<(), String> {
        let mut connections = self.bus.connections();
        let mut under_way = FuturesUnordered::new();
        let sweep = self.sweep(consumer);
        tokio::pin!(sweep);
        while !self.close.is_requested() {
            connections.mark_unchanged();
            let asked = BATCH - under_way.len();
            if asked == 0 {
                under_way.next().await;
                continue;
            }
            // No heartbeat: this client's batches lose their wake-up to one. A lost connection is seen by its count.
            let batch = consumer.batch().max_messages(asked).expires(EXPIRES).messages().await;
            let mut batch = batch.map_err(|error| error.to_string())?;
            let end = sleep(EXPIRES + GRACE);
            tokio::pin!(end);
            loop {
                let message = tokio::select! {
                    biased;
                    () = self.close.requested() => None,
                    message = batch.next() => message,
                    Some(()) = under_way.next(), if !under_way.is_empty() => continue,
                    // Never ends.
                    () = &mut sweep => continue,
                    // The server has forgotten the request together with the connection.
                    Ok(()) = connections.changed() => None,
                    () = &mut end => None,
                };
                match message {
                    Some(Ok(message)) => under_way.push(self.decide(message)),
                    Some(Err(error)) => return Err(error.to_string()),
                    None => break,
                }
            }
            if self.close.is_requested() {
                // What has come already, or is on its way, would stay in hand until its time to be acknowledged is over.
                let end = Instant::now() + ON_ITS_WAY;
                let mut late = Vec::new();
                while let Ok(Some(Ok(message))) = timeout_at(end, batch.next()).await {
                    late.push(message);
                }
                // IMPORTANT: nobody listens here any more before it comes again, or it would come to here.
                drop(batch);
                for message in late {
                    acknowledge(&message, AckKind::Nak(Some(ON_ITS_WAY))).await;
                }
            }
        }
        while under_way.next().await.is_some() {}
        Ok(())
    }

    async fn decide(&self, message: jetstream::Message) {
        let verdict = match place(&message) {
            Some((known, deliveries)) => {
                // Delivered again while it is in hand: the first is acknowledged for both.
                let Some(in_hand) = self.memory.take(known.stream_seq) else { return };
                tokio::select! {
                    verdict = self.verdict(known, deliveries, &in_hand) => verdict,
                    () = self.patience() => Verdict::Again(Duration::ZERO),
                }
            }
            None => Verdict::Again(PAUSE),
        };
        let kind = match verdict {
            Verdict::Done => AckKind::Ack,
            Verdict::Again(after) => {
                self.memory.put_off(after);
                AckKind::Nak(Some(after))
            }
        };
        acknowledge(&message, kind).await;
    }

    /// Ends some time after the close.
    async fn patience(&self) {
        self.close.requested().await;
        sleep(PATIENCE).await;
    }

    async fn verdict(&self, message: Message<'_>, deliveries: u64, in_hand: &InHand<'_>) -> Verdict {
        let error = match submit(&self.bus, &self.desk, message).await {
            Ok(()) => {
                in_hand.forget();
                return Verdict::Done;
            }
            // The next leader takes it.
            Err(Refusal::Silent) => return Verdict::Again(Duration::ZERO),
            Err(Refusal::Error(error)) => error,
        };
        let faults = if error.code == ErrorCode::Internal { in_hand.fault() } else { 0 };
        match again_after(&error, faults, deliveries) {
            Some(waits) => Verdict::Again(drawn(&waits, || time_left(message))),
            None => self.reject(message, &error, in_hand).await,
        }
    }

    async fn reject(&self, message: Message<'_>, error: &ApiError, in_hand: &InHand<'_>) -> Verdict {
        match self.keep(message, error).await {
            Ok(_) => {
                in_hand.forget();
                Verdict::Done
            }
            Err(reason) => {
                let stream_seq = message.stream_seq;
                tracing::warn!(reason, stream_seq, "a refused submit is not kept yet; it comes again");
                Verdict::Again(in_hand.back_off())
            }
        }
    }
}

async fn acknowledge(message: &jetstream::Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "a message of the intake was not acknowledged; it comes again and is a repeat");
    }
}

/// The message with its place in the stream, and how often it has been delivered.
fn place(message: &jetstream::Message) -> Option<(Message<'_>, u64)> {
    let info = message
        .info()
        .inspect_err(|error| tracing::warn!(%error, "a message of the intake does not say where it stands"))
        .ok()?;
    let placed = Message {
        subject: &message.subject,
        headers: message.headers.as_ref(),
        body: &message.payload,
        stream_seq: info.stream_sequence,
        published_nanos: info.published.unix_timestamp_nanos(),
    };
    Some((placed, info.delivered.unsigned_abs()))
}

/// Submits the body, as `runs.submit` would.
async fn submit(bus: &Bus, desk: &Desk, message: Message<'_>) -> Result<(), Refusal> {
    let format = Format::from_content_type(header(message.headers, CONTENT_TYPE))?;
    let mut request: SubmitRun = format.decode(message.body)?;
    if request.wait {
        let error = ApiError::new(ErrorCode::BadRequest, "wait: nobody waits at the intake; ask with runs.wait");
        return Err(error.with_details(serde_json::json!({"path": "wait"})).into());
    }
    if request.run_id.is_none() {
        request.run_id = Some(message.unnamed_run()?);
    }
    let traceparent = header(message.headers, TRACEPARENT).map(str::to_owned);
    intake_submit(bus, desk, request, traceparent).await
}

/// How long to wait, at least and at most, before what failed for a reason that passes is tried again; none when it will not.
/// `faults` is how often it met a fault of ours.
fn again_after(error: &ApiError, faults: u32, deliveries: u64) -> Option<RangeInclusive<Duration>> {
    let asked = error.details.get("retry_after_ms").and_then(serde_json::Value::as_u64);
    let least = asked.map_or(PAUSE, Duration::from_millis);
    match error.code {
        // What is full stays so for long, and a million messages that come each second leave the leader no time for runs. By
        // the server's count, because all of them may wait here, which is more than this process remembers.
        ErrorCode::QueueFull | ErrorCode::Overloaded => Some(least..=doubled(deliveries.saturating_sub(1)).max(least)),
        // Whatever is missing may be back the next moment, and then nobody should wait for a minute.
        ErrorCode::Unavailable => Some(least..=least),
        ErrorCode::Internal => (faults < MAX_FAULTS).then_some(PAUSE..=PAUSE),
        ErrorCode::BadRequest
        | ErrorCode::UnknownField
        | ErrorCode::PayloadTooLarge
        | ErrorCode::Forbidden
        | ErrorCode::RoleForbidden
        | ErrorCode::NotFound
        | ErrorCode::SessionTerminal
        | ErrorCode::MemoryPolicyImmutable
        | ErrorCode::TailMismatch
        | ErrorCode::IdempotencyConflict
        | ErrorCode::Busy
        | ErrorCode::StaleEpoch
        | ErrorCode::AlreadyClaimed
        | ErrorCode::RunTerminal
        | ErrorCode::UnknownJobKind
        | ErrorCode::UnsupportedCapability
        | ErrorCode::UnknownModel
        | ErrorCode::ExceedsLimit => None,
    }
}

/// One of these waits, so that messages which were refused together come one after the other and find room as it comes. At most
/// half the time that is left until a deadline: there is then another try before it. Only a choice among several asks for that.
fn drawn(waits: &RangeInclusive<Duration>, left: impl FnOnce() -> Option<Duration>) -> Duration {
    let (least, most) = (*waits.start(), *waits.end());
    if least == most {
        return least;
    }
    let most = left().map_or(most, |left| (left / 2).min(most)).max(least);
    // Without the randomness of the system they come together.
    let share = random::bytes().map_or(1.0, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX));
    least + most.saturating_sub(least).mul_f64(share)
}

/// The time until the deadline of a submit, where it has one.
fn time_left(message: Message<'_>) -> Option<Duration> {
    let format = Format::from_content_type(header(message.headers, CONTENT_TYPE)).ok()?;
    let deadline = format.decode::<SubmitRun>(message.body).ok()?.deadline?;
    Some(Duration::from_millis(deadline.millis_since(wall_now())))
}

/// The first pause, doubled so often.
fn doubled(times: u64) -> Duration {
    PAUSE * (1 << times.min(MAX_DOUBLINGS))
}

#[cfg(test)]
mod tests;
