//! Which frame may follow which. Every reader checks this before it applies anything, and stops where it does not hold.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use laneway_contract::Timestamp;

use crate::frame::{Body, Committed, FORMAT, Formats, Frame, FrameHash, Position, Undecodable};

/// Why a reader or writer of the journal must stop. Going on would build on something that is not the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Frames that were there are not, or are others.
    #[error("data_loss: frames {first} to {last} of the journal {loss}")]
    DataLoss {
        /// The first frame concerned.
        first: u64,
        /// The last frame concerned, as far as it is known.
        last: u64,
        /// What is wrong with them.
        loss: Loss,
    },
    /// A newer program wrote this frame, or raised the format of those behind it.
    #[error("newer_format: from frame {number} on the journal has format {format}, this program reads up to {FORMAT}")]
    NewerFormat {
        /// The number of the frame.
        number: u64,
        /// The format.
        format: u16,
    },
    /// A program before the first release wrote this frame.
    #[error(
        "unreleased_format: frame {number} of the journal has format {format}, which was never released: \
         start with an empty journal"
    )]
    UnreleasedFormat {
        /// The number of the frame.
        number: u64,
        /// Its format.
        format: u16,
    },
    /// The stream holds another journal than before.
    #[error("other_journal: frame {number} belongs to journal {found}, not to {expected}")]
    OtherJournal {
        /// The number of the frame.
        number: u64,
        /// The journal that was read so far.
        expected: Uuid,
        /// The journal that the frame names.
        found: Uuid,
    },
}

impl Fault {
    /// The stable code of the fault.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DataLoss { .. } => "data_loss",
            Self::NewerFormat { .. } => "newer_format",
            Self::UnreleasedFormat { .. } => "unreleased_format",
            Self::OtherJournal { .. } => "other_journal",
        }
    }

    /// Whether the stream is damaged, or another: not merely written by another version.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::DataLoss { .. } | Self::OtherJournal { .. } => true,
            Self::NewerFormat { .. } | Self::UnreleasedFormat { .. } => false,
        }
    }

    /// What a service says when it stops because of this fault: code, frames, what is wrong, and the next command.
    #[must_use]
    pub fn halt(&self) -> String {
        if self.is_damage() { format!("{self}; run: laneway journal check") } else { self.to_string() }
    }
}

/// What is wrong with the frames that a [`Fault::DataLoss`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The stream does not hold them, though it did or though it holds later ones.
    #[error("are missing")]
    Missing,
    /// The stream holds others than those that were read or acknowledged.
    #[error("are not those that were read before")]
    Replaced,
    /// One names another frame before it than the one that is there: either of the two was changed.
    #[error("do not fit together: one of them was changed")]
    Changed,
    /// The bytes are no frame.
    #[error("cannot be read")]
    Unreadable,
    /// Number, epoch, time or newest snapshot do not continue those of the frame before.
    #[error("do not continue the frames before them")]
    Disordered,
}

/// What a frame means to a reader that stands at some position.
#[derive(Debug)]
pub(crate) enum Link<E> {
    /// The very next frame; the chain has moved on to it.
    Next(Committed<E>),
    /// A frame that was read before.
    Repeat,
    /// A later frame: those between are to be read first.
    Gap,
}

/// The last frame that was read, as far as the next one depends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// What this reader can read.
    pub(crate) reads: Formats,
    pub(crate) journal: Option<Uuid>,
    pub(crate) position: Position,
    /// The format of the frame that comes next; 0 before the first, which may have any.
    pub(crate) format: u16,
    pub(crate) epoch: u64,
    pub(crate) time: Timestamp,
    pub(crate) snapshot: u64,
    pub(crate) stopped: bool,
    /// Bytes of all frames that this chain has moved on to.
    pub(crate) read_bytes: u64,
}

/// A frame up to which somebody has the state: where a node may begin.
#[derive(Clone, Debug)]
pub struct Base(pub(crate) Chain);

impl Base {
    /// The frame at `position`, from its bytes in the stream, when it is the one that the state was folded up to.
    pub fn at<E: DeserializeOwned>(position: Position, bytes: &[u8]) -> Result<Self, Fault> {
        if FrameHash::of(bytes) != position.hash {
            return Err(lost(position.number, Loss::Replaced));
        }
        Chain::behind::<E>(position.number, bytes, Formats::default()).map(Self)
    }

    /// The frame itself.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// The journal that it is of.
    #[must_use]
    pub fn journal(&self) -> Option<Uuid> {
        self.0.journal
    }
}

impl Chain {
    /// A chain that goes on behind a frame whose bytes are known to be right.
    pub(crate) fn behind<E: DeserializeOwned>(number: u64, bytes: &[u8], reads: Formats) -> Result<Self, Fault> {
        let frame: Frame<E> = decode(number, bytes, reads)?;
        Self::at(&frame, FrameHash::of(bytes)).readable(reads)
    }

    /// A chain that goes on behind this frame.
    pub(crate) fn at<E>(frame: &Frame<E>, hash: FrameHash) -> Self {
        let mut chain = Self::default();
        chain.follow(frame, hash);
        chain
    }

    /// For a reader of these formats, if what comes next is one of them.
    fn readable(self, reads: Formats) -> Result<Self, Fault> {
        let (number, format) = (self.next(), self.format);
        if format > reads.newest { Err(Fault::NewerFormat { number, format }) } else { Ok(Self { reads, ..self }) }
    }

    /// As [`Chain::behind`], of the journal that was read before: no other may take its place.
    pub(crate) fn restart_behind(&self, base: Self) -> Result<Self, Fault> {
        match (self.journal, base.journal) {
            (Some(expected), Some(found)) if expected != found => {
                Err(Fault::OtherJournal { number: base.position.number, expected, found })
            }
            (Some(_) | None, _) => base.readable(self.reads),
        }
    }

    /// Before the first frame, of a journal that is already known, so that no other may take its place.
    pub(crate) fn restart(&self) -> Self {
        Self { reads: self.reads, journal: self.journal, ..Self::default() }
    }

    /// The number of the frame that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.position.number + 1
    }

    /// The format of the frame that comes next. A new journal begins with the oldest that its writer knows.
    pub(crate) fn next_format(&self) -> u16 {
        self.format.max(self.reads.oldest)
    }

    /// Reads what the stream holds under `number`.
    pub(crate) fn accept<E: DeserializeOwned>(&mut self, number: u64, bytes: &[u8]) -> Result<Link<E>, Fault> {
        if number > self.next() {
            return Ok(Link::Gap);
        }
        if number < self.next() {
            let replaced = number == self.position.number && FrameHash::of(bytes) != self.position.hash;
            return if replaced { Err(lost(number, Loss::Replaced)) } else { Ok(Link::Repeat) };
        }
        self.accept_next(bytes).map(Link::Next)
    }

    /// Reads what the stream holds under the next number.
    pub(crate) fn accept_next<E: DeserializeOwned>(&mut self, bytes: &[u8]) -> Result<Committed<E>, Fault> {
        let number = self.next();
        let frame = decode(number, bytes, self.reads)?;
        self.check(number, &frame)?;
        Ok(self.commit(frame, FrameHash::of(bytes), bytes.len() as u64))
    }

    /// Moves on to a frame that belongs next and is in the journal for good.
    pub(crate) fn commit<E>(&mut self, frame: Frame<E>, hash: FrameHash, bytes: u64) -> Committed<E> {
        self.read_bytes += bytes;
        let gap_ms = if self.position.number == 0 { 0 } else { frame.time.millis_since(self.time) };
        self.follow(&frame, hash);
        Committed { position: self.position, gap_ms, frame }
    }

    /// Moves on to a frame that belongs next.
    fn follow<E>(&mut self, frame: &Frame<E>, hash: FrameHash) {
        self.journal = Some(frame.journal_id);
        self.position = Position { number: frame.number, hash };
        self.format = if let Body::FormatRaised { to } = frame.body { to } else { frame.format };
        self.epoch = frame.epoch;
        self.time = frame.time;
        self.snapshot = frame.snapshot;
        self.stopped = matches!(frame.body, Body::Stopped);
    }

    fn check<E>(&self, number: u64, frame: &Frame<E>) -> Result<(), Fault> {
        if let Some(expected) = self.journal
            && expected != frame.journal_id
        {
            return Err(Fault::OtherJournal { number, expected, found: frame.journal_id });
        }
        if frame.prev != self.position.hash {
            // Whether this frame or the one before it was changed shows only in the next.
            return Err(Fault::DataLoss { first: self.position.number.max(1), last: number, loss: Loss::Changed });
        }
        if frame.number != number || !self.is_continued_by(frame) {
            return Err(lost(number, Loss::Disordered));
        }
        match frame.body {
            Body::FormatRaised { to } if to > self.reads.newest => {
                Err(Fault::NewerFormat { number: number + 1, format: to })
            }
            Body::FormatRaised { .. } | Body::Started { .. } | Body::Stopped | Body::Turns(_) => Ok(()),
        }
    }

    /// Whether epoch, time, snapshot and format of a frame may follow.
    pub(crate) fn is_continued_by<E>(&self, frame: &Frame<E>) -> bool {
        // A leader begins its epoch and ends it; before the first and after an end only a leader can begin.
        let epoch_continues = match frame.body {
            Body::Started { .. } => frame.epoch == self.epoch + 1,
            Body::Stopped | Body::FormatRaised { .. } | Body::Turns(_) => {
                frame.epoch == self.epoch && self.position.number > 0 && !self.stopped
            }
        };
        let raises = !matches!(frame.body, Body::FormatRaised { to } if to <= frame.format);
        let format_continues = raises && (self.format == 0 || frame.format == self.format);
        // A frame names the snapshot that the one before names, or itself.
        let snapshot_continues = frame.snapshot == self.snapshot || frame.snapshot == frame.number;
        epoch_continues && format_continues && snapshot_continues && frame.time >= self.time
    }
}

pub(crate) fn lost(number: u64, loss: Loss) -> Fault {
    Fault::DataLoss { first: number, last: number, loss }
}

pub(crate) fn decode<E: DeserializeOwned>(number: u64, bytes: &[u8], formats: Formats) -> Result<Frame<E>, Fault> {
    Frame::decode_of(bytes, formats).map_err(|error| match error {
        Undecodable::NewerFormat { format } => Fault::NewerFormat { number, format },
        Undecodable::UnreleasedFormat { format } => Fault::UnreleasedFormat { number, format },
        Undecodable::Malformed(_) => lost(number, Loss::Unreadable),
    })
}

#[cfg(test)]
mod tests;
