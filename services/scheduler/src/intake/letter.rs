//! Dead letters: what is said of a message that is refused, and where its body is kept.

use bytes::Bytes;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::{Bus, CONTENT_TYPE, MESSAGE_ID, RUN_ID, Refusal, TRACEPARENT, header};
use laneway_contract::{ApiError, Artifact, ErrorCode, Format, MAX_BODY_BYTES, Reject, RunId, Subject, Timestamp};
use laneway_engine::Command;
use uuid::Uuid;

use super::Intake;
use crate::desk::Answered;
use crate::edge::Edge;

/// The largest body that can be kept as an artifact, in bytes: with its fields it still fits a reply.
pub(super) const MAX_KEPT_BYTES: usize = MAX_BODY_BYTES - 1024;
/// The longest text of a caller's header that a letter repeats, in bytes.
const MAX_HEADER_BYTES: usize = 128;
/// The fixed name below which run ids are derived.
const DERIVED: Uuid = Uuid::from_u128(0x6c61_6e65_7761_7920_696e_7461_6b65_0001);

/// A message of the intake. Where it stands in the stream is the same each time it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) subject: &'a str,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) body: &'a Bytes,
    pub(super) stream_seq: u64,
    pub(super) published_nanos: i128,
}

impl Message<'_> {
    /// The run of a submit whose body names none: the one that the header names, else one that is the same each time the
    /// message comes.
    pub(super) fn unnamed_run(&self) -> Result<RunId, ApiError> {
        let Some(raw) = header(self.headers, RUN_ID) else { return Ok(self.derived_run()) };
        RunId::parse(raw).map_err(|error| {
            ApiError::new(ErrorCode::BadRequest, format!("the header {RUN_ID}: {error}"))
                .with_details(serde_json::json!({"path": "run_id"}))
        })
    }

    fn derived_run(&self) -> RunId {
        // The time tells a stream that was made again from the one before, whose sequences were the same.
        let name = format!("{} {} {}", self.subject, self.stream_seq, self.published_nanos);
        RunId::from_uuid(Uuid::new_v5(&DERIVED, name.as_bytes()))
    }

    /// The run that it would have been, also where all but its id is wrong.
    pub(super) fn run(&self) -> RunId {
        let named = Reject::run_named_in(header(self.headers, CONTENT_TYPE), self.body);
        named.unwrap_or_else(|| self.unnamed_run().unwrap_or_else(|_| self.derived_run()))
    }

    fn text(&self, name: &str, allowed: impl Fn(u8) -> bool) -> Option<String> {
        let text = header(self.headers, name)?;
        ((1..=MAX_HEADER_BYTES).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
    }

    /// What letters about this message are known by: one that is sent again within the window of the stream of rejects is
    /// not stored twice.
    fn letter_id(&self) -> String {
        format!("{}-{}", self.stream_seq, self.published_nanos)
    }
}

impl Intake {
    /// Keeps a refused body as an artifact, then says so on the subject of rejects. Returns when both are stored.
    pub(super) async fn keep(&self, message: Message<'_>, error: &ApiError) -> Result<RunId, String> {
        let (artifact, mut letter) = letter(self.desk.edge(), message, error);
        if let Some(artifact) = artifact {
            letter.journal_seq = Some(self.put(message.stream_seq, artifact).await?);
        }
        if (self.gate)().is_none() {
            return Err("the leadership ended".to_owned());
        }
        send(&self.bus, &message, &letter).await?;
        tracing::info!(stream_seq = letter.stream_seq, code = %error.code, "a submit of the intake was refused");
        Ok(letter.run_id)
    }

    /// Puts a body into the journal, once however often its letter is tried. The frame that has it.
    async fn put(&self, stream_seq: u64, artifact: Artifact) -> Result<u64, String> {
        if let Some(journal_seq) = self.memory.body_at(stream_seq) {
            return Ok(journal_seq);
        }
        match self.desk.decide(Command::Put(Box::new(artifact)), |_| Ok(())).await {
            Ok(Answered { journal_seq, .. }) => {
                self.memory.put(stream_seq, journal_seq);
                Ok(journal_seq)
            }
            Err(Refusal::Error(error)) => Err(error.to_string()),
            Err(Refusal::Silent) => Err("the leadership ended".to_owned()),
        }
    }
}

async fn send(bus: &Bus, message: &Message<'_>, letter: &Reject) -> Result<(), String> {
    let body = serde_json::to_vec(letter).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, Format::Json.content_type());
    headers.insert(MESSAGE_ID, message.letter_id());
    if let Some(trace) = &letter.traceparent {
        headers.insert(TRACEPARENT, trace.as_str());
    }
    bus.publish_stored(&Subject::Rejects, headers, body.into()).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// The letter about a refused message, and its body as an artifact where it can be kept.
pub(super) fn letter(edge: &Edge, message: Message<'_>, error: &ApiError) -> (Option<Artifact>, Reject) {
    let size = message.body.len();
    // Its own type may be what was wrong with it.
    let artifact = edge.artifact(message.body.clone(), "application/octet-stream");
    let content_hash = artifact.id;
    let kept = (size <= MAX_KEPT_BYTES).then_some(artifact);
    let in_a_type = |byte: u8| byte.is_ascii_alphanumeric() || b"/.+-_;= ".contains(&byte);
    let letter = Reject {
        code: error.code,
        message: error.message.clone(),
        content_hash,
        artifact_id: kept.as_ref().map(|artifact| artifact.id),
        journal_seq: None,
        size: size as u64,
        content_type: message.text(CONTENT_TYPE, in_a_type),
        run_id: message.run(),
        subject: message.subject.to_owned(),
        stream_seq: message.stream_seq,
        published_at: Timestamp::from_millis((message.published_nanos / 1_000_000) as i64),
        msg_id: message.text(MESSAGE_ID, |byte| byte.is_ascii_graphic()),
        traceparent: message.text(TRACEPARENT, |byte| byte.is_ascii_hexdigit() || byte == b'-'),
    };
    (kept, letter)
}
