//! Model providers behind one trait. Code only: capabilities, limits and prices are data in `laneway-contract`.
//!
//! | part | what it is |
//! |---|---|
//! | [`Attempt`] | the proof of a claimed lease, without which nothing here can be called |
//! | [`Prompt`] | what is sent: messages and settings |
//! | [`Delta`] | what comes back, piece by piece |
//! | [`ProviderError`] | what can go wrong, in our words |
//! | [`Provider`] | the trait; [`AnyProvider`] is the closed set behind it |
//! | [`echo`] | built in, deterministic, for demos, tests and benchmarks |
//! | [`openai`] | chat completions, at OpenAI or at any endpoint that speaks the same |

pub mod echo;
pub mod openai;

mod attempt;
mod delta;
mod error;
mod key;
mod prompt;
mod provider;

#[cfg(test)]
mod test_support;

pub use attempt::Attempt;
pub use delta::{Delta, DeltaStream};
pub use error::ProviderError;
pub use key::{KeyError, ReadEnv};
pub use prompt::{Prompt, PromptMessage, Settings};
pub use provider::{AnyProvider, BuildError, Provider};
