//! A turn while it is being decided, and how turns become a frame.
//!
//! Events are encoded once, when they join the turn: closing a frame only puts encoded pieces together.

use std::marker::PhantomData;

use bytes::Bytes;
use laneway_contract::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::frame::{Body, ENVELOPE_BYTES, Frame, FrameHash, MAX_TURN_BYTES};
use crate::msgpack::{array_head, integer, short_binary, string, unsigned, variant_head};

/// More bytes at the head of a turn than its time and its number of events ever take.
const TURN_HEAD_BYTES: usize = 16;

/// A turn that cannot be journaled. Nothing of the refused events has been taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnTooLarge {
    /// The turn would have more bytes than a frame may hold.
    #[error("the turn would have {bytes} bytes, a frame holds a turn of up to {MAX_TURN_BYTES}")]
    Bytes {
        /// The encoded size that the turn would have, in bytes.
        bytes: usize,
    },
    /// An event has no encoding.
    #[error("an event cannot be encoded: {0}")]
    Unencodable(String),
}

/// The events of one turn, begun under a leadership that may act. Add the events of each decision *before* applying
/// them, so that a turn too large for a frame is refused while nothing has changed.
#[derive(Clone, Debug)]
pub struct TurnDraft<E> {
    epoch: u64,
    at: Timestamp,
    count: u32,
    events: Vec<u8>,
    marks_snapshot: bool,
    event: PhantomData<fn(&E)>,
}

impl<E: Serialize> TurnDraft<E> {
    pub(crate) fn new(epoch: u64, at: Timestamp) -> Self {
        Self { epoch, at, count: 0, events: Vec::new(), marks_snapshot: false, event: PhantomData }
    }

    /// Journal time at which this turn is decided.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Whether the turn has no events: a repeat, a refusal, a read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes all of `events`, or none of them when the turn would grow too large.
    pub fn add(&mut self, events: &[E]) -> Result<(), TurnTooLarge> {
        let before = self.events.len();
        let taken = self.encode_all(events);
        match taken {
            Ok(()) => self.count += events.len() as u32,
            Err(_) => self.events.truncate(before),
        }
        taken
    }

    /// One of the events says of a snapshot of the state: the frame of this turn is the one that a start looks for.
    pub fn mark_snapshot(&mut self) {
        self.marks_snapshot = true;
    }

    pub(crate) fn marks_snapshot(&self) -> bool {
        self.marks_snapshot
    }

    fn encode_all(&mut self, events: &[E]) -> Result<(), TurnTooLarge> {
        for event in events {
            rmp_serde::encode::write(&mut self.events, event)
                .map_err(|error| TurnTooLarge::Unencodable(error.to_string()))?;
        }
        let bytes = self.events.len() + TURN_HEAD_BYTES;
        if bytes > MAX_TURN_BYTES {
            return Err(TurnTooLarge::Bytes { bytes });
        }
        Ok(())
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The turn as it stands in a frame.
    pub(crate) fn encoded(self) -> Vec<u8> {
        let mut turn = Vec::with_capacity(self.events.len() + TURN_HEAD_BYTES);
        array_head(&mut turn, 2);
        integer(&mut turn, self.at.millis());
        array_head(&mut turn, self.count);
        turn.extend_from_slice(&self.events);
        turn
    }
}

/// The fields of a frame before its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) format: u16,
    pub(crate) journal_id: Uuid,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) prev: FrameHash,
    pub(crate) time: Timestamp,
    pub(crate) snapshot: u64,
}

/// What stands in the body of a frame that is being closed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Draft<'a> {
    Started { instance: &'a str, process: Uuid, attempt: u64 },
    Stopped,
    FormatRaised { to: u16 },
    Turns(&'a [Vec<u8>]),
}

impl Envelope {
    /// The bytes of the frame: exactly what serialising a `Frame` to MessagePack gives.
    pub(crate) fn seal(&self, body: Draft<'_>) -> Bytes {
        let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + body.size());
        array_head(&mut bytes, 8);
        unsigned(&mut bytes, u64::from(self.format));
        short_binary(&mut bytes, self.journal_id.as_bytes());
        unsigned(&mut bytes, self.epoch);
        unsigned(&mut bytes, self.number);
        short_binary(&mut bytes, self.prev.as_bytes());
        integer(&mut bytes, self.time.millis());
        unsigned(&mut bytes, self.snapshot);
        body.write(&mut bytes);
        Bytes::from(bytes)
    }

    /// The frame itself.
    pub(crate) fn frame<E>(self, body: Body<E>) -> Frame<E> {
        let Self { format, journal_id, epoch, number, prev, time, snapshot } = self;
        Frame { format, journal_id, epoch, number, prev, time, snapshot, body }
    }
}

impl Draft<'_> {
    fn size(&self) -> usize {
        match self {
            Self::Started { instance, .. } => instance.len(),
            Self::Stopped | Self::FormatRaised { .. } => 0,
            Self::Turns(turns) => turns.iter().map(Vec::len).sum(),
        }
    }

    /// An enum is its variant's name, or a map of one entry from that name to the content.
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Started { instance, process, attempt } => {
                variant_head(bytes, "Started");
                array_head(bytes, 3);
                string(bytes, instance);
                short_binary(bytes, process.as_bytes());
                unsigned(bytes, *attempt);
            }
            Self::Stopped => string(bytes, "Stopped"),
            Self::FormatRaised { to } => {
                variant_head(bytes, "FormatRaised");
                array_head(bytes, 1);
                unsigned(bytes, u64::from(*to));
            }
            Self::Turns(turns) => {
                variant_head(bytes, "Turns");
                array_head(bytes, turns.len() as u32);
                for turn in *turns {
                    bytes.extend_from_slice(turn);
                }
            }
        }
    }
}
