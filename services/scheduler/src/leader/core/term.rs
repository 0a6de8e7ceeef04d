//! Taking office, and losing it.

use laneway_contract::{Actor, ApiError, Epoch, Timestamp};
use laneway_engine::{Command, Hints, LimitsChange, Phase, SetLimits, State};

use super::effects::{Effects, dispatch_of};
use super::{Core, Leadership, Log};
use crate::desk::{Order, Release, Scene};
use crate::publisher::Outgoing;
use crate::waiters::Waiters;

/// A leadership that has begun, or goes on in another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// Whether it was set up just now.
    pub(crate) anew: bool,
}

impl<J: Log> Core<J> {
    /// This process leads, in this epoch.
    pub(crate) fn elected(&mut self, epoch: Epoch) {
        self.elected = Some(epoch);
    }

    /// Sets the leadership up, or goes on with it in a new epoch, if this process was elected. May act now. None also when
    /// the lease ran out meanwhile: then again.
    pub(crate) fn take_office(&mut self, send: impl FnMut(Outgoing)) -> Option<Begun> {
        let epoch = self.elected.take()?;
        let now = self.journal.now();
        // Nobody could renew while there was no leader.
        let executing: Vec<_> =
            self.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
        for (run_id, lease) in executing {
            self.hints.give_lease(run_id, lease, now);
        }
        let anew = self.leadership.is_none();
        if anew && !self.set_up(send) {
            self.elected = Some(epoch);
            return None;
        }
        Some(Begun { epoch, anew })
    }

    /// Makes what a leader needs. False when the lease ran out meanwhile.
    fn set_up(&mut self, send: impl FnMut(Outgoing)) -> bool {
        if self.state.hash_key().is_none() {
            let key = self.settings.new_hash_key.clone();
            if !self.decide_alone(Command::CreateHashKey(key)) {
                return false;
            }
        }
        // Changes nothing when these were put in force before: what was changed while running stays.
        if let Some(limits) = &self.settings.limits {
            let change = LimitsChange::Configured(Box::new(limits.clone()));
            let command = SetLimits { change, actor: Actor::runtime() };
            if !self.decide_alone(Command::SetLimits(Box::new(command))) {
                return false;
            }
        }
        if self.state.hash_key().is_none() {
            return false;
        }
        self.dispatch_again(send);
        self.leadership = Some(Leadership {
            inbox: std::collections::VecDeque::new(),
            waiters: Waiters::default(),
            // What the leader before left undone, as the runs of a session that is ending.
            more: true,
            dispatch_again: false,
            digested_at: self.journal.position().number,
        });
        true
    }

    /// The connection is another, and maybe the server: what it had in memory is gone.
    pub(crate) fn reconnected(&mut self, mut send: impl FnMut(Outgoing)) {
        send(Outgoing::Mend);
        if let Some(leadership) = &mut self.leadership {
            leadership.dispatch_again = true;
        }
    }

    /// Sends the dispatches again after a reconnect: behind the frames handed over so far, which some of them may be in.
    pub(super) fn dispatch_again_if_due(&mut self) {
        let Some(leadership) = self.leadership.as_mut().filter(|leadership| leadership.dispatch_again) else { return };
        let Some(draft) = self.journal.begin() else { return };
        leadership.dispatch_again = false;
        let mut effects = Effects::default();
        self.dispatch_again(|message| effects.send(message));
        self.hand_over(draft, effects);
    }

    /// Sends every dispatch that nobody has claimed: the stream may be a new one.
    fn dispatch_again(&self, mut send: impl FnMut(Outgoing)) {
        for run in self.state.dispatched() {
            if let Phase::Dispatched { pool, .. } = &run.phase {
                send(dispatch_of(run, pool));
            }
        }
    }

    /// Has a command of the leader's own decided. False when nothing may be decided now.
    fn decide_alone(&mut self, command: Command) -> bool {
        let Some(draft) = self.journal.begin() else { return false };
        let refused = |error: ApiError| tracing::error!(%error, "a command of the leader's own was refused");
        let finish = Box::new(move |outcome: Result<&mut Scene<'_>, ApiError>| {
            if let Err(error) = outcome {
                refused(error);
            }
            Box::new(|_| {}) as Release
        });
        self.carry_out(draft, Order::alone(command, finish));
        true
    }

    /// Another leads, or this memory is not to be trusted: everything that is not in the journal is gone. Orders and waiters
    /// go with it: their handlers stay silent, and callers ask again.
    pub(crate) fn deposed(&mut self) {
        self.elected = None;
        self.state = State::default();
        self.hints = Hints::new(self.settings.memory);
        self.scheduled_at = Timestamp::ZERO;
        self.leadership = None;
    }
}

#[cfg(test)]
mod tests;
