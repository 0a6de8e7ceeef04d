//! Contents on their way into artifacts.

use std::collections::BTreeMap;

use bytes::Bytes;
use laneway_contract::{ApiError, Artifact, ArtifactId, Content, ErrorCode, MAX_BODY_BYTES};

use super::check::{At, refused};
use crate::read::ReadError;
use crate::view::Reading;

/// The type of a text whose sender names none.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// The largest content of a message, in bytes: with all its fields it still fits a reply.
pub(super) const MAX_MESSAGE_BYTES: u64 = (MAX_BODY_BYTES - 16 * 1024) as u64;

/// The contents of one request. Those that the view has already are not sent again.
pub(super) struct Contents<'a> {
    reading: &'a Reading,
    new: BTreeMap<ArtifactId, Artifact>,
}

/// A content that is, or is about to be, an artifact.
pub(super) struct Stored {
    pub(super) id: ArtifactId,
    pub(super) size: u64,
    pub(super) content_type: String,
}

impl<'a> Contents<'a> {
    pub(super) fn new(reading: &'a Reading) -> Self {
        Self { reading, new: BTreeMap::new() }
    }

    /// The content of a message or of instructions.
    pub(super) fn take(&mut self, at: At<'_>, content: &Content, given: Option<&str>) -> Result<Stored, ApiError> {
        let stored = match content {
            Content::Text(text) => {
                let content_type = given.unwrap_or(TEXT).to_owned();
                let id = self.add(Bytes::copy_from_slice(text.as_bytes()), &content_type)?;
                Stored { id, size: text.len() as u64, content_type }
            }
            Content::Artifact { artifact_id } => {
                let found = self.reading.artifact(*artifact_id)?.ok_or_else(|| missing(at, *artifact_id))?;
                let content_type = given.map_or(found.content_type, str::to_owned);
                Stored { id: *artifact_id, size: found.bytes.len() as u64, content_type }
            }
        };
        if stored.size > MAX_MESSAGE_BYTES {
            let expected = format_args!(
                "has {} bytes, a message holds {MAX_MESSAGE_BYTES}: store large content with artifacts.put and attach it",
                stored.size
            );
            return Err(refused(ErrorCode::PayloadTooLarge, at, expected));
        }
        Ok(stored)
    }

    /// Names bytes, and keeps them to be stored unless they are.
    pub(super) fn add(&mut self, bytes: Bytes, content_type: &str) -> Result<ArtifactId, ApiError> {
        let id = self.reading.hash_key()?.artifact_id(&bytes);
        if !self.new.contains_key(&id) && !self.reading.has_artifact(id)? {
            let content_type = content_type.to_owned();
            self.new.insert(id, Artifact { id, content_type, enc: "none".to_owned(), key_id: None, bytes });
        }
        Ok(id)
    }

    /// Attachments have to be there before they are named.
    pub(super) fn attached(&self, at: At<'_>, attachments: &[ArtifactId]) -> Result<(), ApiError> {
        for id in attachments {
            if !self.reading.has_artifact(*id)? {
                return Err(missing(at, *id));
            }
        }
        Ok(())
    }

    /// What is to be stored.
    pub(super) fn into_new(self) -> Vec<Artifact> {
        self.new.into_values().collect()
    }
}

fn missing(at: At<'_>, id: ArtifactId) -> ApiError {
    ReadError::NotFound { what: "artifact", id: id.to_string() }.at(at.to_string())
}
