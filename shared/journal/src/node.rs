//! The protocol of one process on the journal: follow it, lead it when nobody does, step down when another does.
//!
//! Free of I/O: answers and clock readings come in as arguments, requests go out of [`Node::poll`]. At most one publish,
//! one read and one clock check are under way; a new one replaces the one before it, whose answer is then dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use laneway_contract::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use crate::chain::Base;
use crate::chain::{Chain, Fault};
pub use crate::check::ServerInfo;
use crate::clock::{BootMillis, Now};
use crate::draft::TurnDraft;
pub use crate::fence::{PublishOutcome, ReadOutcome};
use crate::frame::{Committed, Formats, Position};
use crate::leader::Leader;
use crate::standby::Standby;

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name under which this process leads, for people to read.
    pub instance: String,
    /// A random id made when this process started: two runs of a process are two processes.
    pub process: Uuid,
    /// The id of the journal that this node makes when the stream is empty. Without one it takes an empty stream as lost
    /// data: give none where anything outside the journal still knows of it.
    pub new_journal: Option<Uuid>,
    /// How long a leader may act after it sent the last frame that was acknowledged, in milliseconds.
    pub lease_ms: u64,
    /// How much longer than a lease a standby waits without a frame, in milliseconds.
    pub margin_ms: u64,
    /// What this process reads and writes: those of the program, but for tests.
    pub formats: Formats,
}

/// What a node asks for or reports.
#[derive(Debug)]
pub enum Action<E, T> {
    /// Publish these bytes, to be stored only as the successor of `expected_last`; answer with [`Node::on_published`].
    Publish {
        /// The frame.
        bytes: Bytes,
        /// The sequence that must be the stream's last.
        expected_last: u64,
    },
    /// Read a message by number; answer with [`Node::on_read`].
    Read {
        /// The sequence of the message.
        number: u64,
    },
    /// Ask the server for the state of the stream and its clock; answer with [`Node::on_server_info`].
    CheckClock,
    /// Apply this committed frame to the state: everything but the turns that were pushed here.
    Apply(Committed<E>),
    /// This node leads. Turns may be begun and replies carry this epoch.
    Lead {
        /// The epoch of the leadership.
        epoch: u64,
        /// Whether it led before and its state is still right. Otherwise it has just taken over.
        resumed: bool,
    },
    /// These effects may leave.
    Release(Released<T>),
    /// Drop the state, with everything that was decided and not released: the journal is read from the start again, unless
    /// [`Node::begin_behind`] says from where.
    Deposed,
    /// The node has ended in good order.
    Stopped,
    /// The node does not lead, because its wall clock is wrong.
    ClockOff {
        /// Milliseconds by which the wall clock is ahead of the server's.
        ahead_ms: i64,
    },
    /// The node has ended: going on would build on something that is not the journal.
    Fault(Fault),
}

/// Effects of turns whose events are in the journal, in the order of the turns.
#[derive(Debug, PartialEq, Eq)]
pub struct Released<T> {
    /// The epoch of the leader that releases them.
    pub epoch: u64,
    /// The number of the frame that holds the turns; for turns without events, of the last frame before them.
    pub number: u64,
    /// The effects.
    pub effects: Vec<T>,
}

/// The turn was begun under a leadership that has ended: its state is gone, or about to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leadership under which the turn was begun has ended")]
pub struct NotLeading;

/// What standby and leader share.
#[derive(Debug)]
pub(crate) struct Common<E, T> {
    pub(crate) settings: Settings,
    pub(crate) chain: Chain,
    /// The highest number that the stream is known to have held.
    pub(crate) known_end: u64,
    /// A frame that a view had from the journal. Nobody leads from before it: that would write another in its place.
    pub(crate) witness: Position,
    /// The highest frame that the journal is known to have had, by those who do not know its hash.
    pub(crate) had: u64,
    /// How often this process has tried to lead.
    pub(crate) attempts: u64,
    pub(crate) stopping: bool,
    pub(crate) out: VecDeque<Action<E, T>>,
}

#[derive(Debug)]
enum Role<E, T> {
    Standby(Box<Standby<E>>),
    Leader(Box<Leader<E, T>>),
    Ended,
}

/// What a role does after an input.
#[derive(Debug)]
pub(crate) enum Next<E, T> {
    Stay,
    Lead(Box<Leader<E, T>>),
    Deposed,
    Ended,
    Faulted(Fault),
}

/// One process on the journal.
#[derive(Debug)]
pub struct Node<E, T> {
    common: Common<E, T>,
    role: Role<E, T>,
}

impl<E: Serialize + DeserializeOwned, T> Node<E, T> {
    /// A node that has read nothing yet.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        let common = Common {
            // A journal that is not to be made has a first frame.
            known_end: u64::from(settings.new_journal.is_none()),
            witness: Position::START,
            had: 0,
            chain: Chain { reads: settings.formats, ..Chain::default() },
            settings,
            attempts: 0,
            stopping: false,
            out: VecDeque::new(),
        };
        Self { common, role: Role::Standby(Box::new(Standby::new(now))) }
    }

    /// Takes in that a view outside has had this frame from the journal: the node does not lead before it has read it.
    pub fn expect(&mut self, witness: Position) {
        self.common.known_end = self.common.known_end.max(witness.number);
        self.common.witness = witness;
    }

    /// Goes on behind a frame up to which the caller has the state, before anything was read: at a start, or after
    /// [`Action::Deposed`].
    pub fn begin_behind(&mut self, now: Now, base: Base) {
        let unread = self.common.chain.position.number == 0;
        if !unread || !matches!(self.role, Role::Standby(_)) {
            return;
        }
        match self.common.chain.restart_behind(base.0) {
            Ok(chain) => {
                self.common.known_end = self.common.known_end.max(chain.position.number);
                self.common.chain = chain;
                self.role = Role::Standby(Box::new(Standby::new(now)));
            }
            Err(fault) => self.turn_to(Next::Faulted(fault), now),
        }
    }

    /// The journal has had this frame, as somebody knows from elsewhere: where it ends before, frames are lost, and this node
    /// does not lead.
    pub fn has_had(&mut self, number: u64) {
        self.common.known_end = self.common.known_end.max(number);
        self.common.had = self.common.had.max(number);
    }

    /// The next action, if there is one. To be called until there is none, after every input and at
    /// [`Node::next_wakeup`].
    pub fn poll(&mut self, now: Now) -> Option<Action<E, T>> {
        if self.common.out.is_empty() {
            let next = match &mut self.role {
                Role::Standby(standby) => standby.poll(&mut self.common, now),
                Role::Leader(leader) => leader.poll(&mut self.common, now),
                Role::Ended => Next::Stay,
            };
            self.turn_to(next, now);
        }
        self.common.out.pop_front()
    }

    /// When to poll again if nothing comes in before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<BootMillis> {
        match &self.role {
            Role::Standby(standby) => standby.next_wakeup(&self.common),
            Role::Leader(leader) => leader.next_wakeup(&self.common),
            Role::Ended => None,
        }
    }

    /// Takes a message of the stream. Repeated and early ones do no harm.
    pub fn on_frame(&mut self, now: Now, number: u64, bytes: &Bytes) {
        if let Role::Standby(standby) = &mut self.role {
            let next = standby.on_frame(&mut self.common, now, number, bytes);
            self.turn_to(next, now);
        }
    }

    /// Takes the answer to the last [`Action::Publish`].
    pub fn on_published(&mut self, now: Now, outcome: &PublishOutcome) {
        let next = match &mut self.role {
            Role::Standby(standby) => standby.on_published(&mut self.common, now, outcome),
            Role::Leader(leader) => leader.on_published(&mut self.common, now, outcome),
            Role::Ended => Next::Stay,
        };
        self.turn_to(next, now);
    }

    /// Takes the answer to the last [`Action::Read`].
    pub fn on_read(&mut self, now: Now, outcome: ReadOutcome) {
        let next = match &mut self.role {
            Role::Standby(standby) => standby.on_read(&mut self.common, now, outcome),
            Role::Leader(leader) => leader.on_read(&mut self.common, now, outcome),
            Role::Ended => Next::Stay,
        };
        self.turn_to(next, now);
    }

    /// Takes the answer to the last [`Action::CheckClock`]; none if there was none in time.
    pub fn on_server_info(&mut self, now: Now, info: Option<ServerInfo>) {
        let next = match &mut self.role {
            Role::Standby(standby) => standby.on_server_info(&mut self.common, now, info),
            Role::Leader(leader) => leader.on_server_info(&mut self.common, now, info),
            Role::Ended => Next::Stay,
        };
        self.turn_to(next, now);
    }

    /// Takes a finding of the reader of the stream, after which the node has ended.
    pub fn on_fault(&mut self, now: Now, fault: Fault) {
        if !matches!(self.role, Role::Ended) {
            self.turn_to(Next::Faulted(fault), now);
        }
    }

    /// Begins a turn, if this node may act now.
    pub fn begin(&mut self, now: Now) -> Option<TurnDraft<E>> {
        match &mut self.role {
            Role::Leader(leader) => leader.begin(&self.common, now),
            Role::Standby(_) | Role::Ended => None,
        }
    }

    /// Hands a turn over; its effects are released when its events, and those of every turn before it, are in the
    /// journal. A turn without events also waits for every frame handed over before it. A turn is begun, applied and
    /// handed over without polling between. A state that has applied a turn refused here is to be given up with
    /// [`Node::abandon`].
    pub fn push(&mut self, turn: TurnDraft<E>, effects: T) -> Result<(), NotLeading> {
        match &mut self.role {
            Role::Leader(leader) => leader.push(&self.common, turn, effects),
            Role::Standby(_) | Role::Ended => Err(NotLeading),
        }
    }

    /// Whether this node may begin turns now.
    pub fn may_answer(&mut self, now: Now) -> bool {
        match &mut self.role {
            Role::Leader(leader) => leader.may_answer(&self.common, now),
            Role::Standby(_) | Role::Ended => false,
        }
    }

    /// The format of the next frame.
    #[must_use]
    pub fn format(&self) -> u16 {
        self.common.chain.next_format()
    }

    /// Raises the format of the journal, if this node leads and writes such frames: to be called between two turns, when all
    /// who read the journal read that format. Turns wait until it is written.
    pub fn raise_format(&mut self, to: u16) {
        match &mut self.role {
            Role::Leader(leader) => leader.raise(&self.common, to),
            Role::Standby(_) | Role::Ended => {}
        }
    }

    /// Until when what was released may leave this process; none when nothing may.
    #[must_use]
    pub fn answers_until(&self) -> Option<BootMillis> {
        match &self.role {
            Role::Leader(leader) => leader.answers_until(&self.common),
            Role::Standby(_) | Role::Ended => None,
        }
    }

    /// Journal time while this node leads; else the time of the last frame that it has read.
    pub fn time(&mut self, now: Now) -> Timestamp {
        match &mut self.role {
            Role::Leader(leader) => leader.time(now),
            Role::Standby(_) | Role::Ended => self.common.chain.time,
        }
    }

    /// Ends in good order: what was handed over is written and released, then the journal says that the leader has gone.
    pub fn stop(&mut self) {
        self.common.stopping = true;
    }

    /// Gives up the state after a failure in the middle of a turn: nothing that was pushed is released any more. A frame
    /// on its way is in the journal or not, as the frames then show.
    pub fn abandon(&mut self, now: Now) {
        if matches!(self.role, Role::Leader(_) | Role::Standby(_)) {
            self.turn_to(Next::Deposed, now);
        }
    }

    /// The last frame that this node knows to be in the journal.
    #[must_use]
    pub fn position(&self) -> Position {
        self.common.chain.position
    }

    /// The epoch of the last frame that this node knows to be in the journal.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.common.chain.epoch
    }

    /// Bytes of the frames that this node has read or written behind where it began.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.common.chain.read_bytes
    }

    /// Whether this node follows the frames of others.
    #[must_use]
    pub fn is_following(&self) -> bool {
        matches!(self.role, Role::Standby(_))
    }

    /// Bytes of turns that wait for the frame in flight.
    #[must_use]
    pub fn backlog(&self) -> usize {
        match &self.role {
            Role::Leader(leader) => leader.backlog(),
            Role::Standby(_) | Role::Ended => 0,
        }
    }

    fn turn_to(&mut self, next: Next<E, T>, now: Now) {
        match next {
            Next::Stay => {}
            Next::Lead(leader) => self.role = Role::Leader(leader),
            Next::Deposed => {
                self.common.known_end = self.common.known_end.max(self.common.chain.position.number);
                if self.common.chain.position.number > self.common.witness.number {
                    self.common.witness = self.common.chain.position;
                }
                self.common.chain = self.common.chain.restart();
                self.common.out.clear();
                self.common.out.push_back(Action::Deposed);
                self.role = Role::Standby(Box::new(Standby::new(now)));
            }
            Next::Ended => {
                self.common.out.push_back(Action::Stopped);
                self.role = Role::Ended;
            }
            Next::Faulted(fault) => {
                self.common.out.clear();
                self.common.out.push_back(Action::Fault(fault));
                self.role = Role::Ended;
            }
        }
    }
}

#[cfg(test)]
mod tests;
