//! The state that events fold into, with the indexes that decisions read.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{Epoch, HashKey, Lane, Limits, ModelId, PoolId, RunId, SessionId, Timestamp, WaitReason};

use crate::digest::Digests;
use crate::hints::Hints;
use crate::queue::{Class, Queues, class_of};
use crate::run::{EndedRun, Phase, Run};
use crate::session::Session;
use crate::slots::Slots;

/// Sessions, runs and limits. Changed by [`State::apply`] alone.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) hash_key: Option<HashKey>,
    pub(crate) limits: Limits,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) runs: BTreeMap<RunId, Run>,
    pub(crate) ended: BTreeMap<RunId, EndedRun>,
    pub(crate) last_epoch: Epoch,
    pub(crate) last_order: u64,
    // Indexes: worked out from the above, so no part of the digest.
    pub(crate) live_sessions: BTreeSet<SessionId>,
    pub(crate) ending_sessions: BTreeSet<SessionId>,
    pub(crate) by_token: BTreeMap<String, BTreeSet<RunId>>,
    pub(crate) due: BTreeSet<(Timestamp, RunId)>,
    pub(crate) queues: Queues,
    pub(crate) slots: Slots,
    pub(crate) digests: Digests,
}

impl State {
    /// The deployment's hash key, once it is made.
    #[must_use]
    pub fn hash_key(&self) -> Option<&HashKey> {
        self.hash_key.as_ref()
    }

    /// The concurrency limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A session.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Sessions that have not ended, by id, from the one after `after`.
    pub fn live_sessions(&self, after: Option<SessionId>) -> impl Iterator<Item = &Session> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.live_sessions.range((from, Bound::Unbounded)).filter_map(|id| self.sessions.get(id))
    }

    /// How many sessions have not ended.
    #[must_use]
    pub fn live_session_count(&self) -> usize {
        self.live_sessions.len()
    }

    /// A run that has not ended.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// Runs that have not ended, by falling id, from the one before `before`.
    pub fn live_runs(&self, before: Option<RunId>) -> impl Iterator<Item = &Run> {
        use std::ops::Bound;
        let to = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.runs.range((Bound::Unbounded, to)).rev().map(|(_, run)| run)
    }

    /// What is remembered of an ended run.
    #[must_use]
    pub fn ended_run(&self, id: RunId) -> Option<&EndedRun> {
        self.ended.get(&id)
    }

    /// How many ended runs are remembered.
    #[must_use]
    pub fn ended_run_count(&self) -> usize {
        self.ended.len()
    }

    /// What is in use.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Runs that wait, per lane.
    #[must_use]
    pub fn queued(&self) -> &BTreeMap<Lane, u64> {
        self.queues.queued()
    }

    /// Runs that a worker executes. A new leader gives each a full lease.
    pub fn executing(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| matches!(run.phase, Phase::Running { .. }))
    }

    /// Runs that nobody has claimed yet. A new leader sends their dispatches again.
    pub fn dispatched(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| matches!(run.phase, Phase::Dispatched { .. }))
    }

    /// The live runs of a session, newest first and the current one last: cancelled in this order in several turns, none of
    /// them starts between two.
    #[must_use]
    pub fn runs_of_session(&self, session: &Session) -> Vec<RunId> {
        session.queue.values().rev().chain(&session.current).copied().collect()
    }

    /// Why a queued run does not start now.
    #[must_use]
    pub fn wait_reason(&self, run: &Run, hints: &Hints, now: Timestamp) -> WaitReason {
        let Some(session) = self.sessions.get(&run.record.session_id) else { return WaitReason::None };
        match run.phase {
            Phase::Backoff { .. } => return WaitReason::RetryBackoff,
            Phase::Dispatched { .. } | Phase::Running { .. } => return WaitReason::None,
            Phase::Queued => {}
        }
        if session.paused.is_some() {
            return WaitReason::Paused;
        }
        if session.head().is_none_or(|(_, head)| head != run.record.run_id) {
            return WaitReason::SessionBusy;
        }
        let class = class_of(&run.record.fields);
        if let Some(limit) = self.slots.binding(&class, &self.limits) {
            return limit;
        }
        match self.free_pool(&class, hints, now) {
            Ok(_) => WaitReason::None,
            Err(reason) => reason,
        }
    }

    /// The pool that serves a class and has the most free slots, by name among equals.
    ///
    /// Free slots of a pool = slots of its live workers − what they execute − the pool's unclaimed dispatches.
    pub(crate) fn free_pool(&self, class: &Class, hints: &Hints, now: Timestamp) -> Result<PoolId, WaitReason> {
        let mut free: BTreeMap<&PoolId, i64> = BTreeMap::new();
        for (worker_id, worker) in &hints.workers {
            if worker.valid_until <= now || worker.slots == 0 || !worker.serves(&class.model) {
                continue;
            }
            let executing = self.slots.workers.get(worker_id).copied().unwrap_or(0);
            // A worker executes more than its slots after it came back with fewer: it adds nothing and takes nothing.
            let slots = i64::from(worker.slots.saturating_sub(executing));
            *free.entry(&worker.pool).or_default() += slots;
        }
        if free.is_empty() {
            return Err(WaitReason::NoWorker);
        }
        for (pool, slots) in &mut free {
            *slots -= i64::from(self.slots.unclaimed.get(*pool).copied().unwrap_or(0));
        }
        let best = free.into_iter().rev().max_by_key(|(_, slots)| *slots);
        best.filter(|(_, slots)| *slots > 0).map(|(pool, _)| pool.clone()).ok_or(WaitReason::WorkersBusy)
    }

    /// The next time at which [`State::schedule`] has something to do by itself.
    #[must_use]
    pub fn next_deadline(&self, hints: &Hints) -> Option<Timestamp> {
        let due = self.due.first().map(|(at, _)| *at);
        let lease = hints.leases.values().map(|lease| lease.ends_at).min();
        [due, lease].into_iter().flatten().min()
    }

    /// The model that a run of this session has when its submit names none.
    #[must_use]
    pub fn model_of(&self, session: SessionId) -> Option<&ModelId> {
        self.sessions.get(&session).map(|session| &session.creation.fields.model_id)
    }
}
