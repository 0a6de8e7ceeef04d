//! Dead letters of the intake.

use serde::{Deserialize, Serialize};

use crate::codec::Format;
use crate::error::ErrorCode;
use crate::ids::{ArtifactId, RunId};
use crate::time::Timestamp;

/// A submit of the intake that was refused, as it stands in JSON on the subject of rejects. Holds no content: the body is an
/// artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Why it was refused.
    pub code: ErrorCode,
    /// What is wrong with it.
    pub message: String,
    /// The keyed hash of the body, kept or not.
    pub content_hash: ArtifactId,
    /// The body; none when it is too large to be kept.
    pub artifact_id: Option<ArtifactId>,
    /// The frame that holds the body.
    pub journal_seq: Option<u64>,
    /// Bytes of the body.
    pub size: u64,
    /// The `Content-Type` that came with it, where that is one.
    pub content_type: Option<String>,
    /// The run that it would have been: the one that it names, else the one that its place in the stream stands for.
    pub run_id: RunId,
    /// Where it was published.
    pub subject: String,
    /// Its sequence in the stream of the intake.
    pub stream_seq: u64,
    /// When it was stored there.
    pub published_at: Timestamp,
    /// The `Nats-Msg-Id` that came with it, where that is at most 128 visible ASCII characters.
    pub msg_id: Option<String>,
    /// The caller's trace.
    pub traceparent: Option<String>,
}

impl Reject {
    /// What two letters about the same message have in common, however often it was refused.
    #[must_use]
    pub fn origin(&self) -> (&str, u64, Timestamp) {
        (&self.subject, self.stream_seq, self.published_at)
    }

    /// The run that a body names, also where all else in it is wrong.
    #[must_use]
    pub fn run_named_in(content_type: Option<&str>, body: &[u8]) -> Option<RunId> {
        /// The one field that is of use in a body that cannot be taken.
        #[derive(Deserialize)]
        struct Named {
            run_id: Option<RunId>,
        }
        Format::from_content_type(content_type).ok()?.decode::<Named>(body).ok()?.run_id
    }
}
