//! A turn: a command's events, then all that follows from them, applied as they come.

use laneway_contract::{ApiError, Event, SessionId, SessionState, Timestamp};

use crate::command::Command;
use crate::hints::Hints;
use crate::state::State;
use crate::weight::{MAX_TURN_BYTES, weight};

/// The most events of one turn; what is left follows in the next.
pub const MAX_TURN_EVENTS: usize = 1_000;

/// What a turn came to. Its events are applied; its effects may leave once they are in the journal.
#[derive(Debug, Default)]
pub struct Decided {
    /// The events in order.
    pub events: Vec<Event>,
    /// Whether [`State::tick`] has more to do at once.
    pub more: bool,
}

impl State {
    /// Decides a command, applies the events, and goes on with all that follows from them. An error has changed nothing.
    pub fn turn(&mut self, command: &Command, hints: &Hints, now: Timestamp) -> Result<Decided, ApiError> {
        let mut outcome = Decided { events: self.decide(command, now)?, more: false };
        self.take(&outcome.events, now);
        let changes = self.state_changes(&outcome.events, now);
        self.take(&changes, now);
        outcome.events.extend(changes);
        self.follow_up(&mut outcome, hints, now);
        Ok(outcome)
    }

    /// Does what time, announcements and freed limits make due.
    pub fn tick(&mut self, hints: &Hints, now: Timestamp) -> Decided {
        let mut outcome = Decided::default();
        self.follow_up(&mut outcome, hints, now);
        outcome
    }

    fn follow_up(&mut self, outcome: &mut Decided, hints: &Hints, now: Timestamp) {
        let mut bytes: usize = outcome.events.iter().map(weight).sum();
        while outcome.events.len() < MAX_TURN_EVENTS / 2 && bytes < MAX_TURN_BYTES {
            let mut step = self.schedule(hints, now);
            if step.is_empty() {
                return;
            }
            self.take(&step, now);
            let changes = self.state_changes(&step, now);
            self.take(&changes, now);
            step.extend(changes);
            bytes += step.iter().map(weight).sum::<usize>();
            outcome.events.extend(step);
        }
        outcome.more = true;
    }

    fn take(&mut self, events: &[Event], now: Timestamp) {
        for event in events {
            self.apply(event, now);
        }
    }

    /// The changes of state that follow from events that were just applied.
    fn state_changes(&self, events: &[Event], now: Timestamp) -> Vec<Event> {
        let mut seen: Vec<SessionId> = Vec::new();
        let mut changes = Vec::new();
        for id in events.iter().filter_map(Event::session_id) {
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            changes.extend(self.state_change(id, now));
        }
        changes
    }

    fn state_change(&self, id: SessionId, now: Timestamp) -> Option<Event> {
        let session = self.sessions.get(&id)?;
        let current = session.current.and_then(|run| self.runs.get(&run));
        let (from, to) = (session.status.state, session.derive_state(current));
        if from == to {
            return None;
        }
        let mut status = session.record().status;
        status.state = to;
        status.since = now;
        let reason = match to {
            SessionState::Active => "run_claimed".to_owned(),
            SessionState::Idle if from == SessionState::Paused => "resumed".to_owned(),
            SessionState::Idle => "run_ended".to_owned(),
            SessionState::Created => "resumed".to_owned(),
            SessionState::Paused => session.paused.clone().unwrap_or_default(),
            SessionState::Blocked => "decision_needed".to_owned(),
            SessionState::Completed | SessionState::Failed | SessionState::Cancelled => {
                session.ending.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default()
            }
        };
        let duration_ms = now.millis_since(session.creation.created_at);
        Some(Event::SessionStateChanged { session_id: id, from, reason, status, duration_ms })
    }
}
