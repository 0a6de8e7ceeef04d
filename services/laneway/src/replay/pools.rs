//! What the journal shows of the workers. Their announcements are not journaled, so this is worked out from dispatches.
//!
//! A pool serves the models that were dispatched to it. Where a run was seen to wait for nothing but a worker while the pool
//! held as many runs as ever, that many are its slots; where that was never seen, the journal does not say how many it has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use laneway_contract::{Event, ModelId, PoolId, RunId, Timestamp, Token};
use laneway_engine::{Hints, State, WorkerHint};
use serde::Serialize;

/// The slots of a pool that nothing is known to bound.
const UNBOUNDED: u32 = u32::MAX;

/// A pool, as far as the journal shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Pool {
    /// The models that were dispatched to it.
    pub(crate) models: BTreeSet<ModelId>,
    /// The most runs that it held at a time.
    pub(crate) most_held: u32,
    /// Whether a run had to wait for a worker of it while it held that many.
    pub(crate) seen_full: bool,
    #[serde(skip)]
    held: u32,
    #[serde(skip)]
    full_at: Option<u32>,
}

impl Pool {
    /// The slots that the model gives it; none where nothing bounds them.
    pub(crate) fn slots(&self, given: Option<u32>) -> Option<u32> {
        given.or_else(|| self.seen_full.then_some(self.most_held))
    }
}

/// All pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    known: BTreeMap<PoolId, Pool>,
    holding: HashMap<RunId, PoolId>,
    hints: Hints,
}

impl Pools {
    /// Takes an event in.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an event that is not named here concerns no slot of a worker")]
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::RunDispatched { run_id, pool, model_id, .. } => {
                let known = self.known.entry(pool.clone()).or_default();
                known.held += 1;
                known.most_held = known.most_held.max(known.held);
                if known.models.insert(model_id.clone()) {
                    self.hints.workers.insert(pool.clone(), worker(pool, &known.models, UNBOUNDED));
                }
                self.holding.insert(*run_id, pool.clone());
            }
            Event::RunSettled { run, .. } => self.gives_back(run.run_id),
            Event::RunReturned { run_id, .. }
            | Event::RunRetryScheduled { run_id, .. }
            | Event::RunParked { run_id, .. }
            | Event::RunStalled { run_id, .. } => self.gives_back(*run_id),
            _ => {}
        }
    }

    fn gives_back(&mut self, run: RunId) {
        if let Some(pool) = self.holding.remove(&run).and_then(|pool| self.known.get_mut(&pool)) {
            pool.held -= 1;
        }
    }

    /// Looks at the state right behind a turn: the leader has dispatched all that it could, so what could still be
    /// dispatched by the state alone waits for a worker.
    pub(crate) fn look(&mut self, state: &State, at: Timestamp) {
        if let [Event::RunDispatched { pool, .. }] = state.schedule(&self.hints, at).as_slice()
            && let Some(pool) = self.known.get_mut(pool)
        {
            pool.full_at = pool.full_at.max(Some(pool.held));
        }
    }

    /// What is known of them so far.
    pub(crate) fn known(&self) -> BTreeMap<PoolId, Pool> {
        let known = self.known.iter().map(|(id, pool)| {
            let seen_full = pool.full_at == Some(pool.most_held);
            (id.clone(), Pool { seen_full, ..pool.clone() })
        });
        known.collect()
    }

    /// Hints in which every pool has room for all that it serves.
    pub(crate) fn hints(&self) -> &Hints {
        &self.hints
    }
}

/// A pool as one worker that never leaves.
pub(crate) fn worker(pool: &PoolId, models: &BTreeSet<ModelId>, slots: u32) -> WorkerHint {
    let models = models.iter().map(|model| model.as_str().to_owned()).collect();
    WorkerHint { pool: pool.clone(), models, slots, valid_until: Timestamp::from_millis(i64::MAX) }
}

/// The hint of a pool in the model.
pub(crate) fn modelled(id: &PoolId, pool: &Pool, given: Option<u32>) -> (Token, WorkerHint) {
    (id.clone(), worker(id, &pool.models, pool.slots(given).unwrap_or(UNBOUNDED)))
}
