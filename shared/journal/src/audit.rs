//! Reading a journal that may be damaged: every frame, with what is wrong, and how far it is right.
//!
//! A reader that stops at the first fault knows less: which of two frames that do not fit together was changed shows only
//! in the one behind them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use laneway_contract::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::chain::{Chain, Fault, Link, Loss, decode, lost};
use crate::frame::{Body, Committed, Formats, Frame, FrameHash, Position};

/// Positions that are remembered, so that the end of what is right is known also when it is found two frames later.
const REMEMBERED: usize = 4;

/// A frame that something outside the stream has had from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What has had it, for people.
    pub name: Arc<str>,
    /// The frame.
    pub position: Position,
}

/// What is wrong with frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "damage", rename_all = "snake_case")]
pub enum Damage {
    /// The stream does not hold them, though it holds later ones.
    #[error("are missing")]
    Missing,
    /// The stream ends before them, though a view has had them.
    #[error("are cut off: {witness} has had the last of them")]
    CutOff {
        /// What has had it.
        witness: String,
    },
    /// A view has had another frame under this number.
    #[error("are not those that {witness} has had")]
    Replaced {
        /// What has had it.
        witness: String,
    },
    /// The frame behind them names other bytes.
    #[error("were changed: the hash in the frame behind is another")]
    Changed,
    /// The bytes are no frame.
    #[error("cannot be read")]
    Unreadable,
    /// Number, epoch or time do not continue those of the frame before.
    #[error("do not continue the frames before them in number, epoch or time")]
    Disordered,
    /// They belong to another journal.
    #[error("belong to journal {found}")]
    OtherJournal {
        /// The journal.
        found: Uuid,
    },
    /// Another version wrote them.
    #[error("have format {format}, which this program does not read")]
    OtherFormat {
        /// The format.
        format: u16,
    },
}

/// Damage and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The first frame.
    pub first: u64,
    /// The last frame.
    pub last: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub damage: Damage,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "frame {}: {}", self.first, self.damage)
        } else {
            write!(f, "frames {} to {}: {}", self.first, self.last, self.damage)
        }
    }
}

/// A journal as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// The journal that the first readable frame belongs to.
    pub journal: Option<Uuid>,
    /// Frames that were read.
    pub frames: u64,
    /// Events in those that could be read.
    pub events: u64,
    /// Time of the first frame that could be read.
    pub first_time: Option<Timestamp>,
    /// Time of the last.
    pub last_time: Option<Timestamp>,
    /// Epoch of the first frame that could be read.
    pub first_epoch: u64,
    /// The highest epoch.
    pub last_epoch: u64,
    /// The last number that the stream has given.
    pub last: u64,
    /// How far the journal is right from its start.
    pub right: Position,
    /// What is wrong, in the order of the frames.
    pub findings: Vec<Finding>,
}

/// Reads frames one after the other. `E` is the event, which is decoded whole.
#[derive(Debug)]
pub struct Audit<E> {
    audited: Audited,
    next: u64,
    before: Option<Before>,
    /// A frame whose hash of the frame before does not fit: one of the two was changed.
    doubtful: Option<u64>,
    /// By their numbers.
    witnesses: BTreeMap<u64, Vec<Witness>>,
    /// The last frame that views have had, too, before the first that they had otherwise.
    agreed: Position,
    recent: VecDeque<Position>,
    /// The recent positions when the first damage showed.
    at_damage: Option<VecDeque<Position>>,
    event: PhantomData<fn() -> E>,
}

/// The message before, when nothing is missing between.
#[derive(Debug)]
struct Before {
    hash: FrameHash,
    /// None where it could not be read.
    chain: Option<Chain>,
}

impl<E: DeserializeOwned> Audit<E> {
    /// Begins at the first frame, with what views have had.
    #[must_use]
    pub fn new(known: Vec<Witness>) -> Self {
        let mut witnesses: BTreeMap<u64, Vec<Witness>> = BTreeMap::new();
        for witness in known {
            witnesses.entry(witness.position.number).or_default().push(witness);
        }
        Self {
            audited: Audited::default(),
            next: 1,
            before: None,
            doubtful: None,
            witnesses,
            agreed: Position::START,
            recent: VecDeque::from([Position::START]),
            at_damage: None,
            event: PhantomData,
        }
    }

    /// Takes the next message of the stream.
    pub fn take(&mut self, number: u64, bytes: &[u8]) {
        if number < self.next {
            return;
        }
        if number > self.next {
            self.settle_doubt(None);
            self.found(self.next, number - 1, Damage::Missing);
            self.before = None;
        }
        self.next = number + 1;
        self.audited.frames += 1;
        self.audited.last = number;
        let hash = FrameHash::of(bytes);
        let chain = match decode::<E>(number, bytes, Formats::default()) {
            Ok(frame) => Some(self.frame(number, hash, &frame)),
            Err(fault) => {
                self.settle_doubt(None);
                self.found(number, number, unreadable(&fault));
                None
            }
        };
        self.witnessed(number, hash);
        self.before = Some(Before { hash, chain });
        self.recent.push_back(Position { number, hash });
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Ends at the last number that the stream has given.
    #[must_use]
    pub fn finish(mut self, last: u64) -> Audited {
        self.settle_doubt(None);
        if self.next <= last {
            self.found(self.next, last, Damage::Missing);
        }
        self.audited.last = self.audited.last.max(last);
        let end = self.audited.last;
        if let Some((last, witness)) = self.farthest()
            && last > end
        {
            self.found(end + 1, last, Damage::CutOff { witness });
        }
        let Self { mut audited, recent, at_damage, agreed, .. } = self;
        audited.findings.sort_by_key(|finding| finding.first);
        let until = audited.findings.first().map_or(u64::MAX, |finding| finding.first - 1);
        let at_first = audited.findings.iter().take_while(|finding| finding.first == until.saturating_add(1));
        let mut replaced = at_first.map(|finding| matches!(finding.damage, Damage::Replaced { .. })).peekable();
        audited.right = if replaced.peek().is_some() && replaced.all(|replaced| replaced) {
            // A chain that is right in itself: where it has left the one that views know, only they can tell.
            agreed
        } else {
            let known = at_damage.unwrap_or(recent);
            known.into_iter().rfind(|position| position.number <= until).unwrap_or_default()
        };
        audited
    }

    /// Looks at a frame that could be read; gives the chain behind it.
    fn frame(&mut self, number: u64, hash: FrameHash, frame: &Frame<E>) -> Chain {
        self.count(frame);
        let is_other = self.audited.journal.is_some_and(|journal| journal != frame.journal_id);
        let fits = match &self.before {
            Some(before) => frame.prev == before.hash,
            None => number > 1 || frame.prev == FrameHash::ZERO,
        };
        let was_read = self.before.as_ref().is_none_or(|before| before.chain.is_some());
        if self.doubtful.is_some() {
            self.settle_doubt(Some(fits));
        } else if !fits && !is_other && was_read {
            self.mark();
            self.doubtful = Some(number);
        }
        if is_other {
            self.found(number, number, Damage::OtherJournal { found: frame.journal_id });
        } else if !self.continues(number, frame) {
            self.found(number, number, Damage::Disordered);
        }
        self.audited.journal.get_or_insert(frame.journal_id);
        Chain::at(frame, hash)
    }

    /// Whether number, epoch and time are those of the next frame, as far as the one before is known.
    fn continues(&self, number: u64, frame: &Frame<E>) -> bool {
        let start = Chain::default();
        let before = match &self.before {
            Some(before) => before.chain.as_ref(),
            None => (number == 1).then_some(&start),
        };
        frame.number == number && before.is_none_or(|before| before.is_continued_by(frame))
    }

    fn count(&mut self, frame: &Frame<E>) {
        let audited = &mut self.audited;
        if let Body::Turns(turns) = &frame.body {
            audited.events += turns.iter().map(|turn| turn.events.len() as u64).sum::<u64>();
        }
        if audited.first_time.is_none() {
            (audited.first_time, audited.first_epoch) = (Some(frame.time), frame.epoch);
        }
        audited.last_time = Some(frame.time);
        audited.last_epoch = audited.last_epoch.max(frame.epoch);
    }

    /// Says which of two frames that do not fit together was changed: `fits` is whether the frame behind fits the second.
    fn settle_doubt(&mut self, fits: Option<bool>) {
        let Some(second) = self.doubtful.take() else { return };
        let first = (second - 1).max(1);
        let (first, last) = match fits {
            Some(true) => (first, first),
            Some(false) => (second, second),
            None => (first, second),
        };
        self.found(first, last, Damage::Changed);
    }

    fn witnessed(&mut self, number: u64, hash: FrameHash) {
        let another = |witness: &&Witness| witness.position.hash != hash;
        let Some(witnesses) = self.witnesses.get(&number) else { return };
        let Some(witness) = witnesses.iter().find(another) else {
            let has_left = |finding: &Finding| matches!(finding.damage, Damage::Replaced { .. });
            if !self.audited.findings.iter().any(has_left) {
                self.agreed = Position { number, hash };
            }
            return;
        };
        let damage = Damage::Replaced { witness: witness.name.to_string() };
        match self.audited.findings.last_mut() {
            // The frames between fit to both, so they are others, too.
            Some(before) if before.damage == damage => before.last = number,
            Some(_) | None => self.found(number, number, damage),
        }
    }

    fn farthest(&self) -> Option<(u64, String)> {
        let (last, witnesses) = self.witnesses.last_key_value()?;
        Some((*last, witnesses.first()?.name.to_string()))
    }

    fn found(&mut self, first: u64, last: u64, damage: Damage) {
        self.mark();
        match self.audited.findings.last_mut() {
            Some(before) if before.damage == damage && before.last + 1 == first => before.last = last,
            Some(_) | None => self.audited.findings.push(Finding { first, last, damage }),
        }
    }

    fn mark(&mut self) {
        if self.at_damage.is_none() {
            self.at_damage = Some(self.recent.clone());
        }
    }
}

fn unreadable(fault: &Fault) -> Damage {
    match *fault {
        Fault::NewerFormat { format, .. } | Fault::UnreleasedFormat { format, .. } => Damage::OtherFormat { format },
        Fault::DataLoss { .. } | Fault::OtherJournal { .. } => Damage::Unreadable,
    }
}

/// Reads frames that are known to be right, one after the other.
#[derive(Debug)]
pub struct Replay<E> {
    chain: Chain,
    event: PhantomData<fn() -> E>,
}

impl<E> Default for Replay<E> {
    fn default() -> Self {
        Self { chain: Chain::default(), event: PhantomData }
    }
}

impl<E> Replay<E> {
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }
}

impl<E: DeserializeOwned> Replay<E> {
    /// Takes the next frame; fails on any other.
    pub fn take(&mut self, number: u64, bytes: &[u8]) -> Result<Committed<E>, Fault> {
        match self.chain.accept(number, bytes)? {
            Link::Next(committed) => Ok(committed),
            Link::Repeat | Link::Gap => Err(lost(self.chain.next(), Loss::Missing)),
        }
    }
}

#[cfg(test)]
mod tests;
