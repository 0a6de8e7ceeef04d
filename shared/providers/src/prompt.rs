//! What is sent to a provider.

use laneway_contract::{MessageRole, ReasoningEffort};

/// One request to a model. Its `Debug` shows no content.
#[derive(Clone, PartialEq)]
pub struct Prompt {
    /// The window, in order.
    pub messages: Vec<PromptMessage>,
    /// Settings of the call.
    pub settings: Settings,
}

/// A message of the window.
#[derive(Clone, PartialEq, Eq)]
pub struct PromptMessage {
    /// Who speaks.
    pub role: MessageRole,
    /// What it says.
    pub content: String,
    /// The tool call that this asks for or answers.
    pub tool_call_id: Option<String>,
}

/// Settings of a call; what is not set is the provider's choice.
#[derive(Clone, Default, PartialEq)]
pub struct Settings {
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// The most tokens of the answer.
    pub max_output_tokens: Option<u64>,
    /// Sequences at which the model stops.
    pub stop: Vec<String>,
    /// A JSON schema that the answer must follow.
    pub response_schema: Option<serde_json::Value>,
    /// How long the model thinks.
    pub reasoning_effort: Option<ReasoningEffort>,
}

impl Prompt {
    /// Bytes of all messages, for an estimate of their tokens.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.content.len() as u64).sum()
    }
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prompt({} messages, {} bytes)", self.messages.len(), self.content_bytes())
    }
}
