//! Waits next to each other: as recorded, modelled as it was, modelled under the policy.

use std::collections::BTreeMap;

use laneway_contract::{Lane, PoolId, Timestamp};
use serde::Serialize;

use super::model::Modelled;
use super::pools::Pool;
use super::workload::Workload;

/// Intervals into which the time from the first submit to the last is divided.
pub(crate) const INTERVALS: usize = 60;

/// What is compared, in the order of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Column {
    /// What the journal says.
    Recorded,
    /// The model under the limits as they were: how far it is from the record is the error of the model.
    AsItWas,
    /// The model under the policy.
    Policy,
}

impl Column {
    pub(crate) const ALL: [Self; 3] = [Self::Recorded, Self::AsItWas, Self::Policy];

    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::AsItWas => "modelled as it was",
            Self::Policy => "modelled under the policy",
        }
    }
}

/// The comparison, as `--json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// Says that it is one.
    pub(crate) kind: &'static str,
    /// From the first turn that was recorded.
    pub(crate) began: Timestamp,
    /// To the last.
    pub(crate) ended: Timestamp,
    /// The first submit and the last, where there were any.
    pub(crate) submits: Option<(Timestamp, Timestamp)>,
    /// The last frame of which something was taken.
    pub(crate) frame: u64,
    /// Runs that were submitted.
    pub(crate) submitted: u64,
    /// Runs that a rule of the policy changed.
    pub(crate) changed: u64,
    /// Submits that the model refused, under the policy.
    pub(crate) refused: u64,
    /// How far the model is from the record where nothing was changed.
    pub(crate) error: Error,
    /// By the lane in which a run was recorded.
    pub(crate) lanes: Vec<Group<Lane>>,
    /// By fairness key: those that waited longest in all.
    pub(crate) keys: Vec<Group<String>>,
    /// How many further keys there are.
    pub(crate) more_keys: usize,
    /// The workers that the model has.
    pub(crate) pools: BTreeMap<PoolId, ModelledPool>,
}

/// A pool in the model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelledPool {
    #[serde(flatten)]
    pub(crate) seen: Pool,
    /// What the model gives it; none where nothing bounds it.
    pub(crate) slots: Option<u32>,
}

/// Runs that are compared together.
#[derive(Debug, Serialize)]
pub(crate) struct Group<N> {
    pub(crate) name: N,
    /// Runs of it that were submitted.
    pub(crate) submitted: u64,
    /// Runs of it that started in all three: the waits are theirs.
    pub(crate) compared: u64,
    pub(crate) waits: BTreeMap<Column, Waits>,
    #[serde(skip)]
    pub(crate) curves: Curves,
}

/// Waits from submit to the first dispatch, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Waits {
    /// Runs that started, compared or not.
    pub(crate) started: u64,
    pub(crate) mean_ms: u64,
    pub(crate) p50_ms: u64,
    pub(crate) p95_ms: u64,
    pub(crate) max_ms: u64,
}

/// How far modelled waits are from recorded ones, run by run, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Error {
    /// Runs that started in both.
    pub(crate) runs: u64,
    pub(crate) mean_ms: u64,
    pub(crate) p95_ms: u64,
    pub(crate) max_ms: u64,
}

/// The mean wait of the runs submitted in each interval; none where there were none.
pub(crate) type Curve = Vec<Option<u64>>;
/// A curve for each column.
pub(crate) type Curves = [Curve; 3];

/// The runs of a group.
#[derive(Default)]
struct Gathered {
    submitted: u64,
    started: [u64; 3],
    /// Of those that started in all three.
    waits: [Vec<u64>; 3],
    /// In which interval each of them was submitted.
    intervals: Vec<usize>,
}

impl Gathered {
    fn add(&mut self, waits: [Option<u64>; 3], interval: usize) {
        self.submitted += 1;
        for (count, wait) in self.started.iter_mut().zip(waits) {
            *count += u64::from(wait.is_some());
        }
        if let [Some(recorded), Some(as_it_was), Some(policy)] = waits {
            for (all, wait) in self.waits.iter_mut().zip([recorded, as_it_was, policy]) {
                all.push(wait);
            }
            self.intervals.push(interval);
        }
    }

    fn total_recorded(&self) -> u64 {
        self.waits[0].iter().sum()
    }

    fn curves(&self) -> Curves {
        self.waits.each_ref().map(|waits| {
            let mut sums = vec![(0_u64, 0_u64); INTERVALS];
            for (wait, interval) in waits.iter().zip(&self.intervals) {
                sums[*interval].0 += wait;
                sums[*interval].1 += 1;
            }
            sums.into_iter().map(|(sum, count)| sum.checked_div(count)).collect()
        })
    }

    fn into_group<N>(self, name: N) -> Group<N> {
        let (compared, curves) = (self.waits[0].len() as u64, self.curves());
        let waits = Column::ALL.into_iter().zip(self.started.into_iter().zip(self.waits));
        let waits = waits.map(|(column, (started, waits))| (column, Waits::of(started, waits))).collect();
        Group { name, submitted: self.submitted, compared, waits, curves }
    }
}

impl Waits {
    fn of(started: u64, mut waits: Vec<u64>) -> Self {
        waits.sort_unstable();
        let max_ms = waits.last().copied().unwrap_or(0);
        Self { started, mean_ms: mean(&waits), p50_ms: rank(&waits, 50), p95_ms: rank(&waits, 95), max_ms }
    }
}

fn mean(sorted: &[u64]) -> u64 {
    let sum: u64 = sorted.iter().sum();
    let count = sorted.len() as u64;
    sum.saturating_add(count / 2).checked_div(count).unwrap_or(0)
}

/// The nearest rank: the smallest value that so many percent of all are not above.
fn rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Compares the waits of a workload with those of the model without and with a policy.
pub(crate) fn compare(work: &Workload, frame: u64, as_it_was: &Modelled, policy: &Modelled, keys: usize) -> Comparison {
    let submitted_at = || work.runs.iter().map(|run| run.submitted_at);
    let submits = submitted_at().min().zip(submitted_at().max());
    let (first, last) = submits.unwrap_or_default();
    let span = last.millis_since(first) + 1;
    let mut lanes: BTreeMap<Lane, Gathered> = BTreeMap::new();
    let mut by_key: BTreeMap<&str, Gathered> = BTreeMap::new();
    let mut off = Vec::new();
    for (run, (modelled, other)) in work.runs.iter().zip(as_it_was.waits.iter().zip(&policy.waits)) {
        let waits = [run.wait_ms, *modelled, *other];
        let since = run.submitted_at.millis_since(first);
        let interval = (u128::from(since) * INTERVALS as u128 / u128::from(span)) as usize;
        lanes.entry(run.lane).or_default().add(waits, interval);
        by_key.entry(run.fairness_key.as_str()).or_default().add(waits, interval);
        off.extend(run.wait_ms.zip(*modelled).map(|(recorded, modelled)| recorded.abs_diff(modelled)));
    }
    off.sort_unstable();
    let (runs, max_ms) = (off.len() as u64, off.last().copied().unwrap_or(0));
    let error = Error { runs, mean_ms: mean(&off), p95_ms: rank(&off, 95), max_ms };
    let mut by_key: Vec<(&str, Gathered)> = by_key.into_iter().collect();
    by_key.sort_by(|(a, one), (b, other)| other.total_recorded().cmp(&one.total_recorded()).then(a.cmp(b)));
    let more_keys = by_key.len().saturating_sub(keys);
    by_key.truncate(keys);
    Comparison {
        kind: "model",
        began: work.began,
        ended: work.ended,
        submits,
        frame,
        submitted: work.runs.len() as u64,
        changed: policy.changed,
        refused: policy.refused,
        error,
        lanes: lanes.into_iter().map(|(lane, runs)| runs.into_group(lane)).collect(),
        keys: by_key.into_iter().map(|(key, runs)| runs.into_group(key.to_owned())).collect(),
        more_keys,
        pools: BTreeMap::new(),
    }
}

impl Comparison {
    /// Says which workers the model has.
    pub(crate) fn with_pools(mut self, pools: &BTreeMap<PoolId, Pool>, slots: Option<u32>) -> Self {
        let modelled = |pool: &Pool| ModelledPool { seen: pool.clone(), slots: pool.slots(slots) };
        self.pools = pools.iter().map(|(id, pool)| (id.clone(), modelled(pool))).collect();
        self
    }
}

#[cfg(test)]
mod tests;
