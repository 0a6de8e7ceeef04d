//! Chat completions, at OpenAI or at any endpoint that speaks the same, through genai.
//!
//! What is odd about this way stays here:
//! - HTTP errors of a stream come as the first item, inside a stream error (`failure`).
//! - genai writes error bodies of the provider into its log; it is polled where no log is listening (`quiet`).
//! - A clean end of the connection gives no end event, so the caller's stream adapter takes it as a truncation.
//! - genai reads meaning into model names (`::`, `-high`); the request says the exact name (`request`).

mod failure;
mod quiet;
mod request;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{ChatStreamEvent, StopReason, StreamEnd};
use genai::resolver::{AuthData, Endpoint};
use genai::{Headers, ModelIden, ServiceTarget, WebConfig};
use laneway_contract::{Finish, Usage};
use secrecy::{ExposeSecret, SecretString};

use crate::attempt::Attempt;
use crate::delta::{Delta, DeltaStream};
use crate::prompt::Prompt;
use crate::provider::Provider;
use failure::classify;
use quiet::Quiet;
use request::{chat_options, chat_request};

/// Where OpenAI itself answers.
const DEFAULT_ENDPOINT: &str = "https://api.openai.com/v1/";
/// A connection that is not there after this time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// OpenAI, or an endpoint that speaks the same.
#[derive(Clone)]
pub struct OpenAi {
    client: genai::Client,
    url: Arc<str>,
    key: Option<SecretString>,
}

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL that can be called.
    #[error(
        "endpoint must begin with http:// or https:// and have no user, query or fragment, as http://127.0.0.1:8080/v1/"
    )]
    Malformed,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made: no usable TLS certificates on this machine")]
    Client,
}

impl OpenAi {
    /// A provider at `endpoint` (default: OpenAI's), with or without a key.
    pub fn new(endpoint: Option<&str>, key: Option<SecretString>) -> Result<Self, EndpointError> {
        let base = endpoint.unwrap_or(DEFAULT_ENDPOINT).trim_end_matches('/');
        let host = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
        // A user in the URL would be a credential in the configuration and in error texts.
        let plain = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !"@?#".contains(c));
        if !host.is_some_and(plain) {
            return Err(EndpointError::Malformed);
        }
        let client = genai::Client::builder()
            .with_web_config(WebConfig::default().with_connect_timeout(CONNECT_TIMEOUT))
            .build()
            .map_err(|_| EndpointError::Client)?;
        Ok(Self { client, url: format!("{base}/chat/completions").into(), key })
    }

    /// The URL and the headers are given whole, so that genai looks for no key of its own in the environment.
    fn target(&self, model: &str) -> ServiceTarget {
        let headers = self.key.as_ref().map_or_else(Headers::default, |key| {
            Headers::from(("Authorization".to_owned(), format!("Bearer {}", key.expose_secret())))
        });
        ServiceTarget {
            endpoint: Endpoint::from_static(DEFAULT_ENDPOINT),
            auth: AuthData::RequestOverride { url: self.url.to_string(), headers },
            model: ModelIden::new(AdapterKind::OpenAI, model),
        }
    }
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = if self.key.is_some() { "with a key" } else { "without a key" };
        write!(f, "OpenAi({}, {key})", self.url)
    }
}

impl Provider for OpenAi {
    fn call(&self, attempt: &Attempt, prompt: Prompt) -> DeltaStream {
        let model = attempt.model_id().model();
        let target = self.target(model);
        let options = chat_options(model, &prompt.settings);
        let request = chat_request(prompt.messages);
        let client = self.client.clone();
        let opened = async move {
            let response = client.exec_chat_stream(target, request, Some(&options)).await;
            response.map(|response| response.stream).map_err(|error| classify(&error))
        };
        let deltas = stream::once(opened)
            .map_ok(|events| events.map(|event| event.map(deltas).map_err(|error| classify(&error))))
            .try_flatten()
            .map_ok(|deltas| stream::iter(deltas.into_iter().map(Ok)))
            .try_flatten();
        Quiet::new(deltas).boxed()
    }
}

/// What an event of genai says.
fn deltas(event: ChatStreamEvent) -> Vec<Delta> {
    match event {
        ChatStreamEvent::Chunk(chunk) => vec![Delta::Text(chunk.content)],
        ChatStreamEvent::ReasoningChunk(chunk) => vec![Delta::Thinking(chunk.content)],
        ChatStreamEvent::End(end) => end_deltas(&end),
        ChatStreamEvent::Start
        | ChatStreamEvent::ThoughtSignatureChunk(_)
        | ChatStreamEvent::ToolCallChunk(_)
        | ChatStreamEvent::Heartbeat => Vec::new(),
    }
}

fn end_deltas(end: &StreamEnd) -> Vec<Delta> {
    let usage = end.captured_usage.as_ref().map(|usage| Delta::Usage(tokens(usage)));
    let finish = end.captured_stop_reason.as_ref().map(|reason| Delta::Finish(finish(reason)));
    usage.into_iter().chain(finish).collect()
}

fn finish(reason: &StopReason) -> Finish {
    match reason {
        StopReason::MaxTokens(_) => Finish::Length,
        StopReason::ToolCall(_) => Finish::ToolUse,
        StopReason::ContentFilter(_) => Finish::ContentFilter,
        // A reason that only this provider knows is still the model's own end.
        StopReason::Completed(_) | StopReason::StopSequence(_) | StopReason::Other(_) => Finish::Stop,
    }
}

fn tokens(usage: &genai::chat::Usage) -> Usage {
    let count = |tokens: Option<i32>| tokens.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Usage {
        input_tokens: count(usage.prompt_tokens),
        output_tokens: count(usage.completion_tokens),
        cached_tokens: count(usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens)),
        reasoning_tokens: count(usage.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens)),
    }
}
