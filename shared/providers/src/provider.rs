//! The trait, and the closed set of providers behind it.

use laneway_contract::{ProviderKind, ProviderSpec};

use crate::attempt::Attempt;
use crate::delta::{DeltaStream, whole};
use crate::echo::Echo;
use crate::key::{KeyError, ReadEnv, read_key};
use crate::openai::{EndpointError, OpenAi};
use crate::prompt::Prompt;

/// Something that answers prompts.
pub trait Provider {
    /// Calls the model of the attempt. Nothing is sent before the stream is first polled; dropping it closes the
    /// connection.
    fn call(&self, attempt: &Attempt, prompt: Prompt) -> DeltaStream;
}

/// The providers that there are.
#[derive(Clone, Debug)]
pub enum AnyProvider {
    /// Built in.
    Echo(Echo),
    /// OpenAI, or an endpoint that speaks the same.
    Openai(OpenAi),
}

/// Why a provider of the configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It has no API key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It has no usable endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl AnyProvider {
    /// The provider that a spec describes.
    pub fn build(spec: &ProviderSpec, env: ReadEnv<'_>) -> Result<Self, BuildError> {
        match spec.kind {
            ProviderKind::Echo => Ok(Self::Echo(Echo)),
            ProviderKind::Openai => {
                let key = read_key(spec, env)?;
                Ok(Self::Openai(OpenAi::new(spec.endpoint.as_deref(), key)?))
            }
        }
    }
}

impl Provider for AnyProvider {
    fn call(&self, attempt: &Attempt, prompt: Prompt) -> DeltaStream {
        whole(match self {
            Self::Echo(echo) => echo.call(attempt, prompt),
            Self::Openai(openai) => openai.call(attempt, prompt),
        })
    }
}
