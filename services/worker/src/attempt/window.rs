//! What an attempt sends to its provider: the window of its thread, and the texts of its settings.

use std::time::Duration;

use laneway_contract::{
    ApiError, ArtifactId, ArtifactReply, ClaimReply, Endpoint, ErrorCode, GetArtifact, ReadWindow, WindowMessage,
    WindowPage,
};
use laneway_providers::{Prompt, PromptMessage, Settings};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ending::{Ending, Halt};
use crate::run::Worker;

/// What stands for the content of a message that was taken out.
const REDACTED: &str = "[redacted]";
/// Between two rounds of tries, while no session store answers.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads it. Waits for the session store as long as the lease lasts.
pub(crate) async fn read(worker: &Worker, claim: &ClaimReply) -> Result<Prompt, Ending> {
    let mut messages = Vec::new();
    let mut from_seq = None;
    loop {
        let request = ReadWindow { run_id: claim.run_id, epoch: claim.epoch, from_seq, min_seq: claim.journal_seq };
        let page: WindowPage = ask(worker, Endpoint::SessionsWindow, &request).await?;
        for message in page.messages {
            messages.push(prompt_message(message)?);
        }
        match page.next_seq {
            Some(next) => from_seq = Some(next),
            None => break,
        }
    }
    let stop = match claim.generation.stop {
        Some(id) => parse(&text(worker, claim, id).await?)?,
        None => Vec::new(),
    };
    let response_schema = match claim.generation.response_schema {
        Some(id) => Some(parse(&text(worker, claim, id).await?)?),
        None => None,
    };
    let settings = Settings {
        temperature: claim.generation.temperature,
        max_output_tokens: claim.generation.max_output_tokens,
        stop,
        response_schema,
        reasoning_effort: claim.generation.reasoning_effort,
    };
    Ok(Prompt { messages, settings })
}

/// A message of the window as the provider gets it.
fn prompt_message(message: WindowMessage) -> Result<PromptMessage, Ending> {
    if !message.attachments.is_empty() {
        return Err(Ending::unsendable("a message of the window has attachments, which no provider here takes"));
    }
    let content = match message.content {
        Some(content) => content,
        None if message.redacted => REDACTED.to_owned(),
        None => return Err(Ending::unsendable("a message of the window is not text, which no provider here takes")),
    };
    Ok(PromptMessage { role: message.role, content, tool_call_id: message.tool_call_id })
}

async fn text(worker: &Worker, claim: &ClaimReply, artifact_id: ArtifactId) -> Result<String, Ending> {
    let request = GetArtifact { artifact_id, min_seq: Some(claim.journal_seq) };
    let reply: ArtifactReply = ask(worker, Endpoint::ArtifactsGet, &request).await?;
    let bytes = reply.bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    reply.text.or(bytes).ok_or_else(|| Ending::unsendable("a setting of the run is not text"))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Ending> {
    serde_json::from_str(text).map_err(|_| Ending::unsendable("a setting of the run is not what it should be in JSON"))
}

async fn ask<Q: Serialize, R: DeserializeOwned>(worker: &Worker, endpoint: Endpoint, request: &Q) -> Result<R, Ending> {
    loop {
        match worker.bus.request(endpoint, request).await {
            Ok(reply) => return Ok(reply),
            Err(error) => refused(&error)?,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What an error means; nothing when the same request may be answered later.
fn refused(error: &ApiError) -> Result<(), Ending> {
    match error.code {
        ErrorCode::Unavailable | ErrorCode::Overloaded => {
            tracing::warn!(%error, "waiting for the session store");
            Ok(())
        }
        ErrorCode::StaleEpoch | ErrorCode::RunTerminal => Err(Ending::Halted(Halt::Refused)),
        ErrorCode::BadRequest
        | ErrorCode::UnknownField
        | ErrorCode::PayloadTooLarge
        | ErrorCode::Forbidden
        | ErrorCode::RoleForbidden
        | ErrorCode::NotFound
        | ErrorCode::SessionTerminal
        | ErrorCode::MemoryPolicyImmutable
        | ErrorCode::TailMismatch
        | ErrorCode::IdempotencyConflict
        | ErrorCode::Busy
        | ErrorCode::AlreadyClaimed
        | ErrorCode::UnknownJobKind
        | ErrorCode::UnsupportedCapability
        | ErrorCode::UnknownModel
        | ErrorCode::ExceedsLimit
        | ErrorCode::QueueFull
        | ErrorCode::Internal => Err(Ending::no_window(error.code.as_str())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use laneway_contract::{ApiError, ArtifactId, ErrorCode, MessageRole, WindowMessage};

    use super::{Ending, Halt, REDACTED, parse, prompt_message, refused};

    fn message(content: Option<&str>) -> WindowMessage {
        WindowMessage {
            role: MessageRole::ToolResult,
            content: content.map(str::to_owned),
            redacted: false,
            tool_call_id: Some("c".to_owned()),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn a_message_keeps_role_content_and_call() {
        let sent = prompt_message(message(Some("hi"))).unwrap();
        assert_eq!((sent.role, sent.content.as_str()), (MessageRole::ToolResult, "hi"));
        assert_eq!(sent.tool_call_id.as_deref(), Some("c"));
    }

    #[test]
    fn what_cannot_be_sent_is_never_left_out_silently() {
        let mut redacted = message(None);
        redacted.redacted = true;
        assert_eq!(prompt_message(redacted).unwrap().content, REDACTED);
        assert!(matches!(prompt_message(message(None)), Err(Ending::Failed(_))));
        let mut attached = message(Some("see"));
        attached.attachments.push(ArtifactId::from_bytes([2; 32]));
        assert!(matches!(prompt_message(attached), Err(Ending::Failed(_))));
    }

    #[test]
    fn settings_are_read_as_json() {
        assert_eq!(parse::<Vec<String>>(r#"["END"]"#).unwrap(), ["END"]);
        assert!(matches!(parse::<Vec<String>>("END"), Err(Ending::Failed(error)) if !error.message.contains("END")));
    }

    #[test]
    fn errors_end_the_attempt_or_are_waited_out() {
        let check = |code| refused(&ApiError::new(code, ""));
        assert_eq!(check(ErrorCode::Unavailable), Ok(()));
        assert_eq!(check(ErrorCode::StaleEpoch), Err(Ending::Halted(Halt::Refused)));
        assert!(matches!(check(ErrorCode::NotFound), Err(Ending::Failed(error)) if error.retryable));
    }
}
