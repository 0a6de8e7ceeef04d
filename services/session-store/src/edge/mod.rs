//! The edge: a request of a caller becomes a command for the leader. Checked, hashed, and with every id fixed, so that
//! sending it again is the same command.

mod artifact;
mod check;
mod contents;
mod message;
mod session;

#[cfg(test)]
mod tests;

use laneway_contract::{
    ApiError, AppendMessages, AppendReply, ErrorCode, Fingerprint, HashKey, KeyAnswer, KeySaid, MAX_MESSAGES,
    PreparedAppend,
};
use serde::Serialize;

pub(crate) use artifact::put;
pub(crate) use check::MAX_NAME_BYTES;
pub(crate) use session::create;

use crate::view::Reading;
use check::At;
use contents::Contents;

/// An append is either new to this view, or has its first answer here.
#[derive(Debug)]
pub(crate) enum Append {
    New(PreparedAppend),
    Repeated(AppendReply),
}

/// Prepares `sessions.append`.
pub(crate) fn append(reading: &Reading, request: &AppendMessages) -> Result<Append, ApiError> {
    check::count(At::Field("messages"), request.messages.len(), 1, MAX_MESSAGES)?;
    if let Some(key) = &request.idempotency_key {
        check::name(At::Field("idempotency_key"), key)?;
    }
    let fingerprint = fingerprint(reading.hash_key()?, request)?;
    let mut contents = Contents::new(reading);
    let mut messages = Vec::with_capacity(request.messages.len());
    for (index, message) in request.messages.iter().enumerate() {
        messages.push(message::appended(&mut contents, index, message)?);
    }
    check::distinct("messages", &messages)?;
    let first_id = || messages.first().map(|first| first.message_id.to_string()).unwrap_or_default();
    let key = request.idempotency_key.clone().unwrap_or_else(first_id);
    let session_id = request.session_id;
    let said = reading.said(session_id, Some(&key))?;
    if let KeySaid::Taken(taken) = said.key {
        // The key lives as long as its messages, so longer than any memory of the leader.
        return if taken.fingerprint == fingerprint {
            let KeyAnswer { first_seq, last_seq, .. } = taken;
            let journal_seq = reading.journal_seq();
            Ok(Append::Repeated(AppendReply { session_id, first_seq, last_seq, repeated: true, journal_seq }))
        } else {
            Err(ApiError::new(
                ErrorCode::IdempotencyConflict,
                "this key was taken by an append with other content: send the same content, or another key",
            )
            .with_details(serde_json::json!({"first_seq": taken.first_seq, "last_seq": taken.last_seq})))
        };
    }
    let artifacts = contents.into_new();
    let expected_tail = request.expected_tail;
    let said = vec![said];
    Ok(Append::New(PreparedAppend { session_id, messages, artifacts, key, fingerprint, expected_tail, said }))
}

/// What a request contains: half of the keyed hash of its compact encoding, before any id is made up for it.
fn fingerprint<T: Serialize>(key: &HashKey, request: &T) -> Result<Fingerprint, ApiError> {
    let hash = key.artifact_id(&crate::compact(request)?);
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    Ok(Fingerprint(u128::from_be_bytes(half)))
}
