//! Snapshots: a leader's process folds committed frames beside its memory, and stores the bytes; a start begins with the newest
//! that can be used. Folding, writing, reading and journaling are the product's; storing and finding objects are the world's.

use std::collections::BTreeMap;

use bytes::Bytes;
use laneway_contract::*;
use laneway_engine::State;
use laneway_journal::snapshot::{SnapshotHead, SnapshotReader};
use laneway_journal::testing::{Reader, Rng};
use laneway_journal::{Base, Frame, Position};
use tokio::sync::mpsc;

use super::world::{Actor, What, World};
use crate::snapshots::{fold_all, write};
use crate::start::{decode, taken_in};

/// More messages than an object of a simulation has.
const MAX_CHUNKS: usize = 64;
/// Of so many snapshots the objects are kept.
const KEPT: usize = 2;

/// What is stored of snapshots.
#[derive(Default)]
pub(super) struct Objects {
    all: BTreeMap<SnapshotName, Vec<Bytes>>,
    /// The newest that the journal says of.
    newest: Option<SnapshotTaken>,
}

/// Where somebody goes on who reads the journal.
#[derive(Default)]
struct Start {
    state: State,
    base: Option<Base>,
}

impl Objects {
    /// The journal says of one: from then on the objects before the one before it are nobody's.
    pub(super) fn journaled(&mut self, taken: &SnapshotTaken) {
        if let Some(before) = self.newest.replace(taken.clone()) {
            self.all.retain(|object, _| object.number >= before.sequence);
        }
    }

    /// What is stored of one is there no more, or other bytes.
    pub(super) fn damage(&mut self, rng: &mut Rng) {
        let Some(mut last) = self.all.last_entry() else { return };
        if rng.per_mille(500) {
            last.remove();
        } else {
            let mut chunk = last.get()[0].to_vec();
            let place = rng.range(0, chunk.len() as u64) as usize;
            chunk[place] ^= 1;
            last.get_mut()[0] = chunk.into();
        }
    }

    fn read(&self, taken: &SnapshotTaken) -> Option<(Position, State)> {
        let reader = SnapshotReader::of(taken, self.all.get(&taken.object)?.clone()).ok()?;
        let (head, state) = decode(reader, &|_| ()).unwrap();
        assert_eq!(head.position.number, taken.sequence, "the snapshot of another frame");
        Some((head.position, state))
    }
}

impl World {
    /// The process begins a snapshot up to the last frame that it knows.
    pub(super) fn takes_snapshot(&mut self, index: usize) {
        let process = &self.processes[index];
        if !process.core.leads() || self.now < process.cut_until {
            return;
        }
        let number = process.core.journal.node.position().number;
        let taken = self.snapshot_up_to(number);
        // Storing and reading back take their time, and it may lead no more by then.
        let done = self.now + self.rng.range(1, 3_000);
        self.at(done, Actor::Process(index), What::Snapshot(taken));
    }

    fn snapshot_up_to(&mut self, number: u64) -> SnapshotTaken {
        let Start { state, base } = self.find_start();
        let behind = base.as_ref().map_or(Position::START, Base::position);
        let mut reader = base.map_or_else(Default::default, Reader::behind);
        let frames: Vec<_> = (behind.number + 1..=number.max(behind.number))
            .map(|number| reader.read::<Event>(self.stream.get(number).unwrap()).unwrap())
            .collect();
        let state = fold_all(state, &frames).unwrap();
        let position = frames.last().map_or(behind, |last| last.position);
        let journal_id = Frame::<Event>::decode(self.stream.get(position.number).unwrap()).unwrap().journal_id;
        let (sender, mut receiver) = mpsc::channel(MAX_CHUNKS);
        let (hash, bytes, records) = write(&state, SnapshotHead { journal_id, position }, sender).unwrap();
        let chunks: Vec<Bytes> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        let object = SnapshotName { number: position.number, nonce: self.rng.next() as u32 };
        self.seen.snapshots += 1;
        let taken =
            SnapshotTaken { sequence: position.number, hash, object, bytes, chunks: chunks.len() as u32, records };
        self.objects.all.insert(object, chunks);
        taken
    }

    /// A process reads the journal: behind a snapshot where one can be used, else all.
    pub(super) fn begin_reading(&mut self, index: usize) {
        let start = self.find_start();
        let behind = start.base.as_ref().map_or(0, |base| base.position().number);
        let had = self.objects.all.keys().map(|object| object.number).max().unwrap_or(0);
        let process = &mut self.processes[index];
        let now = process.clocks.read(self.now);
        process.core.begin_with(start.state);
        process.core.journal.node.has_had(had);
        if let Some(base) = start.base {
            process.core.journal.node.begin_behind(now, base);
            let digest = process.core.digest();
            self.facts.is_equal(behind, digest);
            self.seen.from_snapshots += 1;
        }
        self.replay(index, behind);
    }

    /// The newest snapshot that the journal says of, as far as the server shows it, or the one before.
    fn find_start(&mut self) -> Start {
        let mut up_to = self.stream.last().saturating_sub(self.stale_by());
        for _ in 0..KEPT {
            let Some(named) = self.frame(up_to).map(|frame| frame.snapshot) else { break };
            let Some(frame) = self.frame(named) else { break };
            let taken = taken_in(&frame).unwrap();
            if let Some((position, state)) = self.objects.read(taken) {
                let base = Base::at::<Event>(position, self.stream.get(position.number).unwrap()).unwrap();
                return Start { state, base: Some(base) };
            }
            self.seen.unusable += 1;
            up_to = named - 1;
        }
        Start::default()
    }

    fn frame(&self, number: u64) -> Option<Frame<Event>> {
        Some(Frame::decode(self.stream.get(number)?).unwrap())
    }
}
