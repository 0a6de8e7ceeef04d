//! Whose turn it is among runs of one lane and priority: owners in turn, and the keys of one owner in turn.
//!
//! Round robin by least recently served (as in Shreedhar and Varghese, 1995, with one run for every quantum): who was
//! dispatched last goes to the back, whatever the model, and who is new begins at the back. A key whose runs are held by
//! a limit keeps its place and saves up nothing more than that, so nobody waits for more than one turn of each other.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::Lane;
use serde::Serialize;

use crate::digest::{self, Digests, Hashed};
use crate::queue::{ClassId, Place};
use crate::slab::Slab;

/// The runs that compete for turns: one lane, one priority.
pub(crate) type Level = (Lane, u32);
/// An owner in the slab.
pub(crate) type OwnerId = u32;
/// A key in the slab.
pub(crate) type KeyId = u32;

/// An owner or key with runs that have not ended. `served` is the number of its last turn, or of its arrival.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Owner {
    level: Level,
    name: String,
    pub(crate) served: u64,
    live: u32,
    /// Runs that wait, heads of their sessions or not.
    #[serde(skip)]
    queued: u64,
    #[serde(skip)]
    keys: BTreeMap<String, KeyId>,
    /// Heads in each class.
    #[serde(skip)]
    pub(crate) heads: BTreeMap<ClassId, u32>,
    #[serde(skip)]
    hashed: Hashed,
}

/// See [`Owner`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Key {
    #[serde(skip)]
    pub(crate) owner: OwnerId,
    name: String,
    pub(crate) served: u64,
    live: u32,
    /// The places of its runs that wait, heads of their sessions or not.
    #[serde(skip)]
    waiting: BTreeSet<Place>,
    #[serde(skip)]
    hashed: Hashed,
}

/// All owners and keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    pub(crate) last: u64,
    owners: Slab<Owner>,
    keys: Slab<Key>,
    by_name: BTreeMap<Level, BTreeMap<String, OwnerId>>,
}

/// `owner/key`, or one that is its own owner.
fn parts(fairness_key: &str) -> (&str, &str) {
    fairness_key.split_once('/').unwrap_or((fairness_key, ""))
}

impl Turns {
    /// A run begins to compete.
    pub(crate) fn join(&mut self, level: Level, fairness_key: &str, digests: &mut Digests) -> KeyId {
        let (owner_name, key_name) = parts(fairness_key);
        let known = self.by_name.get(&level).and_then(|owners| owners.get(owner_name)).copied();
        let owner = known.unwrap_or_else(|| {
            self.last += 1;
            let name = owner_name.to_owned();
            let owner = Owner {
                level,
                name: name.clone(),
                served: self.last,
                live: 0,
                queued: 0,
                keys: BTreeMap::new(),
                heads: BTreeMap::new(),
                hashed: Hashed::default(),
            };
            let id = self.owners.insert(owner);
            self.by_name.entry(level).or_default().insert(name, id);
            id
        });
        let known = self.owners[owner].keys.get(key_name).copied();
        let key = known.unwrap_or_else(|| {
            self.last += 1;
            let id = self.keys.insert(Key {
                owner,
                name: key_name.to_owned(),
                served: self.last,
                live: 0,
                waiting: BTreeSet::new(),
                hashed: Hashed::default(),
            });
            self.owners[owner].keys.insert(key_name.to_owned(), id);
            id
        });
        self.owners[owner].live += 1;
        self.keys[key].live += 1;
        self.touch(key, digests);
        key
    }

    /// An owner with its keys as a snapshot has them, by name and last turn. Their runs follow.
    pub(crate) fn restore(&mut self, level: Level, name: String, served: u64, keys: Vec<(String, u64)>) {
        let owner = Owner {
            level,
            name: name.clone(),
            served,
            live: 0,
            queued: 0,
            keys: BTreeMap::new(),
            heads: BTreeMap::new(),
            hashed: Hashed::default(),
        };
        let owner = self.owners.insert(owner);
        self.by_name.entry(level).or_default().insert(name, owner);
        for (name, served) in keys {
            let (waiting, hashed) = (BTreeSet::new(), Hashed::default());
            let key = self.keys.insert(Key { owner, name: name.clone(), served, live: 0, waiting, hashed });
            self.owners[owner].keys.insert(name, key);
        }
    }

    /// A run of a snapshot competes again, where its owner and key were restored.
    pub(crate) fn rejoin(&mut self, level: Level, fairness_key: &str) -> Option<KeyId> {
        let (owner_name, key_name) = parts(fairness_key);
        let owner = *self.by_name.get(&level)?.get(owner_name)?;
        let key = *self.owners[owner].keys.get(key_name)?;
        self.owners[owner].live += 1;
        self.keys[key].live += 1;
        Some(key)
    }

    /// Every owner with its keys, in an order that is the same for the same state.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Level, &str, u64, Vec<(&str, u64)>)> {
        let owners = self.by_name.values().flat_map(BTreeMap::values).map(|id| &self.owners[*id]);
        owners.map(|owner| {
            let keys = owner.keys.iter().map(|(name, id)| (name.as_str(), self.keys[*id].served)).collect();
            (owner.level, owner.name.as_str(), owner.served, keys)
        })
    }

    /// A key and its owner change.
    pub(crate) fn touch(&mut self, id: KeyId, digests: &mut Digests) {
        let key = &mut self.keys[id];
        digests.touch(&mut key.hashed, || digest::Key::Turn(id));
        let owner = key.owner;
        digests.touch(&mut self.owners[owner].hashed, || digest::Key::Owner(owner));
    }

    /// A run has ended. Owners and keys without any are forgotten.
    pub(crate) fn leave(&mut self, key_id: KeyId, digests: &mut Digests) {
        self.touch(key_id, digests);
        let key = &mut self.keys[key_id];
        key.live -= 1;
        let (owner_id, forget) = (key.owner, key.live == 0);
        let owner = &mut self.owners[owner_id];
        owner.live -= 1;
        if forget {
            let key = self.keys.remove(key_id);
            owner.keys.remove(&key.name);
        }
        if owner.live == 0 {
            let owner = self.owners.remove(owner_id);
            if let Some(owners) = self.by_name.get_mut(&owner.level) {
                owners.remove(&owner.name);
                if owners.is_empty() {
                    self.by_name.remove(&owner.level);
                }
            }
        }
    }

    /// A run of the key begins or ceases to wait.
    pub(crate) fn wait(&mut self, key_id: KeyId, place: Place, waits: bool) {
        let key = &mut self.keys[key_id];
        let changed = if waits { key.waiting.insert(place) } else { key.waiting.remove(&place) };
        if changed {
            let queued = &mut self.owners[key.owner].queued;
            *queued = if waits { *queued + 1 } else { *queued - 1 };
        }
    }

    /// Runs of the key that wait and go before this place.
    pub(crate) fn before_in_key(&self, key: KeyId, place: Place) -> u64 {
        self.keys[key].waiting.range(..place).count() as u64
    }

    /// The key takes a turn: it and its owner go to the back. The caller moves their heads.
    pub(crate) fn serve(&mut self, key: KeyId) {
        self.last += 1;
        let owner = self.keys[key].owner;
        self.keys[key].served = self.last;
        self.owners[owner].served = self.last;
    }

    pub(crate) fn key(&self, key: KeyId) -> &Key {
        &self.keys[key]
    }

    pub(crate) fn owner(&self, key: KeyId) -> (OwnerId, &Owner) {
        let owner = self.keys[key].owner;
        (owner, &self.owners[owner])
    }

    /// Counts the heads of an owner in a class.
    pub(crate) fn count_head(&mut self, owner: OwnerId, class: ClassId, here: bool) {
        let heads = &mut self.owners[owner].heads;
        let count = heads.entry(class).or_default();
        *count = if here { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            heads.remove(&class);
        }
    }

    /// How many runs that wait at the level of `key` have their turn before the key's own `nth`, counted from 0.
    pub(crate) fn ahead(&self, key_id: KeyId, nth: u64) -> u64 {
        let (key, (owner_id, owner)) = (&self.keys[key_id], self.owner(key_id));
        let rivals = owner.keys.values().filter(|id| **id != key_id).map(|id| &self.keys[*id]);
        let before = |served: u64, own: u64, turns: u64| turns + u64::from(served < own);
        let of_owner: u64 = nth
            + rivals.map(|rival| before(rival.served, key.served, nth).min(rival.waiting.len() as u64)).sum::<u64>();
        let owners = self.by_name.get(&owner.level).into_iter().flat_map(BTreeMap::values);
        let others = owners.filter(|id| **id != owner_id).map(|id| &self.owners[*id]);
        let of_others = others.map(|other| before(other.served, owner.served, of_owner).min(other.queued));
        of_owner + of_others.sum::<u64>()
    }

    /// Runs that wait in a lane with a smaller number of priority.
    pub(crate) fn more_urgent(&self, (lane, priority): Level) -> u64 {
        let levels = self.by_name.range((lane, 0)..(lane, priority));
        levels.flat_map(|(_, owners)| owners.values()).map(|id| self.owners[*id].queued).sum()
    }

    /// What is hashed of an owner.
    pub(crate) fn hashed_owner(&self, owner: OwnerId) -> Option<&Owner> {
        self.owners.get(owner)
    }

    /// What is hashed of a key: with whose it is.
    pub(crate) fn hashed_key(&self, key: KeyId) -> Option<(&Level, &str, &Key)> {
        let key = self.keys.get(key)?;
        let owner = self.owners.get(key.owner)?;
        Some((&owner.level, &owner.name, key))
    }

    pub(crate) fn owner_hashed(&mut self, owner: OwnerId) -> Option<&mut Hashed> {
        self.owners.get_mut(owner).map(|owner| &mut owner.hashed)
    }

    pub(crate) fn key_hashed(&mut self, key: KeyId) -> Option<&mut Hashed> {
        self.keys.get_mut(key).map(|key| &mut key.hashed)
    }

    pub(crate) fn owner_count(&self) -> usize {
        self.owners.values().count()
    }

    pub(crate) fn owner_ids(&self) -> impl Iterator<Item = OwnerId> {
        self.owners.ids()
    }

    pub(crate) fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.ids()
    }
}
