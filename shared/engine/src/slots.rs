//! What is in use: slots of each limit, runs of each worker, dispatches that nobody has claimed.

use std::collections::BTreeMap;

use laneway_contract::{Limits, ModelId, PoolId, WaitReason, WorkerId};

use crate::queue::Class;
use crate::run::{Phase, Run};

/// Counts of runs that hold a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// In all.
    pub global: u32,
    /// Per provider.
    pub providers: BTreeMap<String, u32>,
    /// Per model.
    pub models: BTreeMap<ModelId, u32>,
    /// Per concurrency group.
    pub groups: BTreeMap<String, u32>,
    /// Executing, per worker.
    pub workers: BTreeMap<WorkerId, u32>,
    /// Dispatched and unclaimed, per pool.
    pub unclaimed: BTreeMap<PoolId, u32>,
}

impl Slots {
    /// Counts a run in, when it holds a slot.
    pub(crate) fn add(&mut self, run: &Run) {
        self.change(run, |map_count| *map_count += 1);
    }

    /// Counts a run out, when it holds a slot.
    pub(crate) fn remove(&mut self, run: &Run) {
        self.change(run, |map_count| *map_count = map_count.saturating_sub(1));
        self.providers.retain(|_, count| *count > 0);
        self.models.retain(|_, count| *count > 0);
        self.groups.retain(|_, count| *count > 0);
        self.workers.retain(|_, count| *count > 0);
        self.unclaimed.retain(|_, count| *count > 0);
    }

    fn change(&mut self, run: &Run, step: impl Fn(&mut u32)) {
        match &run.phase {
            Phase::Queued | Phase::Backoff { .. } => return,
            Phase::Dispatched { pool, .. } => step(self.unclaimed.entry(pool.clone()).or_default()),
            Phase::Running { worker_id, .. } => step(self.workers.entry(worker_id.clone()).or_default()),
        }
        let fields = &run.record.fields;
        step(&mut self.global);
        step(self.providers.entry(fields.model_id.provider().to_owned()).or_default());
        step(self.models.entry(fields.model_id.clone()).or_default());
        if let Some(group) = &fields.concurrency_group {
            step(self.groups.entry(group.clone()).or_default());
        }
    }

    /// The limit that keeps a class from starting one more run.
    pub(crate) fn binding(&self, class: &Class, limits: &Limits) -> Option<WaitReason> {
        let provider = class.model.provider();
        let full = |used: Option<&u32>, limit: u32| used.copied().unwrap_or(0) >= limit;
        if self.global >= limits.global {
            return Some(WaitReason::Global);
        }
        if full(self.providers.get(provider), limits.provider(provider)) {
            return Some(WaitReason::Provider);
        }
        if full(self.models.get(&class.model), limits.model(&class.model)) {
            return Some(WaitReason::Model);
        }
        let group = class.group.as_ref()?;
        let limit = limits.group(group)?;
        full(self.groups.get(group), limit).then_some(WaitReason::Group)
    }

    /// The counts by the names that limits have.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u32> {
        let mut all = BTreeMap::from([("global".to_owned(), self.global)]);
        all.extend(self.providers.iter().map(|(name, count)| (format!("provider:{name}"), *count)));
        all.extend(self.models.iter().map(|(name, count)| (format!("model:{name}"), *count)));
        all.extend(self.groups.iter().map(|(name, count)| (format!("group:{name}"), *count)));
        all
    }
}
