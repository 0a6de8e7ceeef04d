//! Submits that waited in a stream. A message is acknowledged when its frame is in the journal: accepted, or as a dead
//! letter whose body is an artifact. Whatever cannot be decided now comes again.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::{AckKind, Message};
use laneway_bus::{Bus, CONTENT_TYPE, PullConsumer, Refusal, TRACEPARENT, ensure_intake_consumer, header};
use laneway_contract::{ApiError, Artifact, ArtifactId, ErrorCode, Format, MAX_BODY_BYTES, RunId, Subject, SubmitRun};
use laneway_engine::Command;
use serde::Serialize;
use tokio::time::sleep;
use uuid::Uuid;

use crate::desk::Desk;
use crate::edge::Edge;
use crate::endpoints::intake_submit;

/// Messages that are asked for at a time, and that are under way at most.
const BATCH: usize = 256;
/// The server answers a request for messages after this time at the latest.
const EXPIRES: Duration = Duration::from_secs(5);
/// What the client waits longer, for an answer that is on its way.
const GRACE: Duration = Duration::from_millis(500);
/// Between two requests that the server refuses, and before a message comes again that could not be decided.
const PAUSE: Duration = Duration::from_secs(1);
/// A message that meets a fault of ours so often is a dead letter.
const MAX_FAULTS: i64 = 5;
/// The largest body that can be kept as an artifact, in bytes: with its fields it still fits a reply.
const MAX_KEPT_BYTES: usize = MAX_BODY_BYTES - 1024;
/// The fixed name below which run ids are derived.
const DERIVED: Uuid = Uuid::from_u128(0x6c61_6e65_7761_7920_696e_7461_6b65_0001);

/// What becomes of a message.
enum Verdict {
    /// It is in the journal.
    Done,
    /// It comes again after this time.
    Again(Duration),
}

/// A dead letter. Without content: that is in the artifact.
#[derive(Debug, Serialize)]
struct DeadLetter<'a> {
    /// None when the body is too large to be kept.
    artifact_id: Option<ArtifactId>,
    /// The keyed hash of the body, kept or not.
    content_hash: ArtifactId,
    code: ErrorCode,
    message: &'a str,
    size: usize,
    stream_seq: u64,
}

/// Where a message stands in the stream, which is the same each time it comes.
#[derive(Clone, Copy)]
struct Place {
    stream_seq: u64,
    published_nanos: i128,
    delivered: i64,
}

/// Takes submits from the stream until dropped.
pub(crate) async fn take(bus: &Bus, desk: &Desk) {
    loop {
        match ensure_intake_consumer(bus).await {
            Ok(consumer) => {
                let reason = take_from(bus, desk, &consumer).await;
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

async fn decide(bus: &Bus, desk: &Desk, message: Message) {
    let kind = match place(&message) {
        Some(place) => match verdict(bus, desk, &message, place).await {
            Verdict::Done => AckKind::Ack,
            Verdict::Again(after) => AckKind::Nak(Some(after)),
        },
        None => AckKind::Nak(Some(PAUSE)),
    };
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "a message of the intake was not acknowledged; it comes again and is a repeat");
    }
}

fn place(message: &Message) -> Option<Place> {
    match message.info() {
        Ok(info) => Some(Place {
            stream_seq: info.stream_sequence,
            published_nanos: info.published.unix_timestamp_nanos(),
            delivered: info.delivered,
        }),
        Err(error) => {
            tracing::warn!(%error, "a message of the intake does not say where it stands");
            None
        }
    }
}

async fn verdict(bus: &Bus, desk: &Desk, message: &Message, place: Place) -> Verdict {
    match submit(bus, desk, message, place).await {
        Ok(()) => Verdict::Done,
        // The next leader takes it.
        Err(Refusal::Silent) => Verdict::Again(Duration::ZERO),
        Err(Refusal::Error(error)) => match again_after(&error, place.delivered) {
            Some(after) => Verdict::Again(after),
            None => reject(bus, desk, message, place, &error).await,
        },
    }
}

/// Submits the body, as `runs.submit` would.
async fn submit(bus: &Bus, desk: &Desk, message: &Message, place: Place) -> Result<(), Refusal> {
    let headers = message.headers.as_ref();
    let format = Format::from_content_type(header(headers, CONTENT_TYPE))?;
    let mut request: SubmitRun = format.decode(&message.payload)?;
    if request.wait {
        let error = ApiError::new(ErrorCode::BadRequest, "wait: nobody waits at the intake; ask with runs.wait");
        return Err(error.with_details(serde_json::json!({"path": "wait"})).into());
    }
    request.run_id.get_or_insert_with(|| derived(&message.subject, place));
    let traceparent = header(headers, TRACEPARENT).map(str::to_owned);
    intake_submit(bus, desk, request, traceparent).await
}

/// The run of a message that names none: the same each time the message comes.
fn derived(subject: &str, place: Place) -> RunId {
    // The time tells a stream that was made again from the one before, whose sequences were the same.
    let name = format!("{subject} {} {}", place.stream_seq, place.published_nanos);
    RunId::from_uuid(Uuid::new_v5(&DERIVED, name.as_bytes()))
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

/// Keeps a refused body as an artifact, then says so on the subject of rejects.
async fn reject(bus: &Bus, desk: &Desk, message: &Message, place: Place, error: &ApiError) -> Verdict {
    match dead_letter(bus, desk, message, place, error).await {
        Ok(()) => Verdict::Done,
        Err(reason) => {
            tracing::warn!(reason, stream_seq = place.stream_seq, "a refused submit is not kept yet; it comes again");
            Verdict::Again(PAUSE)
        }
    }
}

async fn dead_letter(bus: &Bus, desk: &Desk, message: &Message, place: Place, error: &ApiError) -> Result<(), String> {
    let (artifact, letter) = letter(desk.edge(), message.payload.clone(), place.stream_seq, error);
    if let Some(artifact) = artifact {
        match desk.decide(Command::Put(Box::new(artifact)), |_| Ok(())).await {
            Ok(_) => {}
            Err(Refusal::Error(error)) => return Err(error.to_string()),
            Err(Refusal::Silent) => return Err("the leadership ended".to_owned()),
        }
    }
    let letter = serde_json::to_vec(&letter).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, Format::Json.content_type());
    bus.publish_stored(&Subject::Rejects, headers, letter.into()).await.map_err(|error| error.to_string())?;
    tracing::info!(stream_seq = place.stream_seq, code = %error.code, "a submit of the intake was refused");
    Ok(())
}

/// The letter about a refused body, and the body as an artifact where it can be kept.
fn letter<'a>(edge: &Edge, body: Bytes, stream_seq: u64, error: &'a ApiError) -> (Option<Artifact>, DeadLetter<'a>) {
    let size = body.len();
    // Its own type may be what was wrong with it.
    let artifact = edge.artifact(body, "application/octet-stream");
    let content_hash = artifact.id;
    let kept = (size <= MAX_KEPT_BYTES).then_some(artifact);
    let artifact_id = kept.as_ref().map(|artifact| artifact.id);
    let letter = DeadLetter { artifact_id, content_hash, code: error.code, message: &error.message, size, stream_seq };
    (kept, letter)
}

#[cfg(test)]
mod tests;
