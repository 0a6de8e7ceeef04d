//! Submits that waited in a stream. A message is acknowledged when its frame is in the journal: accepted, or as a dead
//! letter whose body is an artifact. Whatever cannot be decided now comes again.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use laneway_bus::async_nats::jetstream::{self, AckKind};
use laneway_bus::{Bus, CONTENT_TYPE, PullConsumer, Refusal, TRACEPARENT, ensure_intake_consumer, header};
use laneway_contract::{ApiError, ErrorCode, Format, SubmitRun};
use tokio::time::sleep;

use crate::desk::Desk;
use crate::endpoints::intake_submit;

use letter::Message;
pub(crate) use stuck::give_up;

mod letter;
mod stuck;

/// Messages that are asked for at a time, and that are under way at most.
const BATCH: usize = 256;
/// The server answers a request for messages after this time at the latest.
const EXPIRES: Duration = Duration::from_secs(5);
/// What the client waits longer, for an answer that is on its way.
const GRACE: Duration = Duration::from_millis(500);
/// Between two requests that the server refuses, and before a message comes again that could not be decided.
const PAUSE: Duration = Duration::from_secs(1);
/// The name of the leader's consumer.
const CONSUMER: &str = "scheduler";
/// A message that meets a fault of ours so often is a dead letter.
const MAX_FAULTS: i64 = 5;
/// What becomes of a message.
enum Verdict {
    /// It is in the journal.
    Done,
    /// It comes again after this time.
    Again(Duration),
}

/// Takes submits from the stream until dropped.
pub(crate) async fn take(bus: &Bus, desk: &Desk) {
    loop {
        match ensure_intake_consumer(bus).await {
            Ok(consumer) => {
                let reason = match stuck::give_up_all(bus, desk, &consumer).await {
                    Ok(()) => take_from(bus, desk, &consumer).await,
                    Err(reason) => reason,
                };
                tracing::warn!(reason, "the intake was interrupted");
            }
            Err(error) => tracing::error!(%error, "the intake has no consumer"),
        }
        sleep(PAUSE).await;
    }
}

/// Takes submits until the consumer fails, and says how.
async fn take_from(bus: &Bus, desk: &Desk, consumer: &PullConsumer) -> String {
    let mut connections = bus.connections();
    let mut under_way = FuturesUnordered::new();
    loop {
        connections.mark_unchanged();
        let asked = BATCH - under_way.len();
        if asked == 0 {
            under_way.next().await;
            continue;
        }
        // No heartbeat: this client's batches lose their wake-up to one. A lost connection is seen by its count.
        let mut batch = match consumer.batch().max_messages(asked).expires(EXPIRES).messages().await {
            Ok(batch) => batch,
            Err(error) => return error.to_string(),
        };
        let end = sleep(EXPIRES + GRACE);
        tokio::pin!(end);
        loop {
            let message = tokio::select! {
                biased;
                message = batch.next() => message,
                Some(()) = under_way.next(), if !under_way.is_empty() => continue,
                // The server has forgotten the request together with the connection.
                Ok(()) = connections.changed() => None,
                () = &mut end => None,
            };
            match message {
                Some(Ok(message)) => under_way.push(decide(bus, desk, message)),
                Some(Err(error)) => return error.to_string(),
                None => break,
            }
        }
    }
}

async fn decide(bus: &Bus, desk: &Desk, message: jetstream::Message) {
    let kind = match place(&message) {
        Some((known, delivered)) => match verdict(bus, desk, known, delivered).await {
            Verdict::Done => AckKind::Ack,
            Verdict::Again(after) => AckKind::Nak(Some(after)),
        },
        None => AckKind::Nak(Some(PAUSE)),
    };
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "a message of the intake was not acknowledged; it comes again and is a repeat");
    }
}

/// The message with its place in the stream, and how often it was delivered.
fn place(message: &jetstream::Message) -> Option<(Message<'_>, i64)> {
    let info = message
        .info()
        .inspect_err(|error| tracing::warn!(%error, "a message of the intake does not say where it stands"))
        .ok()?;
    let known = Message {
        subject: &message.subject,
        headers: message.headers.as_ref(),
        body: &message.payload,
        stream_seq: info.stream_sequence,
        published_nanos: info.published.unix_timestamp_nanos(),
    };
    Some((known, info.delivered))
}

async fn verdict(bus: &Bus, desk: &Desk, message: Message<'_>, delivered: i64) -> Verdict {
    match submit(bus, desk, message).await {
        Ok(()) => Verdict::Done,
        // The next leader takes it.
        Err(Refusal::Silent) => Verdict::Again(Duration::ZERO),
        Err(Refusal::Error(error)) => match again_after(&error, delivered) {
            Some(after) => Verdict::Again(after),
            None => reject(bus, desk, message, &error).await,
        },
    }
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

/// When to try again what failed for a reason that passes; none when it will not.
fn again_after(error: &ApiError, delivered: i64) -> Option<Duration> {
    match error.code {
        ErrorCode::QueueFull | ErrorCode::Overloaded | ErrorCode::Unavailable => {
            let asked = error.details.get("retry_after_ms").and_then(serde_json::Value::as_u64);
            Some(asked.map_or(PAUSE, Duration::from_millis))
        }
        ErrorCode::Internal => (delivered < MAX_FAULTS).then_some(PAUSE),
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

async fn reject(bus: &Bus, desk: &Desk, message: Message<'_>, error: &ApiError) -> Verdict {
    match letter::store(bus, desk, message, error).await {
        Ok(_) => Verdict::Done,
        Err(reason) => {
            tracing::warn!(reason, stream_seq = message.stream_seq, "a refused submit is not kept yet; it comes again");
            Verdict::Again(PAUSE)
        }
    }
}

#[cfg(test)]
mod tests;
