//! A turn: a command's events, then all that follows from them, applied as they come.

use laneway_contract::{ApiError, BudgetOwner, Event, SessionId, SessionState, Timestamp};

use crate::command::Command;
use crate::hints::Hints;
use crate::session::Session;
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
        let decided = self.decide(command, now)?;
        Ok(self.carry_out(decided, hints, now))
    }

    /// Applies what [`State::decide`] has just said, and goes on with all that follows from it.
    pub fn carry_out(&mut self, decided: Vec<Event>, hints: &Hints, now: Timestamp) -> Decided {
        let mut outcome = Decided { events: decided, more: false };
        self.take(&outcome.events, now);
        let changes = self.state_changes(&outcome.events, now);
        self.take(&changes, now);
        outcome.events.extend(changes);
        self.follow_up(&mut outcome, hints, now, false);
        outcome
    }

    /// Does what time, announcements and freed limits make due.
    pub fn tick(&mut self, hints: &Hints, now: Timestamp) -> Decided {
        let mut outcome = Decided::default();
        // What was heard, and the time, may let something start that could not.
        self.quiet = false;
        self.follow_up(&mut outcome, hints, now, true);
        outcome
    }

    /// Gives up memory only where no command waits for an answer, which is made from what memory holds then.
    fn follow_up(&mut self, outcome: &mut Decided, hints: &Hints, now: Timestamp, gives_up: bool) {
        let mut bytes: usize = outcome.events.iter().map(weight).sum();
        while outcome.events.len() < MAX_TURN_EVENTS / 2 && bytes < MAX_TURN_BYTES {
            let mut step = self.schedule(hints, now);
            if step.is_empty() {
                // A bucket fills and a cool-down ends without an event.
                self.quiet = !self.is_timed();
                if gives_up {
                    step = self.give_up(&hints.memory, now);
                    self.take(&step, now);
                    // Small in bytes and long in work: whoever waits for an answer comes between two of them.
                    outcome.more = !step.is_empty();
                    outcome.events.extend(step);
                }
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

    /// What follows from events that were just applied: changes of states of sessions, and warnings of budgets.
    fn state_changes(&self, events: &[Event], now: Timestamp) -> Vec<Event> {
        let mut seen: Vec<(SessionId, bool)> = Vec::new();
        for event in events {
            // A budget may be set to what is used already; a work packet's warns with the next use.
            let session = if let Event::BudgetSet { owner: BudgetOwner::Session(id), .. } = event {
                Some(*id)
            } else {
                event.session_id()
            };
            let Some(id) = session else { continue };
            let settled = matches!(event, Event::RunSettled { .. });
            match seen.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => *known |= settled,
                None => seen.push((id, settled)),
            }
        }
        let mut changes: Vec<Event> = Vec::new();
        for (id, settled) in seen {
            let mut of_session = self.consequences(id, settled, now);
            // Two sessions of one work packet see the same budget.
            of_session.retain(|event| !changes.iter().any(|other| warns_of_the_same(event, other)));
            changes.append(&mut of_session);
        }
        changes
    }

    fn consequences(&self, id: SessionId, settled: bool, now: Timestamp) -> Vec<Event> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let mut events: Vec<Event> = self.budget_warnings(session);
        let current = session.current.and_then(|run| self.runs.get(&run));
        let (from, to) = (session.status.state, session.derive_state(current));
        if from == to && !settled {
            return events;
        }
        let mut status = session.current_status();
        if from == to {
            // Readers of the store learn the totals from the last change of state, which is none here.
            events.push(Event::SessionTouched { session_id: id, status });
            return events;
        }
        status.state = to;
        status.since = now;
        let reason = match to {
            SessionState::Active => "run_claimed".to_owned(),
            SessionState::Idle if from == SessionState::Paused => "resumed".to_owned(),
            SessionState::Idle if from == SessionState::Blocked => "decided".to_owned(),
            SessionState::Idle => "run_ended".to_owned(),
            SessionState::Created => "resumed".to_owned(),
            SessionState::Paused => session.paused.clone().unwrap_or_default(),
            SessionState::Blocked => "decision_needed".to_owned(),
            SessionState::Completed | SessionState::Failed | SessionState::Cancelled => {
                session.ending.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default()
            }
        };
        let duration_ms = now.millis_since(session.creation.created_at);
        events.push(Event::SessionStateChanged { session_id: id, from, reason, status, duration_ms });
        events
    }

    fn budget_warnings(&self, session: &Session) -> Vec<Event> {
        if session.creation.fields.wp_id.is_none() && !session.budget.is_bounded() {
            return Vec::new();
        }
        let session_id = session.creation.session_id;
        let packet = session.creation.fields.wp_id.clone();
        let of_packet = packet.map(|id| (self.work_packet_budget(&id), BudgetOwner::WorkPacket(id)));
        let accounts = [Some((session.budget, BudgetOwner::Session(session_id))), of_packet];
        let due = accounts.into_iter().flatten().flat_map(|(account, owner)| {
            account.warnings().into_iter().map(move |(budget_type, current_value, threshold_value)| {
                Event::BudgetWarned { owner: owner.clone(), session_id, budget_type, current_value, threshold_value }
            })
        });
        due.collect()
    }
}

/// Whether both are warnings of one amount of one budget.
fn warns_of_the_same(event: &Event, other: &Event) -> bool {
    let (Event::BudgetWarned { owner, budget_type, .. }, Event::BudgetWarned { owner: of, budget_type: amount, .. }) =
        (event, other)
    else {
        return false;
    };
    (owner, budget_type) == (of, amount)
}
