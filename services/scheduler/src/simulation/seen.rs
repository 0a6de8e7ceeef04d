//! What happened, so that a simulation that meets nothing is noticed.

/// How often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) frames: u64,
    pub(super) takeovers: u64,
    pub(super) resumed: u64,
    pub(super) deposed: u64,
    pub(super) broken: u64,
    pub(super) dispatches: u64,
    pub(super) claims: u64,
    pub(super) calls: u64,
    pub(super) expired: u64,
    pub(super) stalled: u64,
    pub(super) parked: u64,
    pub(super) poisoned: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    /// Cancels that met an executing run.
    pub(super) stops: u64,
    /// Reports of an attempt whose lease had ended, that settled its run.
    pub(super) late_answers: u64,
    /// Refusals, by what they protect from.
    pub(super) stale_epochs: u64,
    pub(super) repeats: u64,
    pub(super) silent: u64,
    pub(super) digests: u64,
    /// Orders that a store replica was asked for, and what came of them.
    pub(super) put_aside: u64,
    pub(super) loaded: u64,
    pub(super) keys_evicted: u64,
    pub(super) conflicts: u64,
    pub(super) nowhere: u64,
    pub(super) unavailable: u64,
    /// Waits for a bucket, those below zero, warnings of budgets, and runs for which a budget was raised in the calm.
    pub(super) rate_waits: u64,
    pub(super) overdrawn: u64,
    pub(super) warnings: u64,
    pub(super) raised: u64,
    /// Snapshots that were stored, starts with one, and those that were damaged.
    pub(super) snapshots: u64,
    pub(super) from_snapshots: u64,
    pub(super) unusable: u64,
    /// What was lost because a cable was out.
    pub(super) cut_off: u64,
    /// Dispatches of one of several that could start.
    pub(super) contested: u64,
    /// The hash of the last frame, folded over the seeds.
    pub(super) history: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.takeovers += other.takeovers;
        self.resumed += other.resumed;
        self.deposed += other.deposed;
        self.broken += other.broken;
        self.dispatches += other.dispatches;
        self.claims += other.claims;
        self.calls += other.calls;
        self.expired += other.expired;
        self.stalled += other.stalled;
        self.parked += other.parked;
        self.poisoned += other.poisoned;
        self.completed += other.completed;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.stops += other.stops;
        self.late_answers += other.late_answers;
        self.stale_epochs += other.stale_epochs;
        self.repeats += other.repeats;
        self.silent += other.silent;
        self.digests += other.digests;
        self.put_aside += other.put_aside;
        self.loaded += other.loaded;
        self.keys_evicted += other.keys_evicted;
        self.conflicts += other.conflicts;
        self.nowhere += other.nowhere;
        self.unavailable += other.unavailable;
        self.rate_waits += other.rate_waits;
        self.overdrawn += other.overdrawn;
        self.warnings += other.warnings;
        self.raised += other.raised;
        self.snapshots += other.snapshots;
        self.from_snapshots += other.from_snapshots;
        self.unusable += other.unusable;
        self.cut_off += other.cut_off;
        self.contested += other.contested;
        self.history ^= other.history;
    }

    /// Everything that the simulation is for has happened.
    pub(super) fn check(&self) {
        let met = [
            self.takeovers,
            self.resumed,
            self.deposed,
            self.broken,
            self.expired,
            self.stalled,
            self.parked,
            self.poisoned,
            self.completed,
            self.failed,
            self.cancelled,
            self.stops,
            self.late_answers,
            self.stale_epochs,
            self.repeats,
            self.silent,
            self.digests,
            self.put_aside,
            self.loaded,
            self.keys_evicted,
            self.conflicts,
            self.nowhere,
            self.unavailable,
            self.rate_waits,
            self.overdrawn,
            self.warnings,
            self.raised,
            self.snapshots,
            self.from_snapshots,
            self.unusable,
            self.cut_off,
            self.contested,
        ];
        assert!(met.iter().all(|count| *count > 0), "the seeds did not meet what they are for: {self:?}");
    }
}
