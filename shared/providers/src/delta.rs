//! What comes back from a provider.

use futures::stream::{BoxStream, StreamExt};
use laneway_contract::{Finish, Usage};

use crate::error::ProviderError;

/// One piece of an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text of the answer.
    Text(String),
    /// More text of the model's thinking.
    Thinking(String),
    /// Tokens of the whole call so far; a later one replaces an earlier one.
    Usage(Usage),
    /// The model came to an end. The last item of a good stream.
    Finish(Finish),
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Thinking(text) => write!(f, "Thinking({} bytes)", text.len()),
            Self::Usage(usage) => write!(f, "{usage:?}"),
            Self::Finish(finish) => write!(f, "Finish({finish})"),
        }
    }
}

/// An answer while it comes. It ends after its first [`Delta::Finish`] or its first error, whichever comes first.
/// Dropping it closes the connection to the provider.
pub type DeltaStream = BoxStream<'static, Result<Delta, ProviderError>>;

/// Makes any stream keep the promise of [`DeltaStream`]: an end that says nothing is a truncation.
pub(crate) fn whole(stream: DeltaStream) -> DeltaStream {
    futures::stream::unfold(Some(stream), |state| async move {
        let mut stream = state?;
        match stream.next().await {
            Some(Ok(Delta::Finish(finish))) => Some((Ok(Delta::Finish(finish)), None)),
            Some(Ok(delta)) => Some((Ok(delta), Some(stream))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(ProviderError::Truncated), None)),
        }
    })
    .boxed()
}
