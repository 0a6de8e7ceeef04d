//! What must hold in every run, whatever happens. The observer sees the stream itself and true time.

use std::collections::HashMap;

use bytes::Bytes;
use laneway_contract::Timestamp;

use crate::chain::{Chain, Link};
use crate::frame::{Body, Frame};
use crate::node::Released;

use super::process::FORMATS;
use crate::testing::mix;

/// What a turn does outside once it is in the journal; here, what is needed to check it.
#[derive(Debug)]
pub(super) struct Effect {
    /// Turns are numbered in the order in which their process pushed them.
    pub(super) order: u64,
    /// The events of the turn.
    pub(super) events: Vec<u64>,
    /// The memory of the process after the turn.
    pub(super) memory: Memory,
    /// The last frame of which anything was answered when the turn was begun.
    pub(super) after: u64,
}

/// The state that frames are folded into: equal only when the same was applied in the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Memory(u64);

impl Memory {
    pub(super) fn apply(&mut self, event: u64) {
        self.0 = mix(self.0 ^ mix(event));
    }

    pub(super) fn apply_start(&mut self, epoch: u64) {
        self.apply(u64::MAX - epoch);
    }

    pub(super) fn apply_frame(&mut self, frame: &Frame<u64>) {
        match &frame.body {
            Body::Started { .. } => self.apply_start(frame.epoch),
            Body::Stopped | Body::FormatRaised { .. } => {}
            Body::Turns(turns) => turns.iter().flat_map(|turn| &turn.events).for_each(|&event| self.apply(event)),
        }
    }
}

#[derive(Default)]
pub(super) struct Checks {
    chain: Chain,
    memory: Memory,
    last_turn_at: Timestamp,
    /// The frame in which each event stands.
    events: HashMap<u64, u64>,
    /// Every memory that the journal ever stood for, with the number of the frame.
    memories: HashMap<Memory, u64>,
    /// The memory after each frame, from the first.
    folds: Vec<Memory>,
    /// Events that say of a snapshot, with the frame up to which it is folded.
    snapshots: HashMap<u64, u64>,
    /// The newest frame with one.
    newest_snapshot: u64,
    /// The format of the journal when each event was decided.
    formats: HashMap<u64, u16>,
}

impl Checks {
    pub(super) fn new() -> Self {
        Self { chain: Chain { reads: FORMATS, ..Chain::default() }, ..Self::default() }
    }

    /// Epochs and time never fall, every frame continues the one before, and no turn is in the stream twice.
    pub(super) fn stored(&mut self, number: u64, bytes: &Bytes) {
        let Ok(Link::Next(committed)) = self.chain.accept::<u64>(number, bytes) else {
            panic!("frame {number} does not continue the journal");
        };
        self.check_snapshot(number, &committed.frame);
        match &committed.frame.body {
            Body::Started { .. } => self.memory.apply_start(committed.frame.epoch),
            Body::Stopped | Body::FormatRaised { .. } => {}
            Body::Turns(turns) => {
                for turn in turns {
                    assert!(turn.at >= self.last_turn_at, "time fell from turn to turn in frame {number}");
                    assert!(turn.at <= committed.frame.time, "a turn of frame {number} is later than the frame");
                    self.last_turn_at = turn.at;
                    for &event in &turn.events {
                        self.memory.apply(event);
                        let format = committed.frame.format;
                        assert_eq!(self.formats.get(&event), Some(&format), "event {event} stands in another format");
                        assert_eq!(self.events.insert(event, number), None, "event {event} was stored twice");
                    }
                    self.memories.insert(self.memory, number);
                }
            }
        }
        self.memories.insert(self.memory, number);
        self.folds.push(self.memory);
    }

    /// Every frame names the newest snapshot, whoever wrote it.
    fn check_snapshot(&mut self, number: u64, frame: &Frame<u64>) {
        if let Body::Turns(turns) = &frame.body
            && turns.iter().flat_map(|turn| &turn.events).any(|event| self.snapshots.contains_key(event))
        {
            self.newest_snapshot = number;
        }
        assert_eq!(frame.snapshot, self.newest_snapshot, "frame {number} names another snapshot than the newest");
    }

    /// These events were decided under this format.
    pub(super) fn decided(&mut self, events: &[u64], format: u16) {
        self.formats.extend(events.iter().map(|&event| (event, format)));
    }

    /// The event will say of a snapshot up to this frame.
    pub(super) fn takes_snapshot(&mut self, event: u64, number: u64) {
        self.snapshots.insert(event, number);
    }

    /// The snapshot that the frame `number` names: up to which frame, and the memory after it.
    pub(super) fn snapshot_named_by(&self, named: &Frame<u64>) -> (u64, Memory) {
        let Body::Turns(turns) = &named.body else { panic!("frame {} says of no snapshot", named.number) };
        let mut events = turns.iter().flat_map(|turn| &turn.events);
        let number = events.find_map(|event| self.snapshots.get(event)).expect("an event that says of a snapshot");
        (*number, self.folds[*number as usize - 1])
    }

    /// Nothing is answered before its frame is stored, from a memory that is not the journal's, or by one of two leaders.
    pub(super) fn released(&self, released: &Released<Effect>) {
        self.acts(released.epoch);
        for effect in &released.effects {
            for event in &effect.events {
                let stored = self.events.get(event);
                assert_eq!(stored, Some(&released.number), "event {event} was answered without its frame");
            }
            let number = self.memories.get(&effect.memory).expect("a turn was decided on a state that never was");
            assert!(*number <= released.number, "a turn was answered before a frame that it builds on");
            assert!(*number >= effect.after, "a turn was decided on less than what had been answered before it");
        }
    }

    /// Only the newest leader acts: not one below the epoch of another's `Started`, nor one that has said it is gone.
    pub(super) fn acts(&self, epoch: u64) {
        assert_eq!(epoch, self.chain.epoch, "a leader acts while another leads");
        assert!(!self.chain.stopped, "a leader acts after it said that it stopped");
    }

    pub(super) fn is_stored(&self, event: u64) -> bool {
        self.events.contains_key(&event)
    }

    pub(super) fn time(&self) -> Timestamp {
        self.chain.time
    }
}
