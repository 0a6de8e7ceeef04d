//! What the leader has heard and has not journaled. Decisions may read it, the fold never does.

use std::collections::BTreeMap;

use laneway_contract::{ATTEMPT_LEASE_MS, Epoch, Event, ModelId, PoolId, RunId, Timestamp, WorkerId};

/// Lease ends and announcements. Starts empty under a new leader.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// When the lease of each executing run ends.
    pub leases: BTreeMap<RunId, Lease>,
    /// Workers that were heard.
    pub workers: BTreeMap<WorkerId, WorkerHint>,
}

impl Hints {
    /// Keeps leases in step with an event: a claim gives one, whatever ends the attempt takes it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an event that is not named here concerns no lease")]
    pub fn observe(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::RunClaimed { run_id, epoch, .. } => self.give_lease(*run_id, *epoch, at),
            Event::RunSettled { run, .. } => {
                self.leases.remove(&run.run_id);
            }
            Event::RunRetryScheduled { run_id, .. }
            | Event::RunReturned { run_id, .. }
            | Event::LeaseExpired { run_id, .. } => {
                self.leases.remove(run_id);
            }
            _ => {}
        }
    }

    /// Gives an attempt a full lease from `at` on.
    pub fn give_lease(&mut self, run_id: RunId, epoch: Epoch, at: Timestamp) {
        self.leases.insert(run_id, Lease { epoch, ends_at: at.plus_millis(ATTEMPT_LEASE_MS as i64) });
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
