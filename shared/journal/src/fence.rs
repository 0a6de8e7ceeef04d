//! The fence: one frame on its way into the stream. The same bytes are published again and again, with the same expected
//! last sequence, until the server's answers show whether they or another's stand under their number.
//!
//! A read alone never decides that a frame is *not* in the journal, since JetStream reads may be stale. Nor does one refusal
//! decide anything, since a server that lost its cluster still refuses (ADR 16).

use bytes::Bytes;

use crate::chain::{Fault, Loss, lost};
use crate::clock::{BootMillis, Now};
use crate::frame::FrameHash;

/// How long to wait before a request that failed is made again, in milliseconds.
pub(crate) const RETRY_MS: u64 = 20;

/// How long to wait before a message is looked for again that should be there, in milliseconds.
pub(crate) const LOOK_AGAIN_MS: u64 = 100;

/// A message that was there counts as lost after so many answers in a row that do not know it: until a server that lost
/// its cluster notices, it answers from the past. It looks every 10 s whether it has heard of the others within 10 s, so that takes
/// it up to 20 s.
pub(crate) const LOST_AFTER_ANSWERS: u32 = 240;

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The server stored the message, or says that it had stored it, under this sequence.
    Acked {
        /// The sequence of the message.
        seq: u64,
    },
    /// The server refused the message, because its last sequence is not the expected one.
    WrongLast {
        /// The server's last sequence.
        last: u64,
    },
    /// Any other answer, or none in time: the message may be stored, now, later or never.
    Failed,
}

/// What became of a read by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The message with this number.
    Found(Bytes),
    /// The server that answered has none with this number; it may be behind.
    Missing {
        /// The last sequence that it knew.
        last: u64,
    },
    /// Any other answer, or none in time.
    Failed,
}

/// What is known of the frame after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing certain: go on asking.
    Open,
    /// The frame is in the journal.
    Committed,
    /// This frame stands under its number, and ours never will.
    Refused(Bytes),
    /// The journal lost frames.
    Lost(Fault),
}

/// What the frame on its way asks for.
#[derive(Debug)]
pub(crate) enum Step {
    Publish { bytes: Bytes, expected_last: u64 },
    Read { number: u64 },
}

#[derive(Debug)]
pub(crate) struct Flight {
    number: u64,
    hash: FrameHash,
    bytes: Bytes,
    first_sent: Option<BootMillis>,
    /// Refusals in a row by a server that has not even the frames before.
    behind: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Publish { not_before: BootMillis },
    Published,
    Read { not_before: BootMillis },
    Reading,
}

impl Flight {
    pub(crate) fn new(number: u64, bytes: Bytes) -> Self {
        let stage = Stage::Publish { not_before: BootMillis::default() };
        Self { number, hash: FrameHash::of(&bytes), bytes, first_sent: None, behind: 0, stage }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the frame.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn hash(&self) -> FrameHash {
        self.hash
    }

    /// When the frame was first handed to the network. A lease counts from here: any of the sends may be the one stored.
    pub(crate) fn first_sent(&self) -> BootMillis {
        self.first_sent.unwrap_or_default()
    }

    pub(crate) fn poll(&mut self, now: Now) -> Option<Step> {
        match self.stage {
            Stage::Publish { not_before } if now.boot >= not_before => {
                self.first_sent.get_or_insert(now.boot);
                self.stage = Stage::Published;
                Some(Step::Publish { bytes: self.bytes.clone(), expected_last: self.number - 1 })
            }
            Stage::Read { not_before } if now.boot >= not_before => {
                self.stage = Stage::Reading;
                Some(Step::Read { number: self.number })
            }
            Stage::Publish { .. } | Stage::Published | Stage::Read { .. } | Stage::Reading => None,
        }
    }

    pub(crate) fn next_wakeup(&self) -> Option<BootMillis> {
        match self.stage {
            Stage::Publish { not_before } | Stage::Read { not_before } => Some(not_before),
            Stage::Published | Stage::Reading => None,
        }
    }

    pub(crate) fn published(&mut self, outcome: &PublishOutcome, now: Now) -> Verdict {
        if !matches!(self.stage, Stage::Published) {
            return Verdict::Open;
        }
        let expected = self.number - 1;
        match *outcome {
            PublishOutcome::Acked { seq } if seq == self.number => return Verdict::Committed,
            PublishOutcome::Acked { seq } => return Verdict::Lost(missing(seq.min(self.number), self.number)),
            PublishOutcome::WrongLast { last } if last < expected => {
                self.behind += 1;
                if self.behind >= LOST_AFTER_ANSWERS {
                    return Verdict::Lost(missing(last + 1, expected));
                }
                self.stage = Stage::Publish { not_before: now.boot.plus(LOOK_AGAIN_MS) };
                return Verdict::Open;
            }
            PublishOutcome::WrongLast { last } if last > expected => self.stage = Stage::Read { not_before: now.boot },
            // The expected sequence refused: a server between two states. Ask it again.
            PublishOutcome::WrongLast { .. } | PublishOutcome::Failed => {
                self.stage = Stage::Publish { not_before: now.boot.plus(RETRY_MS) };
            }
        }
        if !matches!(outcome, PublishOutcome::Failed) {
            self.behind = 0;
        }
        Verdict::Open
    }

    pub(crate) fn read(&mut self, outcome: ReadOutcome, now: Now) -> Verdict {
        if !matches!(self.stage, Stage::Reading) {
            return Verdict::Open;
        }
        match outcome {
            ReadOutcome::Found(bytes) if FrameHash::of(&bytes) == self.hash => Verdict::Committed,
            ReadOutcome::Found(bytes) => Verdict::Refused(bytes),
            ReadOutcome::Missing { last } if last > self.number => Verdict::Lost(lost(self.number, Loss::Missing)),
            // A server that leads others refuses for the sake of a message that it has only proposed to them, and that
            // goes with it when it dies. Then nothing ever stands under this number unless it is published again.
            ReadOutcome::Missing { .. } => {
                self.stage = Stage::Publish { not_before: now.boot.plus(RETRY_MS) };
                Verdict::Open
            }
            ReadOutcome::Failed => {
                self.stage = Stage::Read { not_before: now.boot.plus(RETRY_MS) };
                Verdict::Open
            }
        }
    }
}

fn missing(first: u64, last: u64) -> Fault {
    Fault::DataLoss { first, last, loss: Loss::Missing }
}

#[cfg(test)]
mod tests;
