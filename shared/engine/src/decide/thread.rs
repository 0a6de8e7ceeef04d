//! Sessions and their threads: create, append.

use laneway_contract::{
    ApiError, Artifact, ErrorCode, Event, KeySaid, MessageDraft, MessageRecord, MessageRole, RunId, SessionCreation,
    SessionId, StoreSaid, Timestamp,
};
use serde_json::json;

use super::open;
use crate::command::{Append, Create, NewSession};
use crate::state::State;

impl State {
    pub(super) fn create(&self, command: &Create, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let new = &command.session;
        if let Some(known) = self.sessions.get(&new.session_id) {
            if known.fingerprint == command.fingerprint {
                return Ok(Vec::new());
            }
            let id = new.session_id;
            let policy = known.creation.fields.memory_policy;
            if policy != new.fields.memory_policy {
                return Err(ApiError::new(
                    ErrorCode::MemoryPolicyImmutable,
                    format!("session {id} has memory policy {policy}, which never changes: use another session_id"),
                ));
            }
            return Err(ApiError::new(
                ErrorCode::IdempotencyConflict,
                format!("session {id} was created with other content: use another session_id"),
            ));
        }
        self.create_events(new, &command.artifacts, command.fingerprint, now)
    }

    /// The events that make a session with its first messages.
    pub(super) fn create_events(
        &self,
        new: &NewSession,
        artifacts: &[Artifact],
        fingerprint: laneway_contract::Fingerprint,
        now: Timestamp,
    ) -> Result<Vec<Event>, ApiError> {
        let mut fields = new.fields.clone();
        if let Some(parent) = fields.parent_session_id {
            let parent = self.known(parent)?;
            open(parent)?;
            fields.spawn_depth = parent.creation.fields.spawn_depth + 1;
        }
        let session_id = new.session_id;
        let session = SessionCreation { session_id, fields, created_at: now };
        let mut events: Vec<Event> = artifacts.iter().cloned().map(Event::ArtifactStored).collect();
        events.push(Event::SessionCreated { session: Box::new(session), fingerprint });
        events.extend(appended(session_id, 0, &new.messages, None, now));
        Ok(events)
    }

    pub(super) fn append(&self, command: &Append, said: &[StoreSaid], now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let session = self.known(command.session_id)?;
        let held = session.keys.get(&command.key).map(|taken| taken.fingerprint);
        let lost = || match self.key_said(command.session_id, said) {
            KeySaid::Taken(taken) => Some(taken.fingerprint),
            KeySaid::Absent | KeySaid::NotAsked => None,
        };
        if let Some(fingerprint) = held.or_else(lost) {
            if fingerprint == command.fingerprint {
                return Ok(Vec::new());
            }
            return Err(ApiError::new(
                ErrorCode::IdempotencyConflict,
                "this idempotency_key was used with other messages: use a new key for new content",
            ));
        }
        open(session)?;
        if command.messages.is_empty() {
            return Err(ApiError::new(ErrorCode::BadRequest, "messages is empty: send at least one"));
        }
        if let Some(message) = command.messages.iter().find(|message| message.role != MessageRole::User) {
            return Err(ApiError::new(
                ErrorCode::RoleForbidden,
                format!("a caller appends USER messages only, not {}", message.role),
            ));
        }
        if let Some(expected) = command.expected_tail
            && expected != session.tail
        {
            return Err(ApiError::new(
                ErrorCode::TailMismatch,
                format!("the thread ends at {}, not at {expected}: read what is new and decide again", session.tail),
            )
            .with_details(json!({"tail": session.tail, "expected_tail": expected})));
        }
        let mut events: Vec<Event> = command.artifacts.iter().cloned().map(Event::ArtifactStored).collect();
        events.extend(appended(command.session_id, session.tail, &command.messages, None, now));
        events.push(Event::AppendKeyTaken {
            session_id: command.session_id,
            key: command.key.clone(),
            fingerprint: command.fingerprint,
            first_seq: session.tail + 1,
            last_seq: session.tail + command.messages.len() as u64,
        });
        Ok(events)
    }
}

/// Messages at the end of a thread that reaches to `tail`.
pub(super) fn appended(
    session_id: SessionId,
    tail: u64,
    messages: &[MessageDraft],
    by: Option<(RunId, u32)>,
    now: Timestamp,
) -> Vec<Event> {
    let place = |(index, draft): (usize, &MessageDraft)| {
        Event::MessageAppended(Box::new(MessageRecord {
            message_id: draft.message_id,
            session_id,
            seq: tail + 1 + index as u64,
            role: draft.role,
            content_hash: draft.content,
            content_artifact_id: draft.content,
            content_type: draft.content_type.clone(),
            size: draft.size,
            timestamp: now,
            token_count: draft.token_count,
            redacted: false,
            tool_call_id: draft.tool_call_id.clone(),
            attachments: draft.attachments.clone(),
            source: draft.source.clone(),
            run_id: by.map(|(run, _)| run),
            // An attempt of 0 stands for the run's input, which no attempt produced.
            attempt: by.map(|(_, attempt)| attempt).filter(|attempt| *attempt > 0),
            finish: draft.finish,
        }))
    };
    messages.iter().enumerate().map(place).collect()
}
