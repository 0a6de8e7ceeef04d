//! The edge: what a caller or worker sends becomes a command of the engine. Checked, hashed, and with every id fixed, so
//! that sending it again is the same command.

mod capabilities;
mod check;
mod contents;
mod decide;
mod input;
mod lifecycle;
mod limits;
mod report;
mod retry;
mod submit;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use laneway_contract::{ApiError, Artifact, Catalog, ErrorCode, Fingerprint, HashKey};
use serde::Serialize;

pub(crate) use capabilities::Needs;
pub(crate) use contents::{Known, KnownArtifacts};
pub(crate) use decide::decide;
pub(crate) use lifecycle::{Change, cancel, change};
pub(crate) use limits::{budget_owner, change_limits, set_budget};
pub(crate) use retry::{Filter, Old, Retry, Which, retried_as, retry};
pub(crate) use submit::{Prepared, Wait, referenced, wait};

/// What turning requests into commands takes.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    key: HashKey,
    catalog: Arc<Catalog>,
}

impl Edge {
    /// An edge of the deployment with this key.
    pub(crate) fn new(key: HashKey, catalog: Arc<Catalog>) -> Self {
        Self { key, catalog }
    }

    /// The providers that are known.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Bytes as an artifact.
    pub(crate) fn artifact(&self, bytes: Bytes, content_type: &str) -> Artifact {
        Artifact {
            id: self.key.artifact_id(&bytes),
            content_type: content_type.to_owned(),
            enc: "none".to_owned(),
            key_id: None,
            bytes,
        }
    }

    /// Whether bytes that another edge has prepared are what their ids say.
    pub(crate) fn verify(&self, artifacts: &[Artifact]) -> Result<(), ApiError> {
        match artifacts.iter().find(|artifact| self.key.artifact_id(&artifact.bytes) != artifact.id) {
            None => Ok(()),
            Some(artifact) => Err(ApiError::new(
                ErrorCode::BadRequest,
                format!("artifact {} is not the hash of its bytes: send it with artifacts.put", artifact.id),
            )),
        }
    }

    /// What a request contains: half of the keyed hash of its compact encoding, before any id is made up for it.
    fn fingerprint<T: Serialize>(&self, request: &T) -> Result<Fingerprint, ApiError> {
        let bytes = rmp_serde::to_vec(request)
            .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot encode: {error}")))?;
        let hash = self.key.artifact_id(&bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        Ok(Fingerprint(u128::from_be_bytes(half)))
    }
}
