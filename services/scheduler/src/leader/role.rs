//! Taking office, losing it, leaving it.

use std::sync::Arc;

use tokio::time::Instant;

use super::core::Begun;
use super::{Ending, HAND_OVER, LEAVE, Leader, Reception};
use crate::desk::Desk;
use crate::edge::Edge;
use crate::endpoints::Context;
use crate::office::Office;

impl Leader {
    /// Opens the endpoints of a leadership that has begun, or goes on in a new epoch.
    pub(super) fn open(&mut self, begun: Begun) {
        let Begun { epoch, anew } = begun;
        if anew && let Some(key) = self.core.state().hash_key() {
            let edge = Edge::new(key.clone(), Arc::clone(&self.catalog));
            let (desk, orders) = Desk::new(edge, Box::new(self.bus.clone()));
            self.reception = Some(Reception { desk, orders, office: None });
        }
        let Some(reception) = &mut self.reception else { return };
        // It ends by itself: requests that are here are answered, in the new epoch.
        let before = reception.office.take();
        if matches!(self.ending, Ending::No) {
            let (bus, desk, instance) = (self.bus.clone(), reception.desk.clone(), Arc::clone(&self.instance));
            let context = Context { bus, desk, instance, epoch, snapshot: self.snapshots.view() };
            reception.office = Some(Office::open(context, epoch, self.lease.gate(), before));
        }
        self.say_ready("leader");
    }

    /// Another leads, or this memory is not to be trusted: everything that is not in the journal is gone.
    pub(super) fn deposed(&mut self) {
        self.lease.close();
        self.core.deposed();
        self.unread = true;
        self.snapshots.give_up();
        // Orders that wait go with it: their handlers stay silent, and callers ask again.
        if let Some(Reception { office: Some(office), .. }) = self.reception.take() {
            drop(office.close());
        }
        tracing::warn!("does not lead any more; reads the journal again");
    }

    /// A stop was requested: first the requests that are here are answered, as far as that takes no time.
    pub(super) fn begin_to_end(&mut self) {
        self.core.send_waiters_away();
        match self.reception.as_mut().and_then(|reception| reception.office.take()) {
            Some(office) => self.ending = Ending::Draining(office.close(), Instant::now() + HAND_OVER),
            None => self.leave(),
        }
    }

    /// Writes what is left, and that the leader has gone.
    pub(super) fn leave(&mut self) {
        self.core.journal.stop();
        self.ending = Ending::Leaving(Instant::now() + LEAVE);
    }

    /// One line when this process does its part.
    pub(super) fn say_ready(&mut self, role: &'static str) {
        if !self.said_ready {
            self.said_ready = true;
            let (instance, journal_seq) = (&self.instance, self.core.journal.position().number);
            tracing::info!(service = "scheduler", %instance, role, journal_seq, "ready");
        }
    }
}
