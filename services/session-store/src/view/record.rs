//! Values of the view: records of the contract, and these, as compact MessagePack.

use laneway_contract::{Epoch, SessionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Space, ViewError};

/// The last claim of a run: what its window is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) session_id: SessionId,
    pub(crate) attempt: u32,
    pub(crate) epoch: Epoch,
    /// The thread's end at the run's first claim.
    pub(crate) upto_seq: u64,
}

pub(crate) fn decode<T: DeserializeOwned>(space: Space, value: &[u8]) -> Result<T, ViewError> {
    rmp_serde::from_slice(value)
        .map_err(|error| ViewError::Unreadable { space: space.name(), reason: error.to_string() })
}

pub(super) fn encode<T: Serialize>(space: Space, value: &T) -> Result<Vec<u8>, ViewError> {
    rmp_serde::to_vec(value).map_err(|error| ViewError::Unwritable { space: space.name(), reason: error.to_string() })
}
