//! How long an attempt may go on. No I/O: the time is an argument, in milliseconds on the clock that counts suspend.

use std::sync::atomic::{AtomicU64, Ordering};

use laneway_contract::{RENEW_MS, WORKER_BOUND_MS};

/// The right to one attempt, as the worker counts it: always shorter than as the scheduler does, because it begins when
/// a request was sent and not when it was answered. How long the attempt may take is another matter, and no danger to anybody.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The call stops here unless a renewal is answered before.
    bound: u64,
    /// The call stops here in any case.
    stop: u64,
    /// The next renewal is sent here.
    renewal: u64,
}

/// Why an attempt may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// No renewal was answered for too long.
    Bound,
    /// The attempt's time is over.
    Timeout,
}

impl Lease {
    /// The lease of a claim that was sent at `sent_at`. The attempt's time begins when it may: with the answer.
    pub(crate) fn claimed(sent_at: u64, answered_at: u64, timeout_ms: u64) -> Self {
        Self {
            bound: sent_at.saturating_add(WORKER_BOUND_MS),
            stop: answered_at.saturating_add(timeout_ms),
            renewal: sent_at.saturating_add(RENEW_MS),
        }
    }

    /// Whether the attempt may go on at `now`.
    pub(crate) fn check(&self, now: u64) -> Result<(), Over> {
        if now >= self.stop {
            Err(Over::Timeout)
        } else if now >= self.bound {
            Err(Over::Bound)
        } else {
            Ok(())
        }
    }

    /// Whether a renewal is to be sent at `now`; if so, it counts as sent.
    pub(crate) fn renewal_due(&mut self, now: u64) -> bool {
        let due = now >= self.renewal;
        if due {
            self.renewal = now.saturating_add(RENEW_MS);
        }
        due
    }

    /// A renewal that was sent at `sent_at` has been answered.
    pub(crate) fn renewed(&mut self, sent_at: u64) {
        self.bound = self.bound.max(sent_at.saturating_add(WORKER_BOUND_MS));
    }

    /// When the attempt has to stop as things are.
    pub(crate) fn ends_at(&self) -> u64 {
        self.bound.min(self.stop)
    }

    /// When to look again.
    pub(crate) fn wake_at(&self) -> u64 {
        self.ends_at().min(self.renewal)
    }
}

/// The end of the lease, seen by those who are about to send something.
#[derive(Debug)]
pub(crate) struct Fence(AtomicU64);

impl Fence {
    /// The fence of a lease.
    pub(crate) fn new(lease: &Lease) -> Self {
        Self(AtomicU64::new(lease.ends_at()))
    }

    /// Moves with the lease.
    pub(crate) fn follow(&self, lease: &Lease) {
        self.0.store(lease.ends_at(), Ordering::Relaxed);
    }

    /// Whether the lease holds at `now`.
    pub(crate) fn holds(&self, now: u64) -> bool {
        now < self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use laneway_contract::{ATTEMPT_LEASE_MS, RENEW_MS, WORKER_BOUND_MS};

    use super::{Fence, Lease, Over};

    #[test]
    fn the_bound_counts_from_when_the_claim_was_sent_and_the_attempts_time_from_its_answer() {
        let lease = Lease::claimed(1_000, 1_005, 600_000);
        assert_eq!(lease.check(1_000 + WORKER_BOUND_MS - 1), Ok(()));
        assert_eq!(lease.check(1_000 + WORKER_BOUND_MS), Err(Over::Bound));
        let held_up = Lease::claimed(1_000, 4_700, 3_000);
        assert_eq!(held_up.check(7_699), Ok(()));
        assert_eq!(held_up.check(7_700), Err(Over::Timeout));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent() {
        let mut lease = Lease::claimed(0, 0, 600_000);
        assert!(!lease.renewal_due(RENEW_MS - 1));
        assert!(lease.renewal_due(RENEW_MS));
        assert!(!lease.renewal_due(RENEW_MS), "it is under way");
        lease.renewed(RENEW_MS);
        assert_eq!(lease.check(RENEW_MS + WORKER_BOUND_MS - 1), Ok(()));
        assert_eq!(lease.check(RENEW_MS + WORKER_BOUND_MS), Err(Over::Bound));
        // An answer that comes late takes nothing back.
        lease.renewed(0);
        assert_eq!(lease.check(RENEW_MS + WORKER_BOUND_MS - 1), Ok(()));
    }

    #[test]
    fn renewals_do_not_extend_the_attempts_time() {
        let mut lease = Lease::claimed(0, 0, 10_000);
        assert!(lease.renewal_due(RENEW_MS));
        lease.renewed(RENEW_MS);
        assert_eq!(lease.check(9_999), Ok(()));
        assert_eq!(lease.check(10_000), Err(Over::Timeout));
        assert_eq!((lease.ends_at(), lease.wake_at()), (10_000, 10_000));
    }

    /// The worker stops before the scheduler gives the run to another, whatever is lost and however late answers come.
    #[test]
    fn the_worker_always_stops_first() {
        for answered in [false, true] {
            let mut lease = Lease::claimed(0, 0, u64::MAX);
            // The scheduler's lease begins when the request arrives: never before it was sent.
            let mut scheduler_ends = ATTEMPT_LEASE_MS;
            let mut now = 0;
            while lease.check(now).is_ok() && now < 10 * ATTEMPT_LEASE_MS {
                if lease.renewal_due(now) && now < 60_000 {
                    scheduler_ends = now + ATTEMPT_LEASE_MS;
                    if answered {
                        lease.renewed(now);
                    }
                }
                now += 1;
            }
            assert!(now < scheduler_ends, "answered: {answered}, worker: {now}, scheduler: {scheduler_ends}");
        }
    }

    #[test]
    fn the_fence_follows_the_lease() {
        let mut lease = Lease::claimed(0, 0, 600_000);
        let fence = Fence::new(&lease);
        assert!(fence.holds(WORKER_BOUND_MS - 1) && !fence.holds(WORKER_BOUND_MS));
        lease.renewed(RENEW_MS);
        fence.follow(&lease);
        assert!(fence.holds(WORKER_BOUND_MS));
    }
}
