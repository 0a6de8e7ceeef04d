//! The input of a run: USER messages.

use std::collections::BTreeSet;

use laneway_contract::{
    ApiError, ArtifactId, Content, ErrorCode, Input, MAX_MESSAGES, MessageDraft, MessageId, MessageRole, NewMessage,
    Source,
};

use super::check::{self, bad, refused};
use super::contents::Contents;

/// The most attachments of a message.
const MAX_ATTACHMENTS: usize = 32;
/// The most attachments of all messages of a run, which are part of its record.
const MAX_ATTACHMENTS_IN_ALL: usize = 1_000;

/// The messages of an input, which enter the thread when the run is first claimed.
pub(super) fn drafts(contents: &mut Contents<'_>, input: Option<Input>) -> Result<Vec<MessageDraft>, ApiError> {
    let messages = match input {
        None => return Ok(Vec::new()),
        Some(Input::Text(text)) => {
            let stored = contents.take("input", Content::Text(text), None)?;
            return Ok(vec![MessageDraft {
                message_id: MessageId::generate(),
                role: MessageRole::User,
                content: stored.id,
                content_type: stored.content_type,
                size: stored.size,
                token_count: None,
                tool_call_id: None,
                attachments: Vec::new(),
                source: Source::Caller,
                finish: None,
            }]);
        }
        Some(Input::Messages(messages)) => messages,
    };
    check::count("input", messages.len(), 1, MAX_MESSAGES)?;
    let attachments = messages.iter().map(|message| message.attachments.len()).sum();
    check::count("attachments", attachments, 0, MAX_ATTACHMENTS_IN_ALL)?;
    let draft = |(index, message)| draft(contents, &format!("input[{index}]"), message);
    let drafts = messages.into_iter().enumerate().map(draft).collect::<Result<Vec<_>, _>>()?;
    check::distinct("input", &drafts)?;
    Ok(drafts)
}

fn draft(contents: &mut Contents<'_>, path: &str, message: NewMessage) -> Result<MessageDraft, ApiError> {
    let at = |field: &str| format!("{path}.{field}");
    let role = message.role.unwrap_or(MessageRole::User);
    if role != MessageRole::User {
        let expected = format_args!("is {role}: a caller sends USER only");
        return Err(refused(ErrorCode::RoleForbidden, &at("role"), expected));
    }
    if message.tool_call_id.is_some() {
        return Err(bad(&at("tool_call_id"), "belongs to history only"));
    }
    let source = match message.source {
        None | Some(Source::Caller) => Source::Caller,
        Some(Source::Session { session_id, role, trusted }) => {
            check::name(&at("source"), &role)?;
            Source::Session { session_id, role, trusted }
        }
        Some(Source::Runtime | Source::Import) => return Err(bad(&at("source"), "must be caller or another session")),
    };
    if let Some(content_type) = &message.content_type {
        check::content_type(&at("content_type"), content_type)?;
    }
    check::count(&at("attachments"), message.attachments.len(), 0, MAX_ATTACHMENTS)?;
    contents.attached(&at("attachments"), &message.attachments)?;
    let stored = contents.take(&at("content"), message.content, message.content_type.as_deref())?;
    Ok(MessageDraft {
        message_id: message.message_id.unwrap_or_else(MessageId::generate),
        role,
        content: stored.id,
        content_type: stored.content_type,
        size: stored.size,
        token_count: None,
        tool_call_id: None,
        attachments: message.attachments,
        source,
        finish: None,
    })
}

/// The artifacts that an input names and does not bring.
pub(super) fn referenced(input: Option<&Input>, found: &mut BTreeSet<ArtifactId>) {
    let Some(Input::Messages(messages)) = input else { return };
    for message in messages {
        found.extend(message.attachments.iter().copied());
        if let Content::Artifact { artifact_id } = &message.content {
            found.insert(*artifact_id);
        }
    }
}
