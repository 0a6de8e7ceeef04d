//! `laneway replay`: a journal folded again, and a model of what other limits would have done with what it holds.
//!
//! | part | what it is |
//! |---|---|
//! | `source` | frames from the stream or from a recording, one after the other |
//! | `past` | the fold, with what it counts on the way |
//! | `pools` | what the journal shows of the workers |
//! | `view` | the state, as it is shown |
//! | `workload` | arrivals, durations and usage, taken from the journal |
//! | `policy` | the file with other limits and rules |
//! | `model` | the engine deciding again, in virtual time |
//! | `compare` | waits next to each other |
//! | `report` | the comparison as text |
//! | `picture` | the comparison as an SVG |

pub(crate) mod compare;
pub(crate) mod model;
pub(crate) mod past;
pub(crate) mod picture;
pub(crate) mod policy;
pub(crate) mod pools;
pub(crate) mod report;
pub(crate) mod source;
pub(crate) mod view;
pub(crate) mod workload;

#[cfg(test)]
mod testing;

use laneway_journal::{Fault, RecordingError};

/// Why a journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The frames of the stream are not one whole journal.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The file is no recording, or not a whole one.
    #[error("{file}: {error}")]
    Recording {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: RecordingError,
    },
    /// The fold here is not the one that the leader had.
    #[error("diverged: the state at frame {number} is not the one that its leader had; report it with the journal")]
    Diverged {
        /// The frame with the digest.
        number: u64,
    },
}
