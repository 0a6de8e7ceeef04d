//! The state as bytes, and back: what [`State::full_digest`] covers, record after record; indexes are worked out again.
//!
//! Compact MessagePack by field position: the format, a head, then work packets, owners with their keys, sessions, runs
//! and ended runs, each in the order of its names, so that equal states have equal bytes. A change of shape, also of a
//! record or of a type of `contract` in it, is a new format: the golden bytes in the tests change with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Write};

use laneway_contract::{CoolDown, Epoch, HashKey, Limits, RunId, Scope, SessionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::budget::{Account, WorkPacket};
use crate::digest::Key;
use crate::memory::Forgotten;
use crate::queue::{ClassName, Lanes};
use crate::rates::Rates;
use crate::run::{EndedRun, Run};
use crate::session::Session;
use crate::state::State;
use crate::turns::Level;

/// The format that this program writes, and the only one that it reads.
pub const SNAPSHOT_FORMAT: u16 = 1;

/// Room for no more than so many records is made before they are read: a wrong number must not take all memory.
const MAX_RESERVE: u64 = 4_000_000;

/// Why bytes are no state that this program can read. Nothing of them is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another program wrote it.
    #[error("the snapshot has format {format}, this program reads {SNAPSHOT_FORMAT}")]
    OtherFormat {
        /// The format of the snapshot.
        format: u16,
    },
    /// It ends too early, or something in it is not what should be there.
    #[error("the snapshot cannot be read: {what} {number}: {reason}")]
    Unreadable {
        /// The kind of record.
        what: &'static str,
        /// Which of its kind, from 1.
        number: u64,
        /// What is wrong.
        reason: String,
    },
    /// Bytes stand behind the last record.
    #[error("the snapshot goes on behind its last record")]
    TooLong,
    /// The state that was read is not the one that was written.
    #[error("the state in the snapshot is not the one that was written: its digest is another")]
    OtherDigest,
}

/// How many records of each kind a snapshot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecords {
    /// Work packets with a budget, or of which something is used.
    pub work_packets: u64,
    /// Owners whose runs compete for turns.
    pub owners: u64,
    /// Sessions.
    pub sessions: u64,
    /// Runs that have not ended.
    pub runs: u64,
    /// Ended runs that are remembered.
    pub ended: u64,
}

impl SnapshotRecords {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.work_packets + self.owners + self.sessions + self.runs + self.ended
    }
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    digest: u128,
    records: SnapshotRecords,
    hash_key: Option<Cow<'a, HashKey>>,
    limits: Cow<'a, Limits>,
    configured: Option<Cow<'a, Limits>>,
    rates: Cow<'a, Rates>,
    cool_downs: Cow<'a, BTreeMap<Scope, CoolDown>>,
    lanes: Cow<'a, Lanes>,
    last_turn: u64,
    last_epoch: Epoch,
    last_order: u64,
    forgotten: Forgotten,
}

/// An owner: its level, name and last turn, and its keys by name and last turn.
type OwnerRecord = (Level, String, u64, Vec<(String, u64)>);

impl State {
    /// Writes the state. Equal states give equal bytes.
    pub fn write_snapshot(&self, out: &mut impl Write) -> std::io::Result<SnapshotRecords> {
        let packets: Vec<(&String, &Account)> = self.work_packets().collect();
        let records = SnapshotRecords {
            work_packets: packets.len() as u64,
            owners: self.turns.owner_count() as u64,
            sessions: self.sessions.len() as u64,
            runs: self.runs.len() as u64,
            ended: self.ended.len() as u64,
        };
        let head = Head {
            digest: self.full_digest(),
            records,
            hash_key: self.hash_key.as_ref().map(Cow::Borrowed),
            limits: Cow::Borrowed(&self.limits),
            configured: self.configured.as_ref().map(Cow::Borrowed),
            rates: Cow::Borrowed(&self.rates),
            cool_downs: Cow::Borrowed(&self.cool_downs),
            lanes: Cow::Borrowed(&self.queues.lanes),
            last_turn: self.turns.last,
            last_epoch: self.last_epoch,
            last_order: self.last_order,
            forgotten: self.forgotten,
        };
        put(out, &SNAPSHOT_FORMAT)?;
        put(out, &head)?;
        packets.iter().try_for_each(|packet| put(out, packet))?;
        self.turns.all().try_for_each(|owner| put(out, &owner))?;
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        sessions.iter().filter_map(|id| self.sessions.get(id)).try_for_each(|session| put(out, session))?;
        self.live_runs.iter().filter_map(|id| self.runs.get(id)).try_for_each(|run| put(out, run))?;
        let mut ended: Vec<RunId> = self.ended.keys().copied().collect();
        ended.sort_unstable();
        ended.iter().filter_map(|id| self.ended.get(id)).try_for_each(|run| put(out, run))?;
        Ok(records)
    }

    /// The work packets that say anything, as in the digest.
    fn work_packets(&self) -> impl Iterator<Item = (&String, &Account)> {
        let said = |(_, account): &(&String, &Account)| **account != Account::default();
        self.work_packets.iter().map(|(id, packet)| (id, &packet.account)).filter(said)
    }

    /// Reads a state back. `read` hears now and then how many records were read, and of how many.
    pub fn read_snapshot(input: impl Read, read: impl FnMut(u64, u64)) -> Result<Self, SnapshotError> {
        let mut reader = Reader { input: rmp_serde::Deserializer::new(input), read, done: 0, total: 0 };
        let format: u16 = reader.one("format", 1)?;
        if format != SNAPSHOT_FORMAT {
            return Err(SnapshotError::OtherFormat { format });
        }
        let head: Head<'_> = reader.one("head", 1)?;
        let (digest, records) = (head.digest, head.records);
        reader.total = records.total();
        let mut state = Self::behind(head);
        reader.each("work packet", records.work_packets, |(id, account): (String, Account)| {
            state.restore_work_packet(id, account);
            Ok(())
        })?;
        reader.each("owner", records.owners, |(level, name, served, keys): OwnerRecord| {
            state.turns.restore(level, name, served, keys);
            Ok(())
        })?;
        state.read_sessions_and_runs(&mut reader, records)?;
        let mut order = Vec::new();
        reader.each("ended run", records.ended, |ended: EndedRun| {
            state.digests.restore_ended(&ended);
            order.push((ended.number, ended.run_id));
            state.ended.insert(ended.run_id, ended);
            Ok(())
        })?;
        order.sort_unstable();
        state.givable.runs.extend(order.into_iter().map(|(_, id)| id));
        reader.end()?;
        if state.digest() == digest { Ok(state) } else { Err(SnapshotError::OtherDigest) }
    }

    fn behind(head: Head<'_>) -> Self {
        let mut state = Self {
            hash_key: head.hash_key.map(Cow::into_owned),
            limits: head.limits.into_owned(),
            configured: head.configured.map(Cow::into_owned),
            rates: head.rates.into_owned(),
            cool_downs: head.cool_downs.into_owned(),
            last_epoch: head.last_epoch,
            last_order: head.last_order,
            forgotten: head.forgotten,
            ..Self::default()
        };
        state.queues.lanes = head.lanes.into_owned();
        state.turns.last = head.last_turn;
        state.slots.relimit(&state.limits);
        state.sessions.reserve(head.records.sessions.min(MAX_RESERVE) as usize);
        state.runs.reserve(head.records.runs.min(MAX_RESERVE) as usize);
        state.ended.reserve(head.records.ended.min(MAX_RESERVE) as usize);
        state
    }

    fn restore_work_packet(&mut self, id: String, account: Account) {
        let mut packet = WorkPacket::default();
        packet.account = account;
        self.digests.touch(&mut packet.hashed, || Key::WorkPacket(id.clone()));
        self.work_packets.insert(id, packet);
    }

    /// Sessions first, since their runs say where they stand in them; they are indexed when their runs are there.
    fn read_sessions_and_runs<R: Read, F: FnMut(u64, u64)>(
        &mut self,
        reader: &mut Reader<R, F>,
        records: SnapshotRecords,
    ) -> Result<(), SnapshotError> {
        let mut sessions = Vec::new();
        reader.each("session", records.sessions, |session: Session| {
            sessions.push(session.creation.session_id);
            self.sessions.insert(session.creation.session_id, session);
            Ok(())
        })?;
        reader.each("run", records.runs, |mut run: Run| {
            let fields = &run.record.fields;
            let turn = self.turns.rejoin((fields.lane, fields.priority), &fields.fairness_key);
            run.turn = turn.ok_or("its fairness key is not among the owners")?;
            let name = ClassName {
                lane: fields.lane,
                model: fields.model_id.clone(),
                group: fields.concurrency_group.clone(),
            };
            run.class = self.queues.join(name, &mut self.slots, &self.limits);
            if !self.sessions.contains_key(&run.record.session_id) {
                return Err("its session is not there");
            }
            let id = run.record.run_id;
            self.runs.insert(id, run);
            self.restore_run(id);
            Ok(())
        })?;
        for id in sessions {
            self.restore_session(id);
        }
        Ok(())
    }
}

fn put<T: Serialize>(out: &mut impl Write, record: &T) -> std::io::Result<()> {
    rmp_serde::encode::write(out, record).map_err(std::io::Error::other)
}

/// How many records are read between two words about it.
const SAY_EVERY: u64 = 1_024;

struct Reader<R: Read, F> {
    input: rmp_serde::Deserializer<rmp_serde::decode::ReadReader<R>>,
    read: F,
    done: u64,
    total: u64,
}

impl<R: Read, F: FnMut(u64, u64)> Reader<R, F> {
    fn one<T: DeserializeOwned>(&mut self, what: &'static str, number: u64) -> Result<T, SnapshotError> {
        T::deserialize(&mut self.input).map_err(|error| {
            let reason = error.to_string();
            SnapshotError::Unreadable { what, number, reason }
        })
    }

    fn each<T: DeserializeOwned>(
        &mut self,
        what: &'static str,
        count: u64,
        mut take: impl FnMut(T) -> Result<(), &'static str>,
    ) -> Result<(), SnapshotError> {
        for number in 1..=count {
            let record = self.one(what, number)?;
            take(record).map_err(|reason| SnapshotError::Unreadable { what, number, reason: reason.to_owned() })?;
            self.done += 1;
            if self.done.is_multiple_of(SAY_EVERY) {
                (self.read)(self.done, self.total);
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), SnapshotError> {
        match self.input.get_mut().read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) | Err(_) => Err(SnapshotError::TooLong),
        }
    }
}
