//! A process that does not lead: it applies frames, reads what the delivery left out, and takes over when the journal has
//! been silent for a lease and a margin, or at once when it is empty or the leader has gone in good order.
//!
//! The end of the journal is learned by writing: only the frame `Started`, accepted behind the last frame that was
//! applied, proves that nothing was missed.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chain::{Fault, Link, Loss, lost};
use crate::check::{ClockCheck, Permit, ServerInfo};
use crate::clock::{BootMillis, Now};
use crate::draft::{Draft, Envelope};
use crate::fence::{Flight, LOOK_AGAIN_MS, LOST_AFTER_ANSWERS, PublishOutcome, ReadOutcome, Step, Verdict};
use crate::frame::{Body, Frame, FrameHash, Position};
use crate::leader::Leader;
use crate::node::{Action, Common, Next, Settings};
use crate::time::JournalTime;

#[derive(Debug)]
pub(crate) struct Standby<E> {
    /// When the last new frame arrived.
    heard: BootMillis,
    read: CatchUp,
    /// How many answers in a row did not know a frame that should be there.
    missing: u32,
    check: ClockCheck,
    candidacy: Option<Candidacy<E>>,
}

/// Reading by number what the delivery of frames left out.
#[derive(Debug, PartialEq, Eq)]
enum CatchUp {
    After(BootMillis),
    Reading,
}

/// A `Started` frame on its way into the stream, by a standby that takes over or a leader that begins again.
#[derive(Debug)]
pub(crate) struct Candidacy<E> {
    pub(crate) flight: Flight,
    pub(crate) frame: Frame<E>,
    pub(crate) time: JournalTime,
}

impl<E> Candidacy<E> {
    pub(crate) fn new<T>(common: &mut Common<E, T>, mut time: JournalTime, now: Now) -> Option<Self> {
        common.attempts += 1;
        let Settings { instance, process, .. } = &common.settings;
        let (process, attempt) = (*process, common.attempts);
        let envelope = Envelope {
            format: common.chain.next_format(),
            journal_id: common.chain.journal.or(common.settings.new_journal)?,
            epoch: common.chain.epoch + 1,
            number: common.chain.next(),
            prev: common.chain.position.hash,
            time: time.read(now),
            snapshot: common.chain.snapshot,
        };
        let bytes = envelope.seal(Draft::Started { instance, process, attempt });
        let frame = envelope.frame(Body::Started { instance: instance.clone(), process, attempt });
        Some(Self { flight: Flight::new(envelope.number, bytes), frame, time })
    }

    pub(crate) fn position(&self) -> Position {
        Position { number: self.flight.number(), hash: self.flight.hash() }
    }
}

impl<E: Serialize + DeserializeOwned> Standby<E> {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            heard: now.boot,
            read: CatchUp::After(now.boot),
            missing: 0,
            check: ClockCheck::default(),
            candidacy: None,
        }
    }

    pub(crate) fn poll<T>(&mut self, common: &mut Common<E, T>, now: Now) -> Next<E, T> {
        if let Some(candidacy) = &mut self.candidacy {
            if let Some(step) = candidacy.flight.poll(now) {
                common.out.push_back(step.into());
            }
            return Next::Stay;
        }
        if common.stopping {
            return Next::Ended;
        }
        if self.read_due(common).is_some_and(|due| now.boot >= due) {
            self.read = CatchUp::Reading;
            common.out.push_back(Action::Read { number: common.chain.next() });
            return Next::Stay;
        }
        if now.boot < self.takeover_due(common) {
            return Next::Stay;
        }
        match self.check.permit(now) {
            Permit::Granted => self.take_over(common, now),
            Permit::Ask => common.out.push_back(Action::CheckClock),
            Permit::Wait => {}
        }
        Next::Stay
    }

    pub(crate) fn next_wakeup<T>(&self, common: &Common<E, T>) -> Option<BootMillis> {
        if let Some(candidacy) = &self.candidacy {
            return candidacy.flight.next_wakeup();
        }
        let takeover = match self.check {
            ClockCheck::Asked => None,
            ClockCheck::Unasked | ClockCheck::Good { .. } | ClockCheck::Off { .. } => {
                Some(self.takeover_due(common)).max(self.check.next_wakeup())
            }
        };
        [takeover, self.read_due(common)].into_iter().flatten().min()
    }

    pub(crate) fn on_frame<T>(
        &mut self,
        common: &mut Common<E, T>,
        now: Now,
        number: u64,
        bytes: &Bytes,
    ) -> Next<E, T> {
        if let Some(candidacy) = &self.candidacy
            && candidacy.position() == (Position { number, hash: FrameHash::of(bytes) })
        {
            // Our own `Started`: only the answer to its publish makes it ours to lead with.
            return Next::Stay;
        }
        common.known_end = common.known_end.max(number);
        match common.chain.accept(number, bytes) {
            Ok(Link::Next(committed)) => {
                let (found, known) = (committed.position, common.witness);
                if found.number == known.number && found.hash != known.hash {
                    return Next::Faulted(lost(number, Loss::Replaced));
                }
                // Another's frame stands where ours would, so ours never will.
                self.candidacy = None;
                self.heard = now.boot;
                self.missing = 0;
                self.read = CatchUp::After(now.boot.plus(common.settings.lease_ms / 3));
                common.out.push_back(Action::Apply(committed));
            }
            Ok(Link::Repeat) => {}
            Ok(Link::Gap) => {
                if self.read != CatchUp::Reading {
                    self.read = CatchUp::After(now.boot);
                }
            }
            Err(fault) => return Next::Faulted(fault),
        }
        Next::Stay
    }

    pub(crate) fn on_published<T>(
        &mut self,
        common: &mut Common<E, T>,
        now: Now,
        outcome: &PublishOutcome,
    ) -> Next<E, T> {
        match &mut self.candidacy {
            Some(candidacy) => {
                let verdict = candidacy.flight.published(outcome, now);
                self.judge(common, now, verdict)
            }
            None => Next::Stay,
        }
    }

    pub(crate) fn on_read<T>(&mut self, common: &mut Common<E, T>, now: Now, outcome: ReadOutcome) -> Next<E, T> {
        if let Some(candidacy) = &mut self.candidacy {
            let verdict = candidacy.flight.read(outcome, now);
            return self.judge(common, now, verdict);
        }
        if self.read != CatchUp::Reading {
            return Next::Stay;
        }
        self.read = CatchUp::After(now.boot.plus(LOOK_AGAIN_MS));
        let number = common.chain.next();
        match outcome {
            ReadOutcome::Found(bytes) => {
                let next = self.on_frame(common, now, number, &bytes);
                // The delivery is behind: read on until it, or we, have caught up.
                self.read = CatchUp::After(now.boot);
                next
            }
            ReadOutcome::Missing { last } if last > number => Next::Faulted(lost(number, Loss::Missing)),
            ReadOutcome::Missing { .. } => {
                self.missing += 1;
                if self.missing < LOST_AFTER_ANSWERS {
                    return Next::Stay;
                }
                Next::Faulted(Fault::DataLoss { first: number, last: common.known_end, loss: Loss::Missing })
            }
            ReadOutcome::Failed => Next::Stay,
        }
    }

    pub(crate) fn on_server_info<T>(
        &mut self,
        common: &mut Common<E, T>,
        now: Now,
        info: Option<ServerInfo>,
    ) -> Next<E, T> {
        if let Err(ahead_ms) = self.check.answered(info.map(|info| info.time), now) {
            common.out.push_back(Action::ClockOff { ahead_ms });
        }
        common.known_end = common.known_end.max(info.map_or(0, |info| info.last));
        Next::Stay
    }

    /// When to read the next frame by number: only where one is known to be there.
    fn read_due<T>(&self, common: &Common<E, T>) -> Option<BootMillis> {
        match self.read {
            CatchUp::After(due) if common.chain.position.number < common.known_end => Some(due),
            CatchUp::After(_) | CatchUp::Reading => None,
        }
    }

    fn takeover_due<T>(&self, common: &Common<E, T>) -> BootMillis {
        let nobody_leads = common.chain.position.number == 0 || common.chain.stopped;
        if nobody_leads && common.chain.position.number >= common.known_end {
            return self.heard;
        }
        // A leader's lease counts from before it sent the frame that was heard, so it is over by then.
        self.heard.plus(common.settings.lease_ms + common.settings.margin_ms)
    }

    fn take_over<T>(&mut self, common: &mut Common<E, T>, now: Now) {
        let none_arrived = common.chain.position.number == 0 && common.known_end > 0;
        if none_arrived || common.chain.position.number < common.witness.number.max(common.had) {
            // There are frames that have not arrived yet, or are lost: reading them by number tells.
            self.heard = now.boot;
            return;
        }
        self.candidacy = Candidacy::new(common, JournalTime::start(common.chain.time, now), now);
        if let Some(step) = self.candidacy.as_mut().and_then(|candidacy| candidacy.flight.poll(now)) {
            common.out.push_back(step.into());
        }
    }

    fn judge<T>(&mut self, common: &mut Common<E, T>, now: Now, verdict: Verdict) -> Next<E, T> {
        match verdict {
            Verdict::Open => Next::Stay,
            Verdict::Committed => match self.candidacy.take() {
                Some(candidacy) => Next::Lead(Box::new(Leader::begin_with(common, candidacy))),
                None => Next::Stay,
            },
            Verdict::Refused(bytes) => {
                self.candidacy = None;
                self.on_frame(common, now, common.chain.next(), &bytes)
            }
            Verdict::Lost(fault) => Next::Faulted(fault),
        }
    }
}

impl<E, T> From<Step> for Action<E, T> {
    fn from(step: Step) -> Self {
        match step {
            Step::Publish { bytes, expected_last } => Self::Publish { bytes, expected_last },
            Step::Read { number } => Self::Read { number },
        }
    }
}
