//! The journal as the core uses it.

use laneway_contract::{Event, Timestamp};
use laneway_journal::{Journal, NotLeading, Position, TurnDraft};

use super::Effects;

/// A process on the journal, whoever carries its frames: [`Journal`] on a server, a node of the simulation in memory. What
/// each call means is said there.
pub(crate) trait Log {
    /// Begins a turn, if this process may act now.
    fn begin(&mut self) -> Option<TurnDraft<Event>>;
    /// Hands a turn over, whose events are applied.
    fn push(&mut self, turn: TurnDraft<Event>, effects: Effects) -> Result<(), NotLeading>;
    /// Journal time while this process leads; else the time of the last frame read.
    fn now(&mut self) -> Timestamp;
    /// Whether this process may begin turns now.
    fn may_answer(&mut self) -> bool;
    /// The last frame that this process knows to be in the journal.
    fn position(&self) -> Position;
    /// Bytes of turns that wait for the frame in flight.
    fn backlog(&self) -> usize;
    /// Gives up the state after a failure in the middle of a turn.
    fn abandon(&mut self);
}

impl Log for Journal<Event, Effects> {
    fn begin(&mut self) -> Option<TurnDraft<Event>> {
        self.begin()
    }

    fn push(&mut self, turn: TurnDraft<Event>, effects: Effects) -> Result<(), NotLeading> {
        self.push(turn, effects)
    }

    fn now(&mut self) -> Timestamp {
        self.now()
    }

    fn may_answer(&mut self) -> bool {
        self.may_answer()
    }

    fn position(&self) -> Position {
        self.position()
    }

    fn backlog(&self) -> usize {
        self.backlog()
    }

    fn abandon(&mut self) {
        self.abandon();
    }
}
