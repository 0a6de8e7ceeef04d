//! A prompt as genai takes it.

use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, JsonSpec, MessageContent, ReasoningEffort as Effort, ToolCall, ToolResponse,
};
use laneway_contract::{MessageRole, ReasoningEffort};
use serde_json::{Value, json};

use crate::prompt::{PromptMessage, Settings};

/// The messages in the provider's roles.
pub(super) fn chat_request(messages: Vec<PromptMessage>) -> ChatRequest {
    ChatRequest::from_messages(messages.into_iter().map(chat_message).collect())
}

fn chat_message(message: PromptMessage) -> ChatMessage {
    let PromptMessage { role, content, tool_call_id } = message;
    let call_id = tool_call_id.unwrap_or_default();
    match role {
        MessageRole::System => ChatMessage::system(content),
        MessageRole::User => ChatMessage::user(content),
        MessageRole::Assistant => ChatMessage::assistant(content),
        MessageRole::ToolCall => {
            ChatMessage::assistant(MessageContent::from_tool_calls(vec![tool_call(call_id, &content)]))
        }
        MessageRole::ToolResult => ChatMessage::tool(ToolResponse::new(call_id, content)),
    }
}

/// A `TOOL_CALL` holds `{"name": …, "arguments": …}`; any other text is passed on as the argument of a tool `tool`.
fn tool_call(call_id: String, content: &str) -> ToolCall {
    let parsed = serde_json::from_str::<Value>(content).ok();
    let named = parsed.and_then(|mut call| {
        let name = call.get("name")?.as_str()?.to_owned();
        Some((name, call.get_mut("arguments").map_or_else(|| json!({}), Value::take)))
    });
    let (fn_name, fn_arguments) = named.unwrap_or_else(|| ("tool".to_owned(), json!({"input": content})));
    ToolCall { call_id, fn_name, fn_arguments, thought_signatures: None }
}

/// The settings, and the exact model name.
pub(super) fn chat_options(model: &str, settings: &Settings) -> ChatOptions {
    let effort = match settings.reasoning_effort {
        Some(ReasoningEffort::Low) => Effort::Low,
        Some(ReasoningEffort::Medium) => Effort::Medium,
        Some(ReasoningEffort::High) => Effort::High,
        // genai takes an effort from the end of the name (`-high`) unless one is set; a budget is never sent.
        None => Effort::Budget(0),
    };
    let mut options = ChatOptions::default()
        .with_capture_usage(true)
        .with_reasoning_effort(effort)
        // genai cuts a name at `::`; this field is merged over its own.
        .with_extra_body(json!({"model": model}));
    options.temperature = settings.temperature;
    options.max_tokens = settings.max_output_tokens.map(|most| u32::try_from(most).unwrap_or(u32::MAX));
    options.stop_sequences.clone_from(&settings.stop);
    if let Some(schema) = &settings.response_schema {
        options = options.with_response_format(JsonSpec::new("answer", schema.clone()));
    }
    options
}
