//! The digest of the state: a hash of each record, summed up, so that only changed records are hashed again.

use laneway_contract::{RunId, SessionId};
use serde::Serialize;

use crate::run::EndedRun;
use crate::state::State;
use crate::turns::{KeyId, OwnerId};

/// The hashes of all records that are up to date, and which are not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digests {
    sum: u128,
    /// Records whose hash is not in the sum. One under a number that is used again may be named twice.
    touched: Vec<Key>,
}

/// What is known of the hash of a record, beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hashed {
    /// The record is new.
    #[default]
    Never,
    /// It is in the sum.
    Summed([u8; 16]),
    /// It is out of date, and the record is named in [`Digests::touched`].
    Touched,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Session(SessionId),
    Run(RunId),
    Owner(OwnerId),
    Turn(KeyId),
    WorkPacket(String),
}

impl Digests {
    /// A record is made, changes or goes.
    pub(crate) fn touch(&mut self, hashed: &mut Hashed, key: impl FnOnce() -> Key) {
        match std::mem::replace(hashed, Hashed::Touched) {
            Hashed::Touched => return,
            Hashed::Summed(hash) => self.sum = self.sum.wrapping_sub(u128::from_le_bytes(hash)),
            Hashed::Never => {}
        }
        self.touched.push(key());
    }

    /// A record goes whose hash is in the sum, and not beside it.
    pub(crate) fn take_out(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_sub(hash);
    }

    /// An ended run that was read from a snapshot.
    pub(crate) fn restore_ended(&mut self, ended: &EndedRun) {
        self.sum = self.sum.wrapping_add(hash(&("ended", ended)));
    }
}

impl State {
    /// The digest of the state; equal states have equal digests. Costs as much as has changed since the last call.
    pub fn digest(&mut self) -> u128 {
        for key in std::mem::take(&mut self.digests.touched) {
            let hash = self.hash_record(&key);
            match self.hashed(&key) {
                Some(Hashed::Summed(_)) => continue,
                Some(hashed) => *hashed = hash.map_or(Hashed::Never, |hash| Hashed::Summed(hash.to_le_bytes())),
                // It has gone, or is what is remembered of an ended run, which never changes.
                None => {}
            }
            self.digests.sum = self.digests.sum.wrapping_add(hash.unwrap_or(0));
        }
        self.digests.sum.wrapping_add(self.hash_rest())
    }

    /// What is known of the hash of a record that can change.
    fn hashed(&mut self, key: &Key) -> Option<&mut Hashed> {
        match key {
            Key::Session(id) => self.sessions.get_mut(id).map(|session| &mut session.hashed),
            Key::Run(id) => self.runs.get_mut(id).map(|run| &mut run.hashed),
            Key::Owner(id) => self.turns.owner_hashed(*id),
            Key::Turn(id) => self.turns.key_hashed(*id),
            Key::WorkPacket(id) => self.work_packets.get_mut(id).map(|packet| &mut packet.hashed),
        }
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

    pub(crate) fn hash_record(&self, key: &Key) -> Option<u128> {
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
        hash(&("rest", &self.hash_key, limits, turns, self.last_epoch, self.last_order, self.forgotten))
    }
}

/// Of a record as bytes, which are hashed at once: field by field, the reading of a snapshot takes a sixth longer.
fn hash<T: Serialize>(record: &T) -> u128 {
    let mut bytes = Vec::with_capacity(1_024);
    // Plain data written to memory: neither side can fail.
    let written = rmp_serde::encode::write(&mut bytes, record);
    debug_assert!(written.is_ok());
    let mut digest = [0; 16];
    blake3::Hasher::new().update(&bytes).finalize_xof().fill(&mut digest);
    u128::from_le_bytes(digest)
}
