//! The queues: one head per session, grouped in classes that a limit blocks or frees as a whole.

use std::collections::BTreeMap;

use laneway_contract::{Lane, ModelId, RunId};

/// What the runs of a class have in common: every limit that could hold them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) lane: Lane,
    pub(crate) model: ModelId,
    pub(crate) group: Option<String>,
}

/// A class as a run has it.
pub(crate) fn class_of(fields: &laneway_contract::RunFields) -> Class {
    Class { lane: fields.lane, model: fields.model_id.clone(), group: fields.concurrency_group.clone() }
}

/// The place of a head in its class: priority, then submit order.
pub(crate) type Place = (u32, u64);

/// All heads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    classes: BTreeMap<Class, BTreeMap<Place, RunId>>,
    pass: BTreeMap<Lane, u64>,
    virtual_time: u64,
    queued: BTreeMap<Lane, u64>,
}

/// One dispatch moves its lane's pass by this, divided by the lane's weight.
const STRIDE: u64 = 8 * 3 * 1_000;

impl Queues {
    pub(crate) fn insert(&mut self, class: Class, place: Place, run: RunId) {
        self.classes.entry(class).or_default().insert(place, run);
    }

    pub(crate) fn remove(&mut self, class: &Class, place: Place) {
        if let Some(heads) = self.classes.get_mut(class) {
            heads.remove(&place);
            if heads.is_empty() {
                self.classes.remove(class);
            }
        }
    }

    /// Counts runs that wait, heads or not.
    pub(crate) fn count(&mut self, lane: Lane, by: i64) {
        let count = self.queued.entry(lane).or_default();
        *count = count.saturating_add_signed(by);
    }

    /// Runs that wait, per lane.
    pub(crate) fn queued(&self) -> &BTreeMap<Lane, u64> {
        &self.queued
    }

    /// The lane took a slot: stride scheduling (Waldspurger and Weihl, 1995). A lane that was idle starts at the
    /// virtual time, so that it has saved up no credit.
    pub(crate) fn took(&mut self, lane: Lane) {
        let start = self.start(lane);
        self.virtual_time = start;
        self.pass.insert(lane, start + STRIDE / lane.weight());
    }

    fn start(&self, lane: Lane) -> u64 {
        self.pass.get(&lane).copied().unwrap_or(0).max(self.virtual_time)
    }

    /// The head to dispatch next among the classes that `admissible` lets through, with what it said of the class.
    pub(crate) fn choose<T>(&self, mut admissible: impl FnMut(&Class) -> Option<T>) -> Option<(RunId, T)> {
        let mut best: Option<((u64, Lane, Place), RunId, T)> = None;
        for (class, heads) in &self.classes {
            let Some((place, run)) = heads.first_key_value() else { continue };
            let rank = (self.start(class.lane), class.lane, *place);
            if best.as_ref().is_some_and(|(known, _, _)| *known <= rank) {
                continue;
            }
            if let Some(found) = admissible(class) {
                best = Some((rank, *run, found));
            }
        }
        best.map(|(_, run, found)| (run, found))
    }
}
