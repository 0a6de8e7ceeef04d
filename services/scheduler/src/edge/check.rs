//! Limits on what callers send, and the errors that name the place.

use std::collections::HashSet;
use std::fmt;

use laneway_contract::{Actor, ApiError, ErrorCode, MAX_AMOUNT, MessageDraft, MicroUsd};
use serde_json::json;

/// The longest id, role, key or reason, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;
/// The most entries of a list of names.
const MAX_NAMES: usize = 128;

/// The error that names a place in the request. Never quotes what stands there.
pub(super) fn refused(code: ErrorCode, path: &str, expected: impl fmt::Display) -> ApiError {
    ApiError::new(code, format!("{path} {expected}")).with_details(json!({"path": path}))
}

pub(super) fn bad(path: &str, expected: impl fmt::Display) -> ApiError {
    refused(ErrorCode::BadRequest, path, expected)
}

/// A name: 1 to 128 bytes without control characters, so that it can be printed in any terminal.
pub(super) fn name(path: &str, value: &str) -> Result<(), ApiError> {
    if !(1..=MAX_NAME_BYTES).contains(&value.len()) {
        return Err(bad(path, format_args!("has {} bytes: it must have 1 to {MAX_NAME_BYTES}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(bad(path, "has control characters: it must have none"));
    }
    Ok(())
}

pub(super) fn optional_name(path: &str, value: Option<&String>) -> Result<(), ApiError> {
    value.map_or(Ok(()), |value| name(path, value))
}

pub(super) fn names(path: &str, values: &[String]) -> Result<(), ApiError> {
    count(path, values.len(), 0, MAX_NAMES)?;
    values.iter().enumerate().try_for_each(|(index, value)| name(&format!("{path}[{index}]"), value))
}

pub(super) fn count(path: &str, found: usize, least: usize, most: usize) -> Result<(), ApiError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(bad(path, format_args!("has {found} entries: it must have {least} to {most}")))
    }
}

/// A number within its bounds; the default where none is given.
pub(super) fn number<N>(path: &str, value: Option<N>, least: N, most: N, default: N) -> Result<N, ApiError>
where
    N: PartialOrd + fmt::Display + Copy,
{
    let value = value.unwrap_or(default);
    if value >= least && value <= most {
        Ok(value)
    } else {
        Err(bad(path, format_args!("is {value}: it must be {least} to {most}")))
    }
}

/// A number within its bounds, where one is given.
pub(super) fn optional_number<N>(path: &str, value: Option<N>, least: N, most: N) -> Result<Option<N>, ApiError>
where
    N: PartialOrd + fmt::Display + Copy,
{
    value.map(|value| number(path, Some(value), least, most, value)).transpose()
}

/// An amount of tokens or money, where one is given.
pub(super) fn amounts(tokens: (&str, Option<u64>), usd: (&str, Option<MicroUsd>)) -> Result<(), ApiError> {
    optional_number(tokens.0, tokens.1, 0, MAX_AMOUNT)?;
    if usd.1.is_some_and(|usd| usd.0 > MAX_AMOUNT) {
        return Err(bad(usd.0, format_args!("must be at most {}", MicroUsd(MAX_AMOUNT))));
    }
    Ok(())
}

/// A MIME type of printable ASCII, 1 to 128 bytes.
pub(super) fn content_type(path: &str, value: &str) -> Result<(), ApiError> {
    name(path, value)?;
    if value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && value.contains('/') {
        Ok(())
    } else {
        Err(bad(path, "must be a MIME type as in text/plain"))
    }
}

/// One request must not name two messages alike.
pub(super) fn distinct(list: &str, messages: &[MessageDraft]) -> Result<(), ApiError> {
    let mut seen = HashSet::with_capacity(messages.len());
    match messages.iter().position(|message| !seen.insert(message.message_id)) {
        None => Ok(()),
        Some(index) => Err(bad(&format!("{list}[{index}].message_id"), "must differ from the ids before it")),
    }
}

/// Who asks, and why.
pub(super) fn actor(actor: &Actor, reason: &str) -> Result<(), ApiError> {
    name("actor.id", &actor.id)?;
    if reason.len() <= MAX_NAME_BYTES {
        Ok(())
    } else {
        Err(bad("reason", format_args!("has {} bytes: at most {MAX_NAME_BYTES}", reason.len())))
    }
}
