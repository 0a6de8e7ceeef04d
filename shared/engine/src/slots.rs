//! What is in use: slots of each limit, runs of each worker, dispatches that nobody has claimed.

use std::collections::BTreeMap;

use laneway_contract::{Lane, Limits, ModelId, PoolId, Scope, WaitReason, WorkerId};

use crate::queue::Class;
use crate::run::{Phase, Run};
use crate::slab::Slab;

/// A limit in the slab.
pub(crate) type GaugeId = u32;

/// One limit with what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What it limits.
    pub what: GaugeName,
    /// The limit; none for a group without one.
    pub limit: Option<u32>,
    /// Runs that hold a slot.
    pub used: u32,
    /// Of them, those that are not PRIMARY.
    pub others: u32,
    /// Classes that it limits.
    classes: u32,
}

/// What a gauge limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GaugeName {
    /// All runs.
    Global,
    /// Those of a provider or model.
    Scope(Scope),
    /// Those of a concurrency group.
    Group(String),
}

/// Slots of a limit that only PRIMARY may take: a quarter rounded down, never the whole.
#[must_use]
pub const fn reserve(limit: u32) -> u32 {
    limit / 4
}

impl Gauge {
    fn new(what: GaugeName, limits: &Limits) -> Self {
        let limit = limit_of(&what, limits);
        Self { what, limit, used: 0, others: 0, classes: 0 }
    }

    /// Whether a run of this lane finds no slot.
    #[must_use]
    pub fn is_full(&self, lane: Lane) -> bool {
        let Some(limit) = self.limit else { return false };
        self.used >= limit || (lane != Lane::Primary && self.others >= limit - reserve(limit))
    }
}

fn limit_of(what: &GaugeName, limits: &Limits) -> Option<u32> {
    match what {
        GaugeName::Global => Some(limits.global),
        GaugeName::Scope(Scope::Provider(name)) => Some(limits.provider(name)),
        GaugeName::Scope(Scope::Model(id)) => Some(limits.model(id)),
        GaugeName::Group(name) => limits.group(name),
    }
}

/// Counts of runs that hold a slot. A view of the runs, so no part of the digest.
#[derive(Clone, Debug)]
pub struct Slots {
    /// In all.
    pub global: Gauge,
    gauges: Slab<Gauge>,
    by_name: BTreeMap<GaugeName, GaugeId>,
    /// Executing, per worker.
    pub workers: BTreeMap<WorkerId, u32>,
    /// Dispatched and unclaimed, per pool.
    pub unclaimed: BTreeMap<PoolId, u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            global: Gauge::new(GaugeName::Global, &Limits::default()),
            gauges: Slab::default(),
            by_name: BTreeMap::new(),
            workers: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
        }
    }
}

impl Slots {
    pub(crate) fn join_provider(&mut self, provider: &str, limits: &Limits) -> GaugeId {
        self.join(GaugeName::Scope(Scope::Provider(provider.to_owned())), limits)
    }

    pub(crate) fn join_model(&mut self, model: &ModelId, limits: &Limits) -> GaugeId {
        self.join(GaugeName::Scope(Scope::Model(model.clone())), limits)
    }

    pub(crate) fn join_group(&mut self, group: &str, limits: &Limits) -> GaugeId {
        self.join(GaugeName::Group(group.to_owned()), limits)
    }

    fn join(&mut self, what: GaugeName, limits: &Limits) -> GaugeId {
        let id = self.by_name.get(&what).copied().unwrap_or_else(|| {
            let id = self.gauges.insert(Gauge::new(what.clone(), limits));
            self.by_name.insert(what, id);
            id
        });
        self.gauges[id].classes += 1;
        id
    }

    pub(crate) fn leave(&mut self, id: GaugeId) {
        self.gauges[id].classes -= 1;
        if self.gauges[id].classes == 0 {
            let gauge = self.gauges.remove(id);
            self.by_name.remove(&gauge.what);
        }
    }

    /// Takes new limits over.
    pub(crate) fn relimit(&mut self, limits: &Limits) {
        self.global.limit = limit_of(&GaugeName::Global, limits);
        for id in self.gauges.ids().collect::<Vec<_>>() {
            let gauge = &mut self.gauges[id];
            gauge.limit = limit_of(&gauge.what, limits);
        }
    }

    /// Counts a run in or out, when it holds a slot.
    pub(crate) fn count(&mut self, run: &Run, class: &Class, here: bool) {
        match &run.phase {
            Phase::Dispatched { pool, .. } => step_in(&mut self.unclaimed, pool, here),
            Phase::Running { worker_id, .. } => step_in(&mut self.workers, worker_id, here),
            Phase::Delayed { .. } | Phase::Queued | Phase::Backoff { .. } | Phase::Stalled | Phase::AwaitingUser => {
                return;
            }
        }
        let other = class.name.lane != Lane::Primary;
        let change = |gauge: &mut Gauge| {
            step(&mut gauge.used, here);
            if other {
                step(&mut gauge.others, here);
            }
        };
        change(&mut self.global);
        for gauge in [Some(class.provider), Some(class.model), class.group].into_iter().flatten() {
            change(&mut self.gauges[gauge]);
        }
    }

    /// The gauges that limit a class, in the order of admission, with the reason that each shows as.
    pub(crate) fn of<'a>(&'a self, class: &Class) -> impl Iterator<Item = (WaitReason, &'a Gauge)> {
        let gauges = [
            Some((WaitReason::Global, &self.global)),
            Some((WaitReason::Provider, &self.gauges[class.provider])),
            Some((WaitReason::Model, &self.gauges[class.model])),
            class.group.map(|group| (WaitReason::Group, &self.gauges[group])),
        ];
        gauges.into_iter().flatten()
    }

    /// Whether a limit keeps a class from starting one more run.
    pub(crate) fn hold(&self, class: &Class) -> bool {
        let lane = class.name.lane;
        self.global.is_full(lane)
            || self.gauges[class.model].is_full(lane)
            || self.gauges[class.provider].is_full(lane)
            || class.group.is_some_and(|group| self.gauges[group].is_full(lane))
    }

    /// Runs that hold a slot of a provider or model.
    #[must_use]
    pub fn used(&self, scope: &Scope) -> u32 {
        let id = self.by_name.get(&GaugeName::Scope(scope.clone()));
        id.map_or(0, |id| self.gauges[*id].used)
    }

    /// Every gauge.
    pub fn all(&self) -> impl Iterator<Item = &Gauge> {
        std::iter::once(&self.global).chain(self.gauges.values())
    }

    /// The counts by the names that limits have; those in use.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u32> {
        let of_gauge = |gauge: &Gauge| (gauge.what.to_string(), gauge.used);
        let used = self.gauges.values().filter(|gauge| gauge.used > 0).map(of_gauge);
        used.chain([("global".to_owned(), self.global.used)]).collect()
    }

    /// Whether nothing is in use.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.all().all(|gauge| gauge.used == 0 && gauge.others == 0)
            && self.workers.is_empty()
            && self.unclaimed.is_empty()
    }
}

impl std::fmt::Display for GaugeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Scope(scope) => scope.fmt(f),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

fn step(count: &mut u32, up: bool) {
    *count = if up { *count + 1 } else { count.saturating_sub(1) };
}

fn step_in<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K, up: bool) {
    match counts.get_mut(key) {
        Some(count) => {
            step(count, up);
            if *count == 0 {
                counts.remove(key);
            }
        }
        None if up => drop(counts.insert(key.clone(), 1)),
        None => {}
    }
}
