//! What the tests of several providers need.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use futures::StreamExt;
use laneway_contract::{
    ClaimReply, Finish, GenerationSettings, MessageRole, ModelId, RunId, SessionId, Timestamp, Usage,
};

use crate::{Attempt, Delta, DeltaStream, Prompt, PromptMessage, ProviderError, Settings};

/// A claimed attempt of a model.
pub(crate) fn attempt(model: &str, number: u32) -> Attempt {
    Attempt::claimed(lease(model, number))
}

/// An attempt that goes on after an approval.
pub(crate) fn approved(model: &str, number: u32) -> Attempt {
    Attempt::claimed(ClaimReply { approved: Some("a".to_owned()), ..lease(model, number) })
}

fn lease(model: &str, number: u32) -> ClaimReply {
    ClaimReply {
        run_id: RunId::generate(),
        session_id: SessionId::generate(),
        attempt: number,
        epoch: 1,
        model_id: ModelId::parse(model).unwrap(),
        generation: GenerationSettings::default(),
        timeout_ms: 10_000,
        submitted_at: Timestamp::ZERO,
        dispatched_at: Timestamp::ZERO,
        traceparent: None,
        tokens_left: None,
        approved: None,
        journal_seq: 1,
    }
}

/// A prompt of one USER message.
pub(crate) fn prompt(text: &str) -> Prompt {
    Prompt { messages: vec![message(MessageRole::User, text)], settings: Settings::default() }
}

/// A message.
pub(crate) fn message(role: MessageRole, text: &str) -> PromptMessage {
    PromptMessage { role, content: text.to_owned(), tool_call_id: None }
}

/// All of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) texts: Vec<String>,
    pub(crate) thinking: String,
    /// Each call of a tool, and how many pieces of text came before it.
    pub(crate) tools: Vec<(String, usize)>,
    pub(crate) approval: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<Finish>,
    pub(crate) error: Option<ProviderError>,
}

impl Answer {
    /// The text in one.
    pub(crate) fn text(&self) -> String {
        self.texts.concat()
    }
}

/// Reads a stream to its end.
pub(crate) async fn read(mut stream: DeltaStream) -> Answer {
    let mut answer = Answer::default();
    while let Some(item) = stream.next().await {
        match item {
            Ok(Delta::Text(text)) => answer.texts.push(text),
            Ok(Delta::Thinking(text)) => answer.thinking.push_str(&text),
            Ok(Delta::ToolCall { tool_call_id, .. }) => answer.tools.push((tool_call_id, answer.texts.len())),
            Ok(Delta::Approval { approval_id }) => answer.approval = Some(approval_id),
            Ok(Delta::Usage(usage)) => answer.usage = Some(usage),
            Ok(Delta::Finish(finish)) => answer.finish = Some(finish),
            Err(error) => answer.error = Some(error),
        }
    }
    answer
}
