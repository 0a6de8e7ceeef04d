//! What comes back from a provider.

use futures::stream::{BoxStream, StreamExt};
use laneway_contract::{Finish, Usage};
use serde_json::Value;

use crate::error::ProviderError;

/// One piece of an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text of the answer.
    Text(String),
    /// More text of the model's thinking.
    Thinking(String),
    /// The model asks for a tool. What comes behind it belongs to the same answer.
    ToolCall {
        /// The call, unique in its attempt.
        tool_call_id: String,
        /// The tool.
        name: String,
        /// What the tool is given.
        arguments: Value,
    },
    /// Tokens of the whole call so far; a later one replaces an earlier one.
    Usage(Usage),
    /// The model asks for what a person has to approve. The last item of its stream: a call with the approval goes on.
    Approval {
        /// What is to be approved.
        approval_id: String,
    },
    /// The model came to an end. The last item of a good stream.
    Finish(Finish),
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Thinking(text) => write!(f, "Thinking({} bytes)", text.len()),
            // The arguments are content.
            Self::ToolCall { tool_call_id, name, .. } => write!(f, "ToolCall({tool_call_id}, {name})"),
            Self::Usage(usage) => write!(f, "{usage:?}"),
            Self::Approval { approval_id } => write!(f, "Approval({approval_id})"),
            Self::Finish(finish) => write!(f, "Finish({finish})"),
        }
    }
}

/// An answer while it comes. It ends after its first [`Delta::Finish`], [`Delta::Approval`] or error, whichever comes first.
/// Dropping it closes the connection to the provider.
pub type DeltaStream = BoxStream<'static, Result<Delta, ProviderError>>;

/// Makes any stream keep the promise of [`DeltaStream`]: an end that says nothing is a truncation.
pub(crate) fn whole(stream: DeltaStream) -> DeltaStream {
    futures::stream::unfold(Some(stream), |state| async move {
        let mut stream = state?;
        match stream.next().await {
            Some(Ok(last @ (Delta::Finish(_) | Delta::Approval { .. }))) => Some((Ok(last), None)),
            Some(Ok(delta)) => Some((Ok(delta), Some(stream))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(ProviderError::Truncated), None)),
        }
    })
    .boxed()
}
