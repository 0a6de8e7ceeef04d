//! What is new of one session.

use std::collections::BTreeSet;

use laneway_contract::{
    Actor, ArtifactId, Event, EvictedSession, KeyAnswer, MessageRecord, RunId, SessionCreation, SessionId,
    SessionState, SessionStatus,
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
    /// The last message that the journal has kept; behind [`Thread::messages`] the last that comes back.
    tail: u64,
    /// What messages name, and is nowhere.
    missing: BTreeSet<ArtifactId>,
}

impl Thread {
    /// Looks up what there was before.
    pub(super) fn before(&mut self, id: SessionId, held: &Reading, kept: &Reading) -> Result<(), ViewError> {
        let key = session_key(id);
        let creation = match held.value(Space::Sessions, &key)? {
            Some(creation) => Some(creation),
            None => kept.value(Space::Sessions, &key)?,
        };
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
        for artifact in self.messages.iter().flat_map(contents) {
            if !held.has(Space::Artifacts, artifact.as_bytes())? && !kept.has(Space::Artifacts, artifact.as_bytes())? {
                self.missing.insert(artifact);
            }
        }
        // A table that is older than the journal does not take a state back.
        if let (Some(status), Some(before)) = (&self.status, &self.status_before) {
            let is_older = status.since < before.since
                || status.total_tokens < before.total_tokens
                || status.messages_count < before.messages_count;
            self.status.take_if(|_| is_older);
        }
        Ok(())
    }

    /// Whether the session itself is known.
    pub(super) fn has_session(&self) -> bool {
        self.creation.is_some()
    }

    /// The session comes back into the leader's memory, before anything is said of it.
    pub(super) fn loaded(&self, read_at: u64) -> Option<Event> {
        let (session, record) = self.creation.clone().zip(self.evicted.clone())?;
        Some(Event::SessionLoaded { session: Box::new(session), record: Box::new(record), read_at })
    }

    /// The messages that follow those of the journal without a gap, each append's key behind its last. `ended` are the runs
    /// that come back.
    pub(super) fn messages(&mut self, id: SessionId, live: &Live, ended: &BTreeSet<RunId>, found: &mut Salvaged) {
        if !self.has_session() {
            found.without_session.insert(id);
            found.left_keys.extend(self.keys.drain(..).map(|(key, _)| (id, key)));
            return;
        }
        for message in &self.messages {
            let input_of = message.run_id.filter(|_| message.attempt.is_none());
            let is_waiting = input_of.is_some_and(|run| live.brings_input(run));
            let lacks_content = contents(message).any(|artifact| self.missing.contains(&artifact));
            // The input of a run that waits comes with its claim.
            if message.seq != self.tail + 1 || lacks_content || is_waiting {
                found.broken.push((id, self.tail + 1));
                break;
            }
            self.tail = message.seq;
            found.messages += 1;
            found.events.push(Event::MessageAppended(Box::new(message.clone())));
            if let Some(run) = input_of.filter(|run| !ended.contains(run) && !live.runs.contains_key(run)) {
                found.lost.insert(run);
                found.with_input.insert(run);
            }
            for (key, taken) in self.keys.extract_if(.., |(_, taken)| taken.last_seq == message.seq) {
                found.append_keys += 1;
                found.events.push(Event::AppendKeyTaken {
                    session_id: id,
                    key,
                    fingerprint: taken.fingerprint,
                    first_seq: taken.first_seq,
                    last_seq: taken.last_seq,
                });
            }
        }
        found.left_keys.extend(self.keys.drain(..).map(|(key, _)| (id, key)));
    }

    /// Pause, state and totals. The state is the one that the leader derives from the runs that are left.
    pub(super) fn state(self, id: SessionId, live: &Live) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(creation) = self.creation else { return events };
        let paused = self.paused.unwrap_or(self.paused_before);
        if paused != self.paused_before {
            let (actor, reason) = (Actor::runtime(), REASON.to_owned());
            events.push(Event::SessionPauseSet { session_id: id, paused, actor, reason });
        }
        let Some(known) = self.status.or_else(|| self.status_before.clone()) else { return events };
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
        let messages_count = known.messages_count.min(self.tail);
        let status = SessionStatus { state, current_run_id, paused, messages_count, ..known };
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

/// The artifacts that a message is made of.
fn contents(message: &MessageRecord) -> impl Iterator<Item = ArtifactId> {
    std::iter::once(message.content_artifact_id).chain(message.attachments.iter().copied())
}
