//! Frames: what a message of the journal stream holds.

use std::fmt;

use laneway_contract::Timestamp;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The newest format that this program reads and writes. There is no other yet: those before it were never released.
pub const FORMAT: u16 = 3;

/// The formats that a program reads and writes, all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// A new journal begins with it.
    pub oldest: u16,
    /// The journal is raised to it as soon as all who read the journal know it.
    pub newest: u16,
}

impl Default for Formats {
    /// Those of this program.
    fn default() -> Self {
        Self { oldest: FORMAT, newest: FORMAT }
    }
}

/// A frame takes no further turn that would make it larger than this, in bytes.
pub const FRAME_CLOSES_AT: usize = 256 * 1024;

/// The largest frame, in bytes. One turn is never split, so a large one may fill a frame of its own up to here.
pub const MAX_FRAME_BYTES: usize = 960 * 1024;

/// No frame's fields around its turns are longer than this, in bytes.
pub(crate) const ENVELOPE_BYTES: usize = 256;

/// The largest turn, encoded, in bytes.
pub const MAX_TURN_BYTES: usize = MAX_FRAME_BYTES - ENVELOPE_BYTES;

const _: () = assert!(FRAME_CLOSES_AT < MAX_FRAME_BYTES);

/// One message of the journal stream: a group commit of all turns that arrived while the frame before was in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame<E> {
    /// The format of the frame: that of the one before it, or what a [`Body::FormatRaised`] has raised it to. A reader that
    /// knows only older ones stops before it applies anything of it.
    pub format: u16,
    /// The journal that this frame belongs to, made with its first frame.
    pub journal_id: Uuid,
    /// The epoch of the leader that wrote it.
    pub epoch: u64,
    /// The number of the frame, from 1 without gaps. It is also the sequence of the message in the stream.
    pub number: u64,
    /// The hash of the frame before; zero in the first.
    pub prev: FrameHash,
    /// Journal time when the frame was closed.
    pub time: Timestamp,
    /// The number of the newest frame, up to this one itself, that says of a snapshot of the state; 0 while there is none.
    pub snapshot: u64,
    /// What the frame says.
    pub body: Body<E>,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<E> {
    /// The writer leads from here on, with an epoch one above the last.
    Started {
        /// The name of the process that leads.
        instance: String,
        /// The process itself: a random id made when it started.
        process: Uuid,
        /// Counts the attempts of the process to lead. With it no two attempts write the same bytes, so that none can take
        /// the frame of an earlier one for its own.
        attempt: u64,
    },
    /// The leader has gone in good order: a standby may start at once.
    Stopped,
    /// All frames behind this one have a newer format. A reader that does not know it stops here, before it applies any.
    FormatRaised {
        /// The format of the next frame.
        to: u16,
    },
    /// Turns in the order in which they were decided. None at all is the heartbeat.
    Turns(Vec<Turn<E>>),
}

/// The events of one turn: all of them are in the journal, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn<E> {
    /// Journal time at which the turn was decided.
    pub at: Timestamp,
    /// The events in the order in which they were applied.
    pub events: Vec<E>,
}

/// The BLAKE3 hash of a frame's bytes as they are stored.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FrameHash([u8; 32]);

impl FrameHash {
    /// What the first frame names as the frame before it.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a stored frame.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A hash from its 32 bytes, as a view has stored them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A hash from its 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        blake3::Hash::from_hex(digits).ok().map(|hash| Self(*hash.as_bytes()))
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for FrameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for FrameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for FrameHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for FrameHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;
        impl Visitor<'_> for HashVisitor {
            type Value = FrameHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 32 bytes of a frame hash")
            }

            fn visit_bytes<Error: de::Error>(self, bytes: &[u8]) -> Result<FrameHash, Error> {
                let bytes = bytes.try_into().map_err(|_| Error::invalid_length(bytes.len(), &self))?;
                Ok(FrameHash(bytes))
            }
        }
        deserializer.deserialize_bytes(HashVisitor)
    }
}

/// How far a reader has come: the number of the last frame it has applied, and the hash of that frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The number of the frame; 0 before the first.
    pub number: u64,
    /// The hash of the frame; zero before the first.
    pub hash: FrameHash,
}

impl Position {
    /// Before the first frame.
    pub const START: Self = Self { number: 0, hash: FrameHash::ZERO };
}

/// A frame that is in the journal for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<E> {
    /// Where the frame is.
    pub position: Position,
    /// Milliseconds of journal time from the frame before to this one; 0 for the first. Before a [`Body::Started`] this is how
    /// long no leader could write.
    pub gap_ms: u64,
    /// What it says.
    pub frame: Frame<E>,
}

/// Why bytes are no frame that this program can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A newer program wrote the frame.
    #[error("the frame has format {format}, this program reads up to {FORMAT}")]
    NewerFormat {
        /// The format of the frame.
        format: u16,
    },
    /// A program before the first release wrote the frame.
    #[error("the frame has format {format}, which was never released: start with an empty journal")]
    UnreleasedFormat {
        /// The format of the frame.
        format: u16,
    },
    /// The bytes are no frame at all.
    #[error("the bytes are no frame: {0}")]
    Malformed(String),
}

impl<E: DeserializeOwned> Frame<E> {
    /// Reads a stored frame of any format that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        Self::decode_of(bytes, Formats::default())
    }

    /// Reads a stored frame of any of these formats. The format is looked at before anything else, since nothing after it
    /// may be what it seems.
    pub(crate) fn decode_of(bytes: &[u8], formats: Formats) -> Result<Self, Undecodable> {
        match peek_format(bytes) {
            None => Err(Undecodable::Malformed("it does not begin with a format".to_owned())),
            Some(format) if format > formats.newest => Err(Undecodable::NewerFormat { format }),
            Some(format) if format < formats.oldest => Err(Undecodable::UnreleasedFormat { format }),
            Some(_) => rmp_serde::from_slice(bytes).map_err(|error| Undecodable::Malformed(error.to_string())),
        }
    }
}

/// The first field of a frame of any format: the first element of a short MessagePack array, an unsigned integer.
fn peek_format(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0x90..=0x9f, format @ 0x00..=0x7f, ..] | [0x90..=0x9f, 0xcc, format, ..] => Some(u16::from(*format)),
        [0x90..=0x9f, 0xcd, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
