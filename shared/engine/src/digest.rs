//! The digest of the state: a hash of each record, summed up, so that only changed records are hashed again.

use std::collections::HashMap;

use laneway_contract::{RunId, SessionId};
use serde::Serialize;

use crate::state::State;
use crate::turns::{KeyId, OwnerId};

/// Hashes of records, without those that are out of date.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digests {
    /// Only summed up, so in any order.
    records: HashMap<Key, Option<u128>>,
    /// Of the hashes that are there.
    sum: u128,
    /// Whose hash is not there, each once.
    touched: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Session(SessionId),
    Run(RunId),
    Owner(OwnerId),
    Turn(KeyId),
    WorkPacket(String),
}

impl Digests {
    pub(crate) fn touch_session(&mut self, id: SessionId) {
        self.touch(Key::Session(id));
    }

    pub(crate) fn touch_run(&mut self, id: RunId) {
        self.touch(Key::Run(id));
    }

    pub(crate) fn touch_turn(&mut self, key: KeyId, owner: OwnerId) {
        self.touch(Key::Turn(key));
        self.touch(Key::Owner(owner));
    }

    pub(crate) fn touch_work_packet(&mut self, id: &str) {
        self.touch(Key::WorkPacket(id.to_owned()));
    }

    fn touch(&mut self, key: Key) {
        let before = self.records.get_mut(&key).map(Option::take);
        if let Some(None) = before {
            return;
        }
        self.sum = self.sum.wrapping_sub(before.flatten().unwrap_or(0));
        if before.is_none() {
            self.records.insert(key.clone(), None);
        }
        self.touched.push(key);
    }

    fn set(&mut self, key: Key, hash: Option<u128>) {
        self.sum = self.sum.wrapping_add(hash.unwrap_or(0));
        match hash {
            Some(_) => self.records.insert(key, hash),
            None => self.records.remove(&key),
        };
    }
}

impl State {
    /// The digest of the state; equal states have equal digests. Costs as much as has changed since the last call.
    pub fn digest(&mut self) -> u128 {
        let mut digests = std::mem::take(&mut self.digests);
        for key in std::mem::take(&mut digests.touched) {
            let hash = self.hash_record(&key);
            digests.set(key, hash);
        }
        self.digests = digests;
        self.digests.sum.wrapping_add(self.hash_rest())
    }

    /// The same digest from nothing, to check [`State::digest`] against.
    #[must_use]
    pub fn full_digest(&self) -> u128 {
        let sessions = self.sessions.keys().map(|id| Key::Session(*id));
        let runs = self.runs.keys().chain(self.ended.keys()).map(|id| Key::Run(*id));
        let turns = self.turns.owner_ids().map(Key::Owner).chain(self.turns.key_ids().map(Key::Turn));
        let packets = self.work_packets.keys().cloned().map(Key::WorkPacket);
        let records = sessions.chain(runs).chain(turns).chain(packets).filter_map(|key| self.hash_record(&key));
        records.fold(self.hash_rest(), u128::wrapping_add)
    }

    fn hash_record(&self, key: &Key) -> Option<u128> {
        match key {
            Key::Session(id) => self.sessions.get(id).map(|session| hash(&("session", session))),
            Key::Run(id) => match self.runs.get(id) {
                Some(run) => Some(hash(&("run", run))),
                None => self.ended.get(id).map(|ended| hash(&("ended", ended))),
            },
            Key::Owner(id) => self.turns.hashed_owner(*id).map(|owner| hash(&("owner", owner))),
            Key::Turn(id) => self.turns.hashed_key(*id).map(|key| hash(&("key", key))),
            // A packet without a budget of which nothing is used is the same as none.
            Key::WorkPacket(id) => {
                let account = self.work_packets.get(id).map(|packet| packet.account);
                account
                    .filter(|account| *account != crate::Account::default())
                    .map(|account| hash(&("wp", id, account)))
            }
        }
    }

    fn hash_rest(&self) -> u128 {
        let turns = (&self.queues.lanes, self.turns.last);
        let limits = (&self.limits, &self.configured, &self.rates, &self.cool_downs);
        hash(&("rest", &self.hash_key, limits, turns, self.last_epoch, self.last_order))
    }
}

fn hash<T: Serialize>(record: &T) -> u128 {
    let mut hasher = Hashing(blake3::Hasher::new());
    // Plain data written to a hasher: neither side can fail.
    let written = rmp_serde::encode::write(&mut hasher, record);
    debug_assert!(written.is_ok());
    let mut bytes = [0; 16];
    hasher.0.finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

struct Hashing(blake3::Hasher);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
