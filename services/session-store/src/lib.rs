//! The session store: a view of the journal in fjall, the endpoints that read it, and the edge that turns a caller's
//! change into a command for the leader. Any number of replicas; each is equal at equal position.
//!
//! | part | what it is |
//! |---|---|
//! | `view` | keyspaces, and how committed frames become entries |
//! | `read` | sessions, threads, windows, artifacts and ended runs, at one position |
//! | `edge` | validation, hashing and ids of what callers send |
//! | `gate` | waiting for a frame, and reading off the threads that answer |
//! | `endpoints` | what the service answers |
//! | `follow` | the journal into the view |
//! | `service` | open, catch up, answer, drain |
//! | [`salvage`] | what a view still holds of a journal that was damaged, as events |

mod edge;
mod endpoints;
mod follow;
mod gate;
mod read;
mod service;
mod view;

pub mod salvage;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod testing;

pub use service::{StoreConfig, StoreError, run};
pub use view::{View, ViewError, Writer};

use laneway_contract::{ApiError, ErrorCode};

/// Compact MessagePack: one encoding for one value.
fn compact<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    rmp_serde::to_vec(value).map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot encode: {error}")))
}
