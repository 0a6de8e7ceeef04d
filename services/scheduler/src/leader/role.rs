//! Taking office, losing it, leaving it.

use laneway_contract::{Actor, ApiError, Epoch, Timestamp};
use laneway_engine::{Command, Hints, LimitsChange, Phase, SetLimits, State};
use tokio::time::Instant;

use super::effects::dispatch_of;
use super::{DRAIN, Ending, Leader, Leadership, new_hash_key};
use crate::SchedulerError;
use crate::desk::{Desk, Order};
use crate::edge::Edge;
use crate::endpoints::Context;
use crate::office::Office;
use crate::publisher::Outgoing;
use crate::waiters::Waiters;

impl Leader {
    /// Sets the leadership up, or goes on with it in a new epoch. May act now.
    pub(super) fn take_office(&mut self, epoch: Epoch) -> Result<(), SchedulerError> {
        let now = self.journal.now();
        // Nobody could renew while there was no leader.
        let executing: Vec<_> =
            self.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
        for (run_id, lease) in executing {
            self.hints.give_lease(run_id, lease, now);
        }
        if self.leadership.is_none() && !self.set_up()? {
            self.elected = Some(epoch);
            return Ok(());
        }
        let Some(leadership) = &mut self.leadership else { return Ok(()) };
        // It ends by itself: requests that are here are answered, in the new epoch.
        let before = leadership.office.take();
        if matches!(self.ending, Ending::No) {
            let (bus, desk, instance) = (self.bus.clone(), leadership.desk.clone(), self.instance.clone());
            let context = Context { bus, desk, instance, epoch, snapshot: self.snapshots.view() };
            leadership.office = Some(Office::open(context, epoch, self.lease.gate(), before));
        }
        self.say_ready("leader");
        Ok(())
    }

    /// Makes what a leader needs. False when the lease ran out meanwhile.
    fn set_up(&mut self) -> Result<bool, SchedulerError> {
        if self.state.hash_key().is_none() {
            let key = new_hash_key()?;
            if !self.decide_alone(Command::CreateHashKey(key)) {
                return Ok(false);
            }
        }
        // Changes nothing when these were put in force before: what was changed while running stays.
        if let Some(limits) = &self.limits {
            let command =
                SetLimits { change: LimitsChange::Configured(Box::new(limits.clone())), actor: Actor::runtime() };
            if !self.decide_alone(Command::SetLimits(Box::new(command))) {
                return Ok(false);
            }
        }
        let Some(key) = self.state.hash_key().cloned() else { return Ok(false) };
        let (desk, orders) = Desk::new(Edge::new(key, self.catalog.clone()));
        self.dispatch_again();
        self.leadership = Some(Leadership {
            desk,
            orders,
            inbox: std::collections::VecDeque::new(),
            waiters: Waiters::default(),
            office: None,
            // What the leader before left undone, as the runs of a session that is ending.
            more: true,
            digested_at: self.journal.position().number,
        });
        Ok(true)
    }

    /// Sends every dispatch that nobody has claimed: the stream may be a new one.
    fn dispatch_again(&self) {
        for run in self.state.dispatched() {
            if let Phase::Dispatched { pool, .. } = &run.phase {
                self.publisher.send(dispatch_of(run, pool));
            }
        }
    }

    /// The connection is another, and maybe the server: what it had in memory is gone.
    pub(super) fn reconnected(&self) {
        self.publisher.send(Outgoing::Mend);
        if self.leadership.is_some() {
            self.dispatch_again();
        }
    }

    /// Has a command of the leader's own decided. False when nothing may be decided now.
    fn decide_alone(&mut self, command: Command) -> bool {
        let Some(draft) = self.journal.begin() else { return false };
        let refused = |error: ApiError| tracing::error!(%error, "a command of the leader's own was refused");
        let finish = Box::new(move |outcome: Result<&mut crate::desk::Scene<'_>, ApiError>| {
            if let Err(error) = outcome {
                refused(error);
            }
            Box::new(|_| {}) as crate::desk::Release
        });
        self.carry_out(draft, Order { check: None, command: Some(command), finish });
        true
    }

    /// Another leads, or this memory is not to be trusted: everything that is not in the journal is gone.
    pub(super) fn deposed(&mut self) {
        self.lease.close();
        self.elected = None;
        self.state = State::default();
        self.unread = true;
        self.snapshots.give_up();
        self.hints = Hints::default();
        self.scheduled_at = Timestamp::ZERO;
        // Orders and waiters go with it: their handlers stay silent, and callers ask again.
        if let Some(Leadership { office: Some(office), .. }) = self.leadership.take() {
            drop(office.close());
        }
        tracing::warn!("does not lead any more; reads the journal again");
    }

    /// A stop was requested: first the requests that are here are answered.
    pub(super) fn begin_to_end(&mut self) {
        let Some(leadership) = &mut self.leadership else { return self.leave() };
        leadership.waiters.close();
        match leadership.office.take() {
            Some(office) => self.ending = Ending::Draining(office.close(), Instant::now() + DRAIN),
            None => self.leave(),
        }
    }

    /// Writes what is left, and that the leader has gone.
    pub(super) fn leave(&mut self) {
        self.journal.stop();
        self.ending = Ending::Leaving(Instant::now() + DRAIN);
    }

    /// One line when this process does its part.
    pub(super) fn say_ready(&mut self, role: &'static str) {
        if !self.said_ready {
            self.said_ready = true;
            let (instance, journal_seq) = (&self.instance, self.journal.position().number);
            tracing::info!(service = "scheduler", %instance, role, journal_seq, "ready");
        }
    }
}
