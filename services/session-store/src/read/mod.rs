//! Reads of the view. Each is of one position; what they answer fits a reply.

mod artifacts;
mod cursor;
mod live;
mod messages;
mod page;
mod runs;
mod sessions;
mod window;

#[cfg(test)]
mod tests;

use laneway_contract::{ApiError, ArtifactId, Epoch, ErrorCode, HashKey, JobState, MAX_PAGE, RunId, SessionId};

use crate::view::{Reading, ViewError};

pub(crate) use artifacts::{is_text, text_of};

/// Why a read is refused or fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("no {what} has the id {id}")]
    NotFound { what: &'static str, id: String },
    #[error("the window of run {run} belongs to epoch {held}, not {asked}: claim the run again")]
    StaleEpoch { run: RunId, held: Epoch, asked: Epoch },
    #[error("run {run} has ended as {state}: it has no window any more")]
    RunTerminal { run: RunId, state: JobState },
    #[error("{field} {expected}")]
    Malformed { field: &'static str, expected: String },
    #[error(
        "the deployment's hash key is not known here yet: the journal has no first frame, or it is not read that far"
    )]
    NoHashKey,
    #[error("artifact {0} is altered: its bytes have another hash")]
    Altered(ArtifactId),
    #[error("artifact {0} is named by a message and is not there")]
    Lost(ArtifactId),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("storage: {0}")]
    Storage(#[from] fjall::Error),
    #[error(transparent)]
    Encoding(ApiError),
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        let fault = |message: String| {
            tracing::error!(error = %message, "a read of the view failed");
            Self::new(ErrorCode::Internal, message)
        };
        match error {
            ReadError::NotFound { what, id } => {
                Self::new(ErrorCode::NotFound, message).with_details(serde_json::json!({"what": what, "id": id}))
            }
            ReadError::StaleEpoch { held, .. } => {
                Self::new(ErrorCode::StaleEpoch, message).with_details(serde_json::json!({"epoch": held}))
            }
            ReadError::RunTerminal { state, .. } => {
                Self::new(ErrorCode::RunTerminal, message).with_details(serde_json::json!({"state": state}))
            }
            ReadError::Malformed { field, .. } => {
                Self::new(ErrorCode::BadRequest, message).with_details(serde_json::json!({"path": field}))
            }
            ReadError::NoHashKey => Self::new(ErrorCode::Unavailable, message),
            ReadError::Altered(artifact) | ReadError::Lost(artifact) => {
                fault(message).with_details(serde_json::json!({"artifact_id": artifact}))
            }
            ReadError::View(_) | ReadError::Storage(_) => {
                fault(message);
                Self::new(ErrorCode::Internal, "the view cannot be read: see the store's log")
            }
            ReadError::Encoding(error) => error,
        }
    }
}

impl ReadError {
    /// The error for a caller, naming the field of the request that led here.
    pub(crate) fn at(self, path: String) -> ApiError {
        let mut error = ApiError::from(self);
        error.details["path"] = path.into();
        error
    }
}

impl Reading {
    /// The frame up to which this is true.
    pub(crate) fn journal_seq(&self) -> u64 {
        self.position.number
    }

    pub(crate) fn hash_key(&self) -> Result<&HashKey, ReadError> {
        self.view.hash_key().ok_or(ReadError::NoHashKey)
    }
}

fn no_session(id: SessionId) -> ReadError {
    ReadError::NotFound { what: "session", id: id.to_string() }
}

/// The rows of a page.
fn limit(asked: Option<u32>) -> Result<usize, ReadError> {
    match asked.unwrap_or(laneway_contract::DEFAULT_PAGE) {
        rows @ 1..=MAX_PAGE => Ok(rows as usize),
        _ => Err(ReadError::Malformed { field: "limit", expected: format!("must be 1 to {MAX_PAGE}") }),
    }
}

/// The first seq of a range.
fn first_seq(asked: Option<u64>) -> Result<u64, ReadError> {
    match asked {
        Some(0) => Err(ReadError::Malformed { field: "from_seq", expected: "must be 1 or more".to_owned() }),
        asked => Ok(asked.unwrap_or(1)),
    }
}
