//! What a worker serves.

use std::time::Duration;

use laneway_contract::{Catalog, PoolId, WorkerId};

/// Settings of one worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name; another for each running worker.
    pub worker_id: WorkerId,
    /// The name of its pool; by default derived from the models, so that workers of the same models share one.
    pub pool: Option<PoolId>,
    /// Models that it serves, as `openai/gpt-5` or `echo/*`; by default all of every provider that it can call.
    pub models: Option<Vec<String>>,
    /// Runs that it executes at a time.
    pub slots: u32,
    /// The providers and prices.
    pub catalog: Catalog,
    /// How long running attempts may go on once a stop is requested; then they are reported as cut off.
    pub drain: Duration,
    /// For a test of the control stream alone: the stop flag in a renewal's answer is not looked at.
    pub ignore_renewal_stop: bool,
    /// For a test of the renewals alone: cancel signals are not listened to.
    pub ignore_control: bool,
}

impl WorkerConfig {
    /// How long running attempts may go on by default: with their reports, less than the 10 s that containers are given.
    pub const DRAIN: Duration = Duration::from_secs(5);

    /// A worker with every default.
    #[must_use]
    pub fn new(worker_id: WorkerId, slots: u32, catalog: Catalog) -> Self {
        Self {
            worker_id,
            pool: None,
            models: None,
            slots,
            catalog,
            drain: Self::DRAIN,
            ignore_renewal_stop: false,
            ignore_control: false,
        }
    }
}
