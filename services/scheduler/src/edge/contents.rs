//! Contents of a request on their way into artifacts.

use std::collections::BTreeMap;

use bytes::Bytes;
use laneway_contract::{ApiError, Artifact, ArtifactId, Content, ErrorCode, HashKey, MAX_BODY_BYTES};

use super::check::refused;

/// The type of a text whose sender names none.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// The type of settings that are artifacts.
pub(super) const JSON: &str = "application/json";

/// The largest content of a message, in bytes: with all its fields it still fits a reply.
pub(super) const MAX_MESSAGE_BYTES: u64 = (MAX_BODY_BYTES - 16 * 1024) as u64;

/// What is known of an artifact that a request names and does not bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// MIME type.
    pub(crate) content_type: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// The artifacts that a request names, as a store replica knows them.
pub(crate) type KnownArtifacts = BTreeMap<ArtifactId, Known>;

/// The contents of one request.
pub(super) struct Contents<'a> {
    key: &'a HashKey,
    known: &'a KnownArtifacts,
    new: BTreeMap<ArtifactId, Artifact>,
}

/// A content that is, or is about to be, an artifact.
pub(super) struct Stored {
    pub(super) id: ArtifactId,
    pub(super) size: u64,
    pub(super) content_type: String,
}

impl<'a> Contents<'a> {
    pub(super) fn new(key: &'a HashKey, known: &'a KnownArtifacts) -> Self {
        Self { key, known, new: BTreeMap::new() }
    }

    /// Names bytes, to be stored with the command.
    pub(super) fn add(&mut self, bytes: Bytes, content_type: &str) -> Stored {
        let id = self.key.artifact_id(&bytes);
        let size = bytes.len() as u64;
        let content_type = content_type.to_owned();
        self.new.entry(id).or_insert_with(|| Artifact {
            id,
            content_type: content_type.clone(),
            enc: "none".to_owned(),
            key_id: None,
            bytes,
        });
        Stored { id, size, content_type }
    }

    /// The content of a message or of instructions.
    pub(super) fn take(&mut self, path: &str, content: Content, given: Option<&str>) -> Result<Stored, ApiError> {
        let stored = match content {
            Content::Text(text) => self.add(Bytes::from(text), given.unwrap_or(TEXT)),
            Content::Artifact { artifact_id } => {
                let known = self.known.get(&artifact_id).ok_or_else(|| missing(path, artifact_id))?;
                let content_type = given.unwrap_or(&known.content_type).to_owned();
                Stored { id: artifact_id, size: known.size, content_type }
            }
        };
        if stored.size > MAX_MESSAGE_BYTES {
            let expected = format_args!(
                "has {} bytes, a message holds {MAX_MESSAGE_BYTES}: store large content with artifacts.put and attach it",
                stored.size
            );
            return Err(refused(ErrorCode::PayloadTooLarge, path, expected));
        }
        Ok(stored)
    }

    /// Attachments have to be there before they are named.
    pub(super) fn attached(&self, path: &str, attachments: &[ArtifactId]) -> Result<(), ApiError> {
        match attachments.iter().find(|id| !self.known.contains_key(id)) {
            Some(id) => Err(missing(path, *id)),
            None => Ok(()),
        }
    }

    /// What is to be stored.
    pub(super) fn into_new(self) -> Vec<Artifact> {
        self.new.into_values().collect()
    }
}

fn missing(path: &str, id: ArtifactId) -> ApiError {
    refused(
        ErrorCode::NotFound,
        path,
        format_args!("names artifact {id}, which is not stored: send it with artifacts.put first"),
    )
}
