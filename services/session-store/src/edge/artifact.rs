//! `artifacts.put`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use laneway_contract::{ApiError, Artifact, ArtifactId, ErrorCode, MAX_BODY_BYTES, PutArtifact, PutReply};

use super::check::{self, At, bad, refused};
use super::contents::{Contents, TEXT};
use crate::view::Reading;

/// The largest artifact, in bytes: with its fields it still fits a reply in MessagePack.
const MAX_ARTIFACT_BYTES: usize = MAX_BODY_BYTES - 1024;

/// Prepares `artifacts.put`: what to store, if it is not there, and the answer once it is.
pub(crate) fn put(reading: &Reading, request: PutArtifact) -> Result<(Option<Artifact>, PutReply), ApiError> {
    let (bytes, default_type) = match (request.text, request.base64, request.bytes) {
        (Some(text), None, None) => (Bytes::from(text), TEXT),
        (None, Some(base64), None) => {
            let bytes = STANDARD
                .decode(base64)
                .map_err(|_| bad(At::Field("base64"), "must be standard base64 with padding"))?;
            (Bytes::from(bytes), "application/octet-stream")
        }
        (None, None, Some(bytes)) => (bytes, "application/octet-stream"),
        _ => return Err(ApiError::new(ErrorCode::BadRequest, "send exactly one of text, base64 and bytes")),
    };
    let size = bytes.len();
    if size > MAX_ARTIFACT_BYTES {
        let expected = format_args!("has {size} bytes, an artifact holds {MAX_ARTIFACT_BYTES}");
        return Err(refused(ErrorCode::PayloadTooLarge, At::Field("content"), expected)
            .with_details(serde_json::json!({"size": size, "max": MAX_ARTIFACT_BYTES})));
    }
    let content_type = request.content_type.as_deref().unwrap_or(default_type);
    check::content_type(At::Field("content_type"), content_type)?;
    let mut contents = Contents::new(reading);
    let artifact_id = contents.add(bytes, content_type)?;
    expect(request.expected_id, artifact_id)?;
    let reply = PutReply { artifact_id, size: size as u64, journal_seq: reading.journal_seq() };
    Ok((contents.into_new().pop(), reply))
}

fn expect(expected: Option<ArtifactId>, found: ArtifactId) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != found => {
            Err(bad(At::Field("expected_id"), "is not the id of this content: it was altered on its way")
                .with_details(serde_json::json!({"path": "expected_id", "artifact_id": found})))
        }
        Some(_) | None => Ok(()),
    }
}
