//! Until when replies may leave, read by every handler when its reply does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use laneway_bus::Gate;
use laneway_journal::clock::{BootMillis, boot_now};

/// The leadership of this process as the task that leads last saw it. Closed when it does not lead.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    epoch: AtomicU64,
    until: AtomicU64,
}

/// An epoch, and until when it was sure to last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    epoch: u64,
    until: BootMillis,
}

impl Lease {
    /// Replies may leave until the lease ends.
    pub(crate) fn open(&self, epoch: u64, until: BootMillis) {
        self.epoch.store(epoch, Ordering::Release);
        self.until.store(until.millis(), Ordering::Release);
    }

    /// Nothing may leave any more.
    pub(crate) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// The epoch, while replies may leave.
    pub(crate) fn epoch(&self) -> Option<u64> {
        let until = BootMillis::from_millis(self.until.load(Ordering::Acquire));
        (boot_now() < until).then(|| self.epoch.load(Ordering::Acquire))
    }

    /// What this process may say as things stand.
    pub(crate) fn term(&self) -> Term {
        Term {
            epoch: self.epoch.load(Ordering::Acquire),
            until: BootMillis::from_millis(self.until.load(Ordering::Acquire)),
        }
    }

    /// Whether what was said under this term may still leave: while it lasts, and as long as it is extended.
    pub(crate) fn covers(&self, term: Term) -> bool {
        boot_now() < term.until || self.epoch() == Some(term.epoch)
    }

    /// What a service asks when a reply leaves.
    pub(crate) fn gate(self: &Arc<Self>) -> Gate {
        let lease = Arc::clone(self);
        Arc::new(move || lease.epoch())
    }
}
