//! What the leader has heard and has not journaled. Decisions may read it, the fold never does.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{ATTEMPT_LEASE_MS, Epoch, Event, MemoryLimits, ModelId, PoolId, RunId, Timestamp, WorkerId};

/// Lease ends and announcements. Starts empty under a new leader.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    leases: BTreeMap<RunId, Lease>,
    ends: BTreeSet<(Timestamp, RunId)>,
    /// Workers that were heard.
    pub workers: BTreeMap<WorkerId, WorkerHint>,
    /// How much memory may hold: a setting of the leader, and no part of what is folded.
    pub memory: MemoryLimits,
}

impl Hints {
    /// Nothing heard yet, with room for so much in memory.
    #[must_use]
    pub fn new(memory: MemoryLimits) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Keeps leases in step with an event: a claim gives one, whatever ends the attempt takes it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an event that is not named here concerns no lease")]
    pub fn observe(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::RunClaimed { run_id, epoch, .. } => self.give_lease(*run_id, *epoch, at),
            Event::RunSettled { run, .. } => self.take_lease(run.run_id),
            Event::RunRetryScheduled { run_id, .. }
            | Event::RunReturned { run_id, .. }
            | Event::RunParked { run_id, .. }
            | Event::RunStalled { run_id, .. }
            | Event::LeaseExpired { run_id, .. } => self.take_lease(*run_id),
            _ => {}
        }
    }

    /// Gives an attempt a full lease from `at` on.
    pub fn give_lease(&mut self, run_id: RunId, epoch: Epoch, at: Timestamp) {
        self.take_lease(run_id);
        let ends_at = at.plus_millis(ATTEMPT_LEASE_MS as i64);
        self.leases.insert(run_id, Lease { epoch, ends_at });
        self.ends.insert((ends_at, run_id));
    }

    fn take_lease(&mut self, run_id: RunId) {
        if let Some(lease) = self.leases.remove(&run_id) {
            self.ends.remove(&(lease.ends_at, run_id));
        }
    }

    /// Leases that have ended.
    pub fn ended_leases(&self, now: Timestamp) -> impl Iterator<Item = (RunId, Lease)> {
        let ended = self.ends.iter().take_while(move |(at, _)| *at <= now);
        ended.filter_map(|(_, id)| Some((*id, *self.leases.get(id)?)))
    }

    /// When the next lease ends.
    #[must_use]
    pub fn next_lease_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }
}

/// The end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lease.
    pub epoch: Epoch,
    /// When it ends unless it is renewed.
    pub ends_at: Timestamp,
}

/// A worker as it announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerHint {
    /// Its pool.
    pub pool: PoolId,
    /// `provider/model`, or `provider/*`.
    pub models: Vec<String>,
    /// Runs that it executes at a time.
    pub slots: u32,
    /// Until when the announcement holds.
    pub valid_until: Timestamp,
}

impl WorkerHint {
    /// Whether it serves a model.
    #[must_use]
    pub fn serves(&self, model: &ModelId) -> bool {
        self.models.iter().any(|served| {
            served == model.as_str() || served.strip_suffix("/*").is_some_and(|provider| provider == model.provider())
        })
    }
}
