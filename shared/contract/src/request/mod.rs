//! Requests and replies of the endpoints, as they are on the wire.

mod attempts;
mod decisions;
mod inside;
mod limits;
mod runs;
mod sessions;

pub use attempts::*;
pub use decisions::*;
pub use inside::*;
pub use limits::*;
pub use runs::*;
pub use sessions::*;

use serde::{Deserialize, Serialize};

use crate::ids::ArtifactId;

/// The most rows of one page.
pub const MAX_PAGE: u32 = 1_000;
/// The rows of a page when the request does not say.
pub const DEFAULT_PAGE: u32 = 100;

/// A text, or an artifact that holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// The text itself.
    Text(String),
    /// An artifact that was stored before.
    Artifact {
        /// Its id.
        artifact_id: ArtifactId,
    },
}
