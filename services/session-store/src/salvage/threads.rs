//! What is new of one session.

use laneway_contract::{
    Actor, Event, EvictedSession, KeyAnswer, MessageRecord, SessionCreation, SessionId, SessionState, SessionStatus,
};

use super::Salvaged;
use super::live::Live;
use crate::view::{Reading, Space, ViewError, decode, message_key, session_key};

/// Why a state is another, and who set a pause again.
const REASON: &str = "journal repaired";

/// What is new of one session, and what there was before.
#[derive(Debug, Default)]
pub(super) struct Thread {
    /// In the order of the thread.
    pub(super) messages: Vec<MessageRecord>,
    pub(super) keys: Vec<(String, KeyAnswer)>,
    pub(super) status: Option<SessionStatus>,
    pub(super) paused: Option<bool>,
    creation: Option<SessionCreation>,
    /// What the leader had given up of it when the journal was cut.
    evicted: Option<EvictedSession>,
    status_before: Option<SessionStatus>,
    paused_before: bool,
    /// The last message that the journal has kept.
    tail: u64,
}

impl Thread {
    /// Looks up what there was before.
    pub(super) fn before(&mut self, id: SessionId, held: &Reading, kept: &Reading) -> Result<(), ViewError> {
        let key = session_key(id);
        let creation = held.value(Space::Sessions, &key)?;
        self.creation = creation.map(|value| decode(Space::Sessions, &value)).transpose()?;
        let evicted = kept.value(Space::Evicted, &key)?;
        self.evicted = evicted.map(|value| decode(Space::Evicted, &value)).transpose()?;
        let status = kept.value(Space::Statuses, &key)?;
        self.status_before = status.map(|value| decode(Space::Statuses, &value)).transpose()?;
        let paused = kept.value(Space::Pauses, &key)?;
        self.paused_before = paused.map(|value| decode(Space::Pauses, &value)).transpose()?.unwrap_or(false);
        let last = kept.range(Space::Messages, message_key(id, 0), message_key(id, u64::MAX)).next_back();
        if let Some(last) = last {
            let (_, value) = last.into_inner()?;
            self.tail = decode::<MessageRecord>(Space::Messages, &value)?.seq;
        }
        Ok(())
    }

    /// The session comes back into the leader's memory, before anything is said of it.
    pub(super) fn loaded(&self, read_at: u64) -> Option<Event> {
        let (session, record) = self.creation.clone().zip(self.evicted.clone())?;
        Some(Event::SessionLoaded { session: Box::new(session), record: Box::new(record), read_at })
    }

    /// The messages that follow those of the journal without a gap, each append's key behind its last.
    pub(super) fn messages(&self, id: SessionId, found: &mut Salvaged) {
        let mut tail = self.tail;
        for message in &self.messages {
            if message.seq != tail + 1 {
                found.broken.push((id, tail + 1));
                break;
            }
            tail = message.seq;
            found.messages += 1;
            found.events.push(Event::MessageAppended(Box::new(message.clone())));
            for (key, taken) in self.keys.iter().filter(|(_, taken)| taken.last_seq == tail) {
                found.append_keys += 1;
                found.events.push(Event::AppendKeyTaken {
                    session_id: id,
                    key: key.clone(),
                    fingerprint: taken.fingerprint,
                    first_seq: taken.first_seq,
                    last_seq: taken.last_seq,
                });
            }
        }
    }

    /// Pause, state and totals. The state is the one that the leader derives from the runs that are left.
    pub(super) fn state(self, id: SessionId, live: &Live) -> Vec<Event> {
        let mut events = Vec::new();
        let paused = self.paused.unwrap_or(self.paused_before);
        if paused != self.paused_before {
            let (actor, reason) = (Actor::runtime(), REASON.to_owned());
            events.push(Event::SessionPauseSet { session_id: id, paused, actor, reason });
        }
        let (Some(creation), Some(known)) = (self.creation, self.status.or_else(|| self.status_before.clone())) else {
            return events;
        };
        let current = live.current(id);
        let state = match current {
            _ if known.state.is_terminal() => known.state,
            Some((_, Some(state))) => state,
            Some((_, None)) | None if paused => SessionState::Paused,
            Some((_, None)) | None if live.claimed.contains(&id) => SessionState::Idle,
            Some((_, None)) | None => SessionState::Created,
        };
        let from = self.status_before.as_ref().map_or(SessionState::Created, |before| before.state);
        let current_run_id = current.map(|(run, _)| run);
        let status = SessionStatus { state, current_run_id, paused, ..known };
        if state != from {
            let duration_ms = status.since.millis_since(creation.created_at);
            let reason = REASON.to_owned();
            events.push(Event::SessionStateChanged { session_id: id, from, reason, status, duration_ms });
        } else if self.status_before.as_ref() != Some(&status) {
            events.push(Event::SessionTouched { session_id: id, status });
        }
        events
    }
}
