//! What the scheduler does, without I/O: turns, roles and effects of one process on the journal.
//!
//! Messages, committed frames and elections come in as calls, time comes from the journal, and what leaves comes out as
//! values when it may. Both the task that leads and the simulation drive it, each over its own [`Log`].

mod effects;
mod follow;
mod log;
mod term;
mod turns;

use std::collections::VecDeque;
use std::time::Duration;

use laneway_contract::{
    ANNOUNCE_VALID_MS, Announcement, Epoch, HashKey, LEADER_LEASE_MS, Limits, MemoryLimits, Timestamp,
};
use laneway_engine::{Hints, State, WorkerHint};

use crate::SchedulerError;
use crate::desk::Order;
use crate::waiters::Waiters;

pub(crate) use effects::Effects;
pub(crate) use log::Log;
pub(crate) use term::Begun;

use turns::Breaks;

/// No further orders are taken while so many bytes of turns wait for the frame in flight.
const MAX_BACKLOG_BYTES: usize = 16 * 1024 * 1024;
/// The lease is looked at this often, also when nothing happens.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(LEADER_LEASE_MS / 6);
/// A due time that has passed already is looked at again after this time, unless there is more to do.
const SOON: Duration = Duration::from_millis(1);

/// What a process needs when it leads.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The limits to put into force; none keeps those that the journal says.
    pub(crate) limits: Option<Limits>,
    /// How much it holds in memory.
    pub(crate) memory: MemoryLimits,
    /// The key of a deployment that has none yet.
    pub(crate) new_hash_key: HashKey,
    /// A digest of the state is journaled every so many frames.
    pub(crate) digest_every_frames: u64,
}

/// One process on the journal.
pub(crate) struct Core<J> {
    /// The journal that the state is a fold of.
    pub(crate) journal: J,
    settings: Settings,
    state: State,
    hints: Hints,
    /// When nothing more was due: what waits for a rate is due at a time that only a look from then on shows.
    scheduled_at: Timestamp,
    /// The epoch in which this process leads, until the leadership is set up.
    elected: Option<Epoch>,
    leadership: Option<Leadership>,
    breaks: Breaks,
}

/// What exists only while this process leads.
struct Leadership {
    /// Orders that were taken and not carried out yet.
    inbox: VecDeque<Order>,
    waiters: Waiters,
    /// Whether the schedule has more to do at once.
    more: bool,
    /// Whether the dispatches that nobody has claimed are to be sent again.
    dispatch_again: bool,
    /// The frame at which the last digest was journaled.
    digested_at: u64,
}

impl<J: Log> Core<J> {
    /// A process that has read nothing yet.
    pub(crate) fn new(journal: J, settings: Settings) -> Self {
        Self {
            journal,
            hints: Hints::new(settings.memory),
            settings,
            state: State::default(),
            scheduled_at: Timestamp::ZERO,
            elected: None,
            leadership: None,
            breaks: Breaks::default(),
        }
    }

    /// The state, with all that was decided so far.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// What was heard and is not journaled.
    #[cfg(test)]
    pub(crate) fn hints(&self) -> &Hints {
        &self.hints
    }

    /// The digest of the state.
    #[cfg(test)]
    pub(crate) fn digest(&mut self) -> u128 {
        self.state.digest()
    }

    /// Takes the state from a snapshot, before anything of the journal was read.
    pub(crate) fn begin_with(&mut self, state: State) {
        self.state = state;
    }

    /// Whether a leadership is set up, even if it may not act at the moment.
    pub(crate) fn leads(&self) -> bool {
        self.leadership.is_some()
    }

    /// Whether orders may be taken. While there is no room they wait where they are.
    pub(crate) fn has_room(&mut self) -> bool {
        let waiting = self.leadership.as_ref().map(|leadership| leadership.inbox.len());
        waiting == Some(0) && self.journal.backlog() < MAX_BACKLOG_BYTES && self.journal.may_answer()
    }

    /// Takes orders, to be carried out by [`Core::act`].
    pub(crate) fn take(&mut self, orders: impl IntoIterator<Item = Order>) {
        if let Some(leadership) = &mut self.leadership {
            leadership.inbox.extend(orders);
        }
    }

    /// Does all that can be done now without waiting. An error ends the process.
    pub(crate) fn act(&mut self) -> Result<(), SchedulerError> {
        self.dispatch_again_if_due();
        self.carry_out_orders();
        self.tick_if_due();
        self.digest_if_due();
        self.breaks.check()
    }

    /// Until something is due by itself.
    pub(crate) fn pause(&mut self) -> Duration {
        let Some(leadership) = &self.leadership else { return LOOK_AGAIN };
        let busy = leadership.more || !leadership.inbox.is_empty();
        if !self.journal.may_answer() {
            return LOOK_AGAIN;
        }
        if busy {
            return Duration::ZERO;
        }
        let now = self.journal.now();
        let due = self
            .state
            .next_deadline(&self.hints, self.scheduled_at)
            .map(|at| Duration::from_millis(at.millis_since(now)));
        due.map_or(LOOK_AGAIN, |due| due.clamp(SOON, LOOK_AGAIN))
    }

    /// Takes a worker's announcement in. Only a leader needs them, and a new one begins without any.
    pub(crate) fn heard(&mut self, announcement: Announcement) {
        let Some(leadership) = &mut self.leadership else { return };
        let now = self.journal.now();
        let Announcement { worker_id, pool, models, slots } = announcement;
        let valid_until = now.plus_millis(ANNOUNCE_VALID_MS as i64);
        self.hints.workers.retain(|_, worker| worker.valid_until > now);
        self.hints.workers.insert(worker_id, WorkerHint { pool, models, slots, valid_until });
        leadership.more = true;
    }

    /// Sends everybody away who waits for the end of a run, also those who come later.
    pub(crate) fn send_waiters_away(&mut self) {
        if let Some(leadership) = &mut self.leadership {
            leadership.waiters.close();
        }
    }
}
