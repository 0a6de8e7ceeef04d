//! `artifacts.get`, and contents of messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laneway_contract::{Artifact, ArtifactId, ArtifactReply, Format, MAX_BODY_BYTES, too_large};

use super::ReadError;
use crate::view::{Reading, Space, decode};

impl Reading {
    /// An artifact, where there is one, with its bytes compared with its hash.
    pub(crate) fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, ReadError> {
        let Some(value) = self.value(Space::Artifacts, id.as_bytes())? else {
            return Ok(None);
        };
        let artifact: Artifact = decode(Space::Artifacts, &value)?;
        if self.hash_key()?.artifact_id(&artifact.bytes) != id {
            return Err(ReadError::Altered(id));
        }
        Ok(Some(artifact))
    }

    /// Whether an artifact is there.
    pub(crate) fn has_artifact(&self, id: ArtifactId) -> Result<bool, ReadError> {
        Ok(self.has(Space::Artifacts, id.as_bytes())?)
    }

    /// An artifact as a caller gets it.
    pub(crate) fn get_artifact(&self, id: ArtifactId, format: Format) -> Result<ArtifactReply, ReadError> {
        let Artifact { content_type, bytes, .. } =
            self.artifact(id)?.ok_or_else(|| ReadError::NotFound { what: "artifact", id: id.to_string() })?;
        let size = bytes.len() as u64;
        let mut reply = ArtifactReply { artifact_id: id, content_type, size, text: None, base64: None, bytes: None };
        match format {
            Format::MessagePack => reply.bytes = Some(bytes),
            Format::Json => match text_of(&reply.content_type, &bytes) {
                Some(text) => reply.text = Some(text.to_owned()),
                None => reply.base64 = Some(STANDARD.encode(&bytes)),
            },
        }
        let encoded = format.encode(&reply).map_err(ReadError::Encoding)?.len();
        if encoded > MAX_BODY_BYTES {
            let mut error = too_large(encoded);
            error.message =
                format!("artifact {id} takes {encoded} bytes in this reply, over {MAX_BODY_BYTES}: ask in MessagePack");
            return Err(ReadError::Encoding(error));
        }
        Ok(reply)
    }

    /// The text that a message or a run names; none when it is no text.
    pub(crate) fn text(&self, id: ArtifactId, content_type: &str) -> Result<Option<String>, ReadError> {
        if !is_text(content_type) {
            return Ok(None);
        }
        let artifact = self.artifact(id)?.ok_or(ReadError::Lost(id))?;
        Ok(text_of(content_type, &artifact.bytes).map(str::to_owned))
    }
}

/// Whether a content of this type is read as text.
pub(crate) fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.starts_with("text/") || essence == "application/json" || essence.ends_with("+json")
}

/// The bytes as text, where they are.
pub(crate) fn text_of<'a>(content_type: &str, bytes: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes).ok().filter(|_| is_text(content_type))
}
