//! Messages of callers: who may say what.

use laneway_contract::{ApiError, ErrorCode, MessageDraft, MessageId, MessageRole, NewMessage, Source};

use super::check::{self, At, MAX_ATTACHMENTS, bad, refused};
use super::contents::Contents;

/// A message that a caller appends: USER only.
pub(super) fn appended(
    contents: &mut Contents<'_>,
    index: usize,
    message: &NewMessage,
) -> Result<MessageDraft, ApiError> {
    let list = "messages";
    let role = message.role.unwrap_or(MessageRole::User);
    if role != MessageRole::User {
        let expected = format_args!("is {role}: a caller appends USER only");
        return Err(refused(ErrorCode::RoleForbidden, At::Message(list, index, "role"), expected));
    }
    if message.tool_call_id.is_some() {
        return Err(bad(At::Message(list, index, "tool_call_id"), "belongs to history only"));
    }
    let source = match &message.source {
        None | Some(Source::Caller) => Source::Caller,
        Some(source @ Source::Session { .. }) => source.clone(),
        Some(Source::Runtime | Source::Import) => {
            return Err(bad(At::Message(list, index, "source"), "must be caller or another session"));
        }
    };
    draft(contents, (list, index), message, role, source)
}

/// A message of a past conversation: anything but SYSTEM, which comes from `instructions`.
pub(super) fn imported(
    contents: &mut Contents<'_>,
    index: usize,
    message: &NewMessage,
) -> Result<MessageDraft, ApiError> {
    let list = "history";
    let role = message.role.unwrap_or(MessageRole::User);
    let of_a_tool = match role {
        MessageRole::System => {
            let expected = "is SYSTEM: give it as `instructions`";
            return Err(refused(ErrorCode::RoleForbidden, At::Message(list, index, "role"), expected));
        }
        MessageRole::User | MessageRole::Assistant => false,
        MessageRole::ToolCall | MessageRole::ToolResult => true,
    };
    let call = At::Message(list, index, "tool_call_id");
    match &message.tool_call_id {
        Some(_) if !of_a_tool => return Err(bad(call, "belongs to TOOL_CALL and TOOL_RESULT only")),
        None if of_a_tool => return Err(bad(call, format_args!("is missing on a {role}"))),
        Some(id) => check::name(call, id)?,
        None => {}
    }
    match &message.source {
        None | Some(Source::Import) => {}
        Some(Source::Runtime | Source::Caller | Source::Session { .. }) => {
            return Err(bad(At::Message(list, index, "source"), "must be import"));
        }
    }
    draft(contents, (list, index), message, role, Source::Import)
}

fn draft(
    contents: &mut Contents<'_>,
    (list, index): (&str, usize),
    message: &NewMessage,
    role: MessageRole,
    source: Source,
) -> Result<MessageDraft, ApiError> {
    if let Some(content_type) = &message.content_type {
        check::content_type(At::Message(list, index, "content_type"), content_type)?;
    }
    if let Source::Session { role, .. } = &source {
        check::name(At::Message(list, index, "source"), role)?;
    }
    let attachments = At::Message(list, index, "attachments");
    check::count(attachments, message.attachments.len(), 0, MAX_ATTACHMENTS)?;
    contents.attached(attachments, &message.attachments)?;
    let at = At::Message(list, index, "content");
    let stored = contents.take(at, &message.content, message.content_type.as_deref())?;
    Ok(MessageDraft {
        message_id: message.message_id.unwrap_or_else(MessageId::generate),
        role,
        content: stored.id,
        content_type: stored.content_type,
        size: stored.size,
        token_count: None,
        tool_call_id: message.tool_call_id.clone(),
        attachments: message.attachments.clone(),
        source,
        finish: None,
    })
}
