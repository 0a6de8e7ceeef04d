//! `sessions.get` and `sessions.list`.

use laneway_contract::{
    Format, ListSessions, MicroUsd, SessionCreation, SessionId, SessionPage, SessionRecord, SessionReply, SessionState,
    SessionStatus,
};

use super::page::Room;
use super::{ReadError, cursor, limit, no_session};
use crate::edge::MAX_NAME_BYTES;
use crate::view::{IndexKey, Moment, Reading, Space, decode, session_key};

/// Index entries that one page looks at. A page that finds less ends early.
const SCAN: usize = 10_000;

impl Reading {
    /// One session.
    pub(crate) fn get_session(&self, id: SessionId) -> Result<SessionReply, ReadError> {
        let session = self.session(id)?.ok_or_else(|| no_session(id))?;
        Ok(SessionReply { session, repeated: false, journal_seq: self.journal_seq() })
    }

    /// A session as it was made, where there is one.
    pub(crate) fn creation(&self, id: SessionId) -> Result<Option<SessionCreation>, ReadError> {
        let value = self.value(Space::Sessions, session_key(id))?;
        Ok(value.map(|value| decode(Space::Sessions, &value)).transpose()?)
    }

    /// A session with what holds now, where there is one.
    pub(super) fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, ReadError> {
        let Some(SessionCreation { session_id, fields, created_at }) = self.creation(id)? else {
            return Ok(None);
        };
        let mut status = match self.value(Space::Statuses, session_key(id))? {
            Some(value) => decode(Space::Statuses, &value)?,
            None => SessionStatus {
                state: SessionState::Created,
                since: created_at,
                current_run_id: None,
                paused: false,
                total_tokens: 0,
                total_cost_usd: MicroUsd(0),
                messages_count: 0,
                context_window_used: None,
            },
        };
        let mut updated_at = status.since;
        if let Some(paused) = self.value(Space::Pauses, session_key(id))? {
            status.paused = decode(Space::Pauses, &paused)?;
        }
        if let Some(last) = self.last_message(id)? {
            status.messages_count = last.seq;
            updated_at = updated_at.max(last.timestamp);
        }
        Ok(Some(SessionRecord {
            session_id,
            fields,
            status,
            checkpoint_artifact_id: None,
            last_checkpoint_at: None,
            created_at,
            updated_at,
        }))
    }

    /// Sessions, oldest first.
    pub(crate) fn list_sessions(&self, request: &ListSessions, format: Format) -> Result<SessionPage, ReadError> {
        let rows = limit(request.limit)?;
        check_filters(request)?;
        let behind = match &request.cursor {
            Some(text) => Some(cursor::read(self.hash_key()?, request, text)?),
            None => None,
        };
        let index = narrowest(request);
        let entries =
            self.range(Space::SessionIndex, index.at(behind.unwrap_or(Moment::FIRST)), index.at(Moment::LAST));
        let mut room = Room::new(format);
        let mut page = SessionPage { sessions: Vec::new(), cursor: None, journal_seq: self.journal_seq() };
        let mut last = behind;
        for (looked_at, entry) in entries.enumerate() {
            let key = entry.key()?;
            let Some(moment) = Moment::of_key(&key).filter(|moment| Some(*moment) != behind) else {
                continue;
            };
            let found = match self.session(moment.session())? {
                Some(session) if matches(request, &session) => Some(session),
                Some(_) | None => None,
            };
            let ends = page.sessions.len() == rows || looked_at >= SCAN || !room.take(found.as_slice())?;
            if ends {
                page.cursor = last.map(|last| cursor::write(self.hash_key()?, request, last)).transpose()?;
                break;
            }
            page.sessions.extend(found);
            last = Some(moment);
        }
        Ok(page)
    }
}

/// Nothing longer was ever stored, and keys of the database have a bound.
fn check_filters(request: &ListSessions) -> Result<(), ReadError> {
    let labels = request.labels.iter().flat_map(|(name, value)| [("labels", name), ("labels", value)]);
    let ids = [("wp_id", &request.wp_id), ("role", &request.role)];
    let ids = ids.into_iter().filter_map(|(field, id)| Some((field, id.as_ref()?)));
    match ids.chain(labels).find(|(_, text)| text.len() > MAX_NAME_BYTES) {
        Some((field, _)) => {
            Err(ReadError::Malformed { field, expected: format!("must have at most {MAX_NAME_BYTES} bytes") })
        }
        None => Ok(()),
    }
}

/// The filter that is likely to leave the fewest.
fn narrowest(request: &ListSessions) -> IndexKey<'_> {
    if let Some((name, value)) = request.labels.first_key_value() {
        IndexKey::Label(name, value)
    } else if let Some(wp_id) = &request.wp_id {
        IndexKey::WorkPacket(wp_id)
    } else if let Some(role) = &request.role {
        IndexKey::Role(role)
    } else if let Some(state) = request.state {
        IndexKey::State(state)
    } else {
        IndexKey::All
    }
}

fn matches(request: &ListSessions, session: &SessionRecord) -> bool {
    let fields = &session.fields;
    request.state.is_none_or(|state| state == session.status.state)
        && request.wp_id.as_ref().is_none_or(|wp_id| fields.wp_id.as_ref() == Some(wp_id))
        && request.role.as_ref().is_none_or(|role| *role == fields.role)
        && request.labels.iter().all(|(name, value)| fields.labels.get(name) == Some(value))
}
