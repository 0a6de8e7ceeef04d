//! Limits on what callers send.

use std::collections::HashSet;
use std::fmt;

use laneway_contract::{ApiError, CreateSession, ErrorCode, MAX_AMOUNT, MessageDraft, MicroUsd};

/// The longest id, role, key or label, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;
/// The most entries of a list of names in one session.
pub(super) const MAX_NAMES: usize = 128;
/// The most labels of a session.
pub(super) const MAX_LABELS: usize = 32;
/// The most attachments of a message.
pub(super) const MAX_ATTACHMENTS: usize = 32;

/// Where in a request something stands; written only when it is wrong.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Field(&'a str),
    Entry(&'a str, usize),
    Message(&'a str, usize, &'a str),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Entry(list, index) => write!(f, "{list}[{index}]"),
            Self::Message(list, index, field) => write!(f, "{list}[{index}].{field}"),
        }
    }
}

/// The error that names a place in the request.
pub(super) fn refused(code: ErrorCode, at: At<'_>, expected: impl fmt::Display) -> ApiError {
    let path = at.to_string();
    ApiError::new(code, format!("{path} {expected}")).with_details(serde_json::json!({"path": path}))
}

pub(super) fn bad(at: At<'_>, expected: impl fmt::Display) -> ApiError {
    refused(ErrorCode::BadRequest, at, expected)
}

/// A name: 1 to 128 bytes without control characters, so that it can be printed in any terminal.
pub(super) fn name(at: At<'_>, value: &str) -> Result<(), ApiError> {
    if !(1..=MAX_NAME_BYTES).contains(&value.len()) {
        return Err(bad(at, format_args!("has {} bytes: it must have 1 to {MAX_NAME_BYTES}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(bad(at, "has control characters: it must have none"));
    }
    Ok(())
}

/// The amounts of a budget.
pub(super) fn amounts(request: &CreateSession) -> Result<(), ApiError> {
    let amounts = [("budget_tokens", request.budget_tokens), ("budget_usd", request.budget_usd.map(|usd| usd.0))];
    let over = amounts.into_iter().find(|(_, amount)| amount.is_some_and(|amount| amount > MAX_AMOUNT));
    over.map_or(Ok(()), |(field, _)| {
        let most = if field == "budget_usd" { MicroUsd(MAX_AMOUNT).to_string() } else { MAX_AMOUNT.to_string() };
        Err(bad(At::Field(field), format_args!("must be at most {most}")))
    })
}

pub(super) fn optional_name(field: &str, value: Option<&String>) -> Result<(), ApiError> {
    value.map_or(Ok(()), |value| name(At::Field(field), value))
}

pub(super) fn names(field: &str, values: &[String]) -> Result<(), ApiError> {
    count(At::Field(field), values.len(), 0, MAX_NAMES)?;
    values.iter().enumerate().try_for_each(|(index, value)| name(At::Entry(field, index), value))
}

/// The value of a label may be empty; its name may not.
pub(super) fn label(key: &str, value: &str) -> Result<(), ApiError> {
    name(At::Field("labels"), key)?;
    if value.len() <= MAX_NAME_BYTES {
        Ok(())
    } else {
        Err(bad(At::Field("labels"), format_args!("has a value of {} bytes: at most {MAX_NAME_BYTES}", value.len())))
    }
}

pub(super) fn count(at: At<'_>, found: usize, least: usize, most: usize) -> Result<(), ApiError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(bad(at, format_args!("has {found} entries: it must have {least} to {most}")))
    }
}

/// A MIME type of printable ASCII, 1 to 128 bytes.
pub(super) fn content_type(at: At<'_>, value: &str) -> Result<(), ApiError> {
    name(at, value)?;
    if value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && value.contains('/') {
        Ok(())
    } else {
        Err(bad(at, "must be a MIME type as in text/plain"))
    }
}

/// One request must not name two messages alike.
pub(super) fn distinct(list: &str, messages: &[MessageDraft]) -> Result<(), ApiError> {
    let mut seen = HashSet::with_capacity(messages.len());
    match messages.iter().position(|message| !seen.insert(message.message_id)) {
        None => Ok(()),
        Some(index) => Err(bad(At::Message(list, index, "message_id"), "must differ from the ids before it")),
    }
}
