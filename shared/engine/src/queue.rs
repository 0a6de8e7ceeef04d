//! The queues: one head per session, grouped in classes that a limit blocks or frees as a whole, and the lanes' shares.

use std::collections::BTreeMap;

use laneway_contract::{Lane, Limits, ModelId, RunId};
use serde::{Deserialize, Serialize};

use crate::slab::Slab;
use crate::slots::{GaugeId, Slots};
use crate::turns::{KeyId, OwnerId, Turns};

/// A class in the slab.
pub(crate) type ClassId = u32;

/// What the runs of a class have in common: every limit that could hold them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassName {
    pub(crate) lane: Lane,
    pub(crate) model: ModelId,
    pub(crate) group: Option<String>,
}

/// A class with its limits and heads.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: ClassName,
    pub(crate) provider: GaugeId,
    pub(crate) model: GaugeId,
    pub(crate) group: Option<GaugeId>,
    /// Runs of it that have not ended.
    live: u32,
    /// Heads by priority, then by whose turn it is.
    levels: BTreeMap<u32, Owners>,
    /// The first of them, since every choice looks at it.
    first: Option<(Rank, RunId)>,
}

/// By the owner's last turn.
type Owners = BTreeMap<(u64, OwnerId), Keys>;
/// By the key's last turn.
type Keys = BTreeMap<(u64, KeyId), Heads>;
/// By place: what a person has decided first, then submit order.
type Heads = BTreeMap<Place, RunId>;
/// Whether it waits like others, and its order.
pub(crate) type Place = (bool, u64);

/// Where the best head of a class stands among those of its lane: smaller is sooner.
pub(crate) type Rank = (u32, u64, u64, Place);

impl Class {
    /// The head that goes first.
    pub(crate) const fn first(&self) -> Option<(Rank, RunId)> {
        self.first
    }

    fn find_first(&self) -> Option<(Rank, RunId)> {
        let (priority, owners) = self.levels.first_key_value()?;
        let ((owner, _), keys) = owners.first_key_value()?;
        let ((key, _), heads) = keys.first_key_value()?;
        let (place, run) = heads.first_key_value()?;
        Some(((*priority, *owner, *key, *place), *run))
    }
}

/// All classes, and the shares of the lanes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    classes: Slab<Class>,
    by_name: BTreeMap<ClassName, ClassId>,
    queued: BTreeMap<Lane, u64>,
    pub(crate) lanes: Lanes,
}

impl Queues {
    /// The class of a run that has just been queued; it and its gauges stay while runs of it live.
    pub(crate) fn join(&mut self, name: ClassName, slots: &mut Slots, limits: &Limits) -> ClassId {
        if let Some(id) = self.by_name.get(&name) {
            self.classes[*id].live += 1;
            return *id;
        }
        let class = Class {
            provider: slots.join_provider(name.model.provider(), limits),
            model: slots.join_model(&name.model, limits),
            group: name.group.as_ref().map(|group| slots.join_group(group, limits)),
            name: name.clone(),
            live: 1,
            levels: BTreeMap::new(),
            first: None,
        };
        let id = self.classes.insert(class);
        self.by_name.insert(name, id);
        id
    }

    /// A run of the class has ended.
    pub(crate) fn leave(&mut self, id: ClassId, slots: &mut Slots) {
        self.classes[id].live -= 1;
        if self.classes[id].live > 0 {
            return;
        }
        let class = self.classes.remove(id);
        self.by_name.remove(&class.name);
        for gauge in [Some(class.provider), Some(class.model), class.group].into_iter().flatten() {
            slots.leave(gauge);
        }
    }

    pub(crate) fn class(&self, id: ClassId) -> &Class {
        &self.classes[id]
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.values()
    }

    /// Puts the head of a session into its class.
    pub(crate) fn insert(&mut self, head: Head, run: RunId, turns: &mut Turns) {
        let (owner_id, owner) = turns.owner(head.key);
        let (owner_at, key_at) = ((owner.served, owner_id), (turns.key(head.key).served, head.key));
        let class = &mut self.classes[head.class];
        let owners = class.levels.entry(head.priority).or_default();
        owners.entry(owner_at).or_default().entry(key_at).or_default().insert(head.place, run);
        let rank = (head.priority, owner.served, turns.key(head.key).served, head.place);
        if class.first.is_none_or(|(first, _)| rank < first) {
            class.first = Some((rank, run));
        }
        turns.count_head(owner_id, head.class, true);
    }

    /// Takes it out.
    pub(crate) fn remove(&mut self, head: Head, turns: &mut Turns) {
        let (owner_id, owner) = turns.owner(head.key);
        let (owner_at, key_at) = ((owner.served, owner_id), (turns.key(head.key).served, head.key));
        let class = &mut self.classes[head.class];
        let levels = &mut class.levels;
        let Some(owners) = levels.get_mut(&head.priority) else { return };
        let Some(keys) = owners.get_mut(&owner_at) else { return };
        let Some(heads) = keys.get_mut(&key_at) else { return };
        heads.remove(&head.place);
        if heads.is_empty() {
            keys.remove(&key_at);
            if keys.is_empty() {
                owners.remove(&owner_at);
                if owners.is_empty() {
                    levels.remove(&head.priority);
                }
            }
        }
        class.first = class.find_first();
        turns.count_head(owner_id, head.class, false);
    }

    /// The key takes a turn: it and its owner go to the back in every class where they have heads.
    pub(crate) fn serve(&mut self, priority: u32, key: KeyId, turns: &mut Turns) {
        let (owner_id, owner) = turns.owner(key);
        let (owner_before, key_before) = ((owner.served, owner_id), (turns.key(key).served, key));
        let classes: Vec<ClassId> = owner.heads.keys().copied().collect();
        turns.serve(key);
        let owner_after = (turns.owner(key).1.served, owner_id);
        let key_after = (turns.key(key).served, key);
        for class in classes {
            let class = &mut self.classes[class];
            let Some(owners) = class.levels.get_mut(&priority) else { continue };
            let Some(mut keys) = owners.remove(&owner_before) else { continue };
            if let Some(heads) = keys.remove(&key_before) {
                keys.insert(key_after, heads);
            }
            owners.insert(owner_after, keys);
            class.first = class.find_first();
        }
    }

    /// Counts runs that wait, heads or not.
    pub(crate) fn count(&mut self, lane: Lane, waits: bool) {
        let count = self.queued.entry(lane).or_default();
        *count = if waits { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Runs that wait, per lane.
    pub(crate) fn queued(&self) -> &BTreeMap<Lane, u64> {
        &self.queued
    }
}

/// Where a head is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) class: ClassId,
    pub(crate) priority: u32,
    pub(crate) key: KeyId,
    pub(crate) place: Place,
}

/// The lanes' shares: stride scheduling (Waldspurger and Weihl, 1995).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lanes {
    pass: BTreeMap<Lane, u64>,
    virtual_time: u64,
}

/// One dispatch moves its lane's pass by this, divided by the lane's weight.
const STRIDE: u64 = 1 << 24;

impl Lanes {
    /// The lane took a slot. One that was idle or held back starts at the virtual time, so that it has saved up no credit.
    pub(crate) fn took(&mut self, lane: Lane, limits: &Limits) {
        let start = self.start(lane);
        self.virtual_time = start;
        self.pass.insert(lane, start + STRIDE / limits.weight(lane));
    }

    /// The lane with the smallest goes first.
    pub(crate) fn start(&self, lane: Lane) -> u64 {
        self.pass.get(&lane).copied().unwrap_or(0).max(self.virtual_time)
    }
}
