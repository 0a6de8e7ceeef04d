//! Dead letters of the intake, as their stream holds them, and their bodies.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::StreamExt;
use laneway_bus::async_nats::datetime::from_nanos;
use laneway_bus::async_nats::jetstream::consumer::DeliverPolicy;
use laneway_bus::async_nats::jetstream::stream::{DeleteMessageErrorKind, RawMessageErrorKind};
use laneway_contract::{ApiError, ArtifactReply, Endpoint, ErrorCode, GetArtifact, Reject, Stream, Subject, Timestamp};
use serde::Serialize;
use tokio::time::timeout;

use crate::client::{Client, Reading, millis_of, stream_error};
use crate::exit::CliError;

/// A letter that was there when reading began may be taken out meanwhile; then none comes any more.
const NO_MORE: Duration = Duration::from_secs(3);

/// A dead letter with its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Letter {
    /// Its number in the stream of rejects.
    pub(super) seq: u64,
    /// When it was written.
    pub(super) rejected_at: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub(super) reject: Reject,
    /// The earlier letter about the same message, where one was read.
    #[serde(skip)]
    pub(super) repeats: Option<u64>,
}

/// What there is of a refused body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// All of it.
    Kept(Bytes),
    /// It was too large to be kept.
    TooLarge,
    /// It is not there any more.
    Gone,
}

impl Body {
    /// The bytes, or the refusal to do anything with them.
    pub(super) fn kept(self, seq: u64) -> Result<Bytes, ApiError> {
        match (self.missing(seq), self) {
            (None, Self::Kept(bytes)) => Ok(bytes),
            (missing, Self::Kept(_) | Self::TooLarge | Self::Gone) => {
                Err(ApiError::new(ErrorCode::NotFound, missing.unwrap_or_default()))
            }
        }
    }

    /// Why there is no body, and what to do.
    pub(super) fn missing(&self, seq: u64) -> Option<String> {
        let why = match self {
            Self::Kept(_) => return None,
            Self::TooLarge => "was too large to be kept, and has to be mended where it came from",
            Self::Gone => "is not there any more",
        };
        Some(format!(
            "the body {why}: store its long texts with artifacts.put, name them by their ids, and send it with \
             laneway intake rejects replay {seq} --with FILE"
        ))
    }
}

/// The letters that are there, in order.
pub(super) struct Letters {
    reading: Reading,
    /// Those that were there when reading began and are still to come.
    left: u64,
    /// The first letter about each message.
    seen: HashMap<(String, u64, Timestamp), u64>,
}

impl Letters {
    /// Those behind `cursor`, written at `since` or later.
    pub(super) async fn read(client: &Client, cursor: Option<u64>, since: Option<Timestamp>) -> Result<Self, CliError> {
        let policy = match (cursor, since) {
            (Some(cursor), _) => DeliverPolicy::ByStartSequence { start_sequence: cursor.saturating_add(1) },
            (None, Some(since)) => {
                let time = from_nanos(i128::from(since.millis()) * 1_000_000);
                let start_time = time.map_err(|error| CliError::Usage(format!("--since: {error}")))?;
                DeliverPolicy::ByStartTime { start_time }
            }
            (None, None) => DeliverPolicy::All,
        };
        let subject = client.bus().prefix().subject(&Subject::Rejects);
        let reading = client.read(Stream::Rejects, subject, policy).await?;
        Ok(Self { left: reading.pending, reading, seen: HashMap::new() })
    }

    /// The next one; none behind the last that was there when reading began.
    pub(super) async fn next(&mut self) -> Result<Option<Letter>, CliError> {
        while self.left > 0 {
            let Ok(Some(stored)) = timeout(NO_MORE, self.reading.messages.next()).await else { return Ok(None) };
            let stored = stored?;
            self.left = (self.left - 1).min(stored.pending);
            if let Some(mut letter) = letter(stored.sequence, stored.stored_at, &stored.payload) {
                let (subject, seq, published_at) = letter.reject.origin();
                let first = self.seen.entry((subject.to_owned(), seq, published_at)).or_insert(letter.seq);
                letter.repeats = (*first != letter.seq).then_some(*first);
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }
}

fn letter(seq: u64, rejected_at: Timestamp, payload: &[u8]) -> Option<Letter> {
    let reject = serde_json::from_slice(payload)
        .inspect_err(|error| tracing::warn!(seq, %error, "not a dead letter; passed over"))
        .ok()?;
    Some(Letter { seq, rejected_at, reject, repeats: None })
}

/// One letter.
pub(super) async fn get(client: &Client, seq: u64) -> Result<Letter, CliError> {
    let name = client.bus().prefix().stream(Stream::Rejects);
    let stream = client.bus().jetstream().get_stream_no_info(&name).await.map_err(|e| stream_error(&name, &e))?;
    let unknown = || ApiError::new(ErrorCode::NotFound, format!("no letter {seq}: see laneway intake rejects list"));
    match stream.get_raw_message(seq).await {
        Ok(found) => {
            let rejected_at = millis_of(found.time.unix_timestamp_nanos());
            Ok(letter(seq, rejected_at, &found.payload).ok_or_else(unknown)?)
        }
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Err(unknown().into()),
        Err(error) => Err(stream_error(&name, &error)),
    }
}

/// The body of a refused submit.
pub(super) async fn body(client: &Client, reject: &Reject) -> Result<Body, CliError> {
    let Some(artifact_id) = reject.artifact_id else { return Ok(Body::TooLarge) };
    // The letter left after its frame, which a replica may not have applied yet.
    let request = GetArtifact { artifact_id, min_seq: reject.journal_seq };
    match client.ask::<_, ArtifactReply>(Endpoint::ArtifactsGet, &request).await {
        Ok(reply) => Ok(Body::Kept(reply.bytes.unwrap_or_default())),
        Err(error) if error.code == ErrorCode::NotFound => Ok(Body::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Takes a letter out of its stream. False when somebody else has.
pub(super) async fn remove(client: &Client, seq: u64) -> Result<bool, CliError> {
    let name = client.bus().prefix().stream(Stream::Rejects);
    let stream = client.bus().jetstream().get_stream_no_info(&name).await.map_err(|e| stream_error(&name, &e))?;
    match stream.delete_message(seq).await {
        Ok(removed) => Ok(removed),
        Err(error) => match error.kind() {
            DeleteMessageErrorKind::JetStream(refusal) if refusal.code() != 503 => Ok(false),
            DeleteMessageErrorKind::JetStream(_)
            | DeleteMessageErrorKind::Request
            | DeleteMessageErrorKind::TimedOut => Err(stream_error(&name, &error)),
        },
    }
}
