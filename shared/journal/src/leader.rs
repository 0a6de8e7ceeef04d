//! A leader: closes frames over the turns that were handed over, one in flight, and releases their effects when the
//! frame is in the journal and the lease still holds.

use std::collections::VecDeque;
use std::mem;

use laneway_contract::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chain::Chain;
use crate::check::{ClockCheck, Permit, ServerInfo};
use crate::clock::{BootMillis, Now};
use crate::draft::{Draft, Envelope, TurnDraft};
use crate::fence::{Flight, PublishOutcome, ReadOutcome, Verdict};
use crate::frame::{Body, ENVELOPE_BYTES, FRAME_CLOSES_AT, Frame, Position};
use crate::node::{Action, Common, Next, NotLeading, Released};
use crate::standby::Candidacy;
use crate::time::JournalTime;

#[derive(Debug)]
pub(crate) struct Leader<E, T> {
    lease_from: BootMillis,
    /// The lease ran out, or never held: nothing leaves until a `Started` on top is in the journal.
    lapsed: bool,
    /// How the leadership is to be reported, once it holds.
    report: Option<Report>,
    time: JournalTime,
    /// Journal time is to step forward with a new `Started`; turns wait until it is written.
    step: bool,
    /// The format is to be raised to this; turns wait until that is written, so that none is decided under one format and
    /// stored under another.
    raise: Option<u16>,
    check: ClockCheck,
    queue: VecDeque<Queued<T>>,
    queued_bytes: usize,
    flight: Option<InFlight<E, T>>,
    ready: VecDeque<Released<T>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    TakenOver,
    Resumed,
}

/// An encoded turn, with its effects and those of turns without events behind it.
#[derive(Debug)]
struct Queued<T> {
    bytes: Vec<u8>,
    marks_snapshot: bool,
    effects: Vec<T>,
}

#[derive(Debug)]
enum InFlight<E, T> {
    Started(Candidacy<E>),
    Stopped(Sealed),
    FormatRaised(Flight, Frame<E>),
    Turns(Sealed, Vec<T>),
}

/// A frame of the running epoch.
#[derive(Debug)]
struct Sealed {
    flight: Flight,
    time: Timestamp,
    snapshot: u64,
}

impl<E, T> InFlight<E, T> {
    fn flight(&self) -> &Flight {
        match self {
            Self::Started(candidacy) => &candidacy.flight,
            Self::FormatRaised(flight, _) => flight,
            Self::Stopped(sealed) | Self::Turns(sealed, _) => &sealed.flight,
        }
    }

    fn flight_mut(&mut self) -> &mut Flight {
        match self {
            Self::Started(candidacy) => &mut candidacy.flight,
            Self::FormatRaised(flight, _) => flight,
            Self::Stopped(sealed) | Self::Turns(sealed, _) => &mut sealed.flight,
        }
    }
}

impl<E: Serialize + DeserializeOwned, T> Leader<E, T> {
    /// The leader that a committed `Started` makes.
    pub(crate) fn begin_with(common: &mut Common<E, T>, candidacy: Candidacy<E>) -> Self {
        let lease_from = candidacy.flight.first_sent();
        let hash = candidacy.flight.hash();
        let committed = common.chain.commit(candidacy.frame, hash, candidacy.flight.size());
        common.out.push_back(Action::Apply(committed));
        Self {
            lease_from,
            lapsed: false,
            report: Some(Report::TakenOver),
            time: candidacy.time,
            step: false,
            raise: None,
            check: ClockCheck::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            flight: None,
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn poll(&mut self, common: &mut Common<E, T>, now: Now) -> Next<E, T> {
        let holds = self.holds(common, now);
        if holds && let Some(report) = self.report.take() {
            common.out.push_back(Action::Lead { epoch: common.chain.epoch, resumed: report == Report::Resumed });
            return Next::Stay;
        }
        // Turns are held back from here, else under load the queue would never be empty for the `Started`.
        if !self.step && self.time.needs_step(now) {
            match self.permit(common, now) {
                Permit::Granted => self.step = true,
                Permit::Ask => return Next::Stay,
                Permit::Wait => {}
            }
        }
        // The next frame goes before the effects of the last, so that it is on its way while they are carried out.
        if self.flight.is_none() {
            self.flight = self.next_flight(common, now);
        }
        if let Some(step) = self.flight.as_mut().and_then(|flight| flight.flight_mut().poll(now)) {
            common.out.push_back(step.into());
        } else if holds && let Some(mut released) = self.ready.pop_front() {
            released.epoch = common.chain.epoch;
            common.out.push_back(Action::Release(released));
        }
        Next::Stay
    }

    pub(crate) fn next_wakeup(&self, common: &Common<E, T>) -> Option<BootMillis> {
        match &self.flight {
            Some(flight) => flight.flight().next_wakeup(),
            None if self.lapsed || self.step => self.check.next_wakeup(),
            None => Some(self.heartbeat_due(common)),
        }
    }

    pub(crate) fn on_published(&mut self, common: &mut Common<E, T>, now: Now, outcome: &PublishOutcome) -> Next<E, T> {
        self.holds(common, now);
        match &mut self.flight {
            Some(flight) => {
                let verdict = flight.flight_mut().published(outcome, now);
                self.judge(common, verdict)
            }
            None => Next::Stay,
        }
    }

    pub(crate) fn on_read(&mut self, common: &mut Common<E, T>, now: Now, outcome: ReadOutcome) -> Next<E, T> {
        self.holds(common, now);
        match &mut self.flight {
            Some(flight) => {
                let verdict = flight.flight_mut().read(outcome, now);
                self.judge(common, verdict)
            }
            None => Next::Stay,
        }
    }

    pub(crate) fn on_server_info(
        &mut self,
        common: &mut Common<E, T>,
        now: Now,
        info: Option<ServerInfo>,
    ) -> Next<E, T> {
        if let Err(ahead_ms) = self.check.answered(info.map(|info| info.time), now) {
            common.out.push_back(Action::ClockOff { ahead_ms });
            self.step = false;
        }
        Next::Stay
    }

    pub(crate) fn begin(&mut self, common: &Common<E, T>, now: Now) -> Option<TurnDraft<E>> {
        let may = self.may_answer(common, now);
        may.then(|| TurnDraft::new(common.chain.epoch, self.time.read(now)))
    }

    pub(crate) fn may_answer(&mut self, common: &Common<E, T>, now: Now) -> bool {
        let due = self.step || self.raise.is_some();
        self.holds(common, now) && self.report.is_none() && !due && !common.stopping
    }

    /// Writes that frames have this format from the next on, unless they have it. It falls away with the lease.
    pub(crate) fn raise(&mut self, common: &Common<E, T>, to: u16) {
        if to > common.chain.next_format() && to <= common.settings.formats.newest {
            self.raise = Some(to);
        }
    }

    pub(crate) fn answers_until(&self, common: &Common<E, T>) -> Option<BootMillis> {
        let acts = !self.lapsed && self.report.is_none();
        acts.then(|| self.lease_from.plus(common.settings.lease_ms))
    }

    pub(crate) fn time(&mut self, now: Now) -> Timestamp {
        self.time.read(now)
    }

    pub(crate) fn push(&mut self, common: &Common<E, T>, turn: TurnDraft<E>, effects: T) -> Result<(), NotLeading> {
        let too_late =
            matches!(self.flight, Some(InFlight::Started(_) | InFlight::Stopped(_) | InFlight::FormatRaised(..)));
        if too_late || turn.epoch() != common.chain.epoch {
            return Err(NotLeading);
        }
        if !turn.is_empty() {
            let marks_snapshot = turn.marks_snapshot();
            let bytes = turn.encoded();
            self.queued_bytes += bytes.len();
            self.queue.push_back(Queued { bytes, marks_snapshot, effects: vec![effects] });
        } else if let Some(last) = self.queue.back_mut() {
            last.effects.push(effects);
        } else if let Some(InFlight::Turns(_, waiting)) = &mut self.flight {
            waiting.push(effects);
        } else {
            self.make_ready(&common.chain, vec![effects]);
        }
        Ok(())
    }

    pub(crate) fn backlog(&self) -> usize {
        self.queued_bytes
    }

    /// Whether the lease holds, counted from when the last acknowledged frame was sent. Once it has run out, it holds
    /// again only after a new `Started`.
    fn holds(&mut self, common: &Common<E, T>, now: Now) -> bool {
        self.lapsed |= now.boot.since(self.lease_from) >= common.settings.lease_ms;
        !self.lapsed
    }

    fn heartbeat_due(&self, common: &Common<E, T>) -> BootMillis {
        self.lease_from.plus(common.settings.lease_ms / 3)
    }

    fn next_flight(&mut self, common: &mut Common<E, T>, now: Now) -> Option<InFlight<E, T>> {
        // IMPORTANT: turns first, whatever else is due: only then does memory equal the journal, and only then may a
        // `Started`, `Stopped` or `FormatRaised` follow.
        if !self.queue.is_empty() {
            return self.close_frame(common, now);
        }
        // What still waits for a new leadership is dropped by a leader that goes; its callers try again elsewhere.
        if common.stopping && (self.ready.is_empty() || self.lapsed) {
            return self.seal(common, now, Draft::Stopped, false).map(InFlight::Stopped);
        }
        if self.lapsed || (self.step && self.ready.is_empty()) {
            return match self.permit(common, now) {
                Permit::Granted => {
                    let time = JournalTime::start(self.time.read(now), now);
                    Candidacy::new(common, time, now).map(InFlight::Started)
                }
                Permit::Ask | Permit::Wait => None,
            };
        }
        if let Some(to) = self.raise {
            let envelope = self.envelope(common, now)?;
            let flight = Flight::new(envelope.number, envelope.seal(Draft::FormatRaised { to }));
            return Some(InFlight::FormatRaised(flight, envelope.frame(Body::FormatRaised { to })));
        }
        if now.boot >= self.heartbeat_due(common) { self.close_frame(common, now) } else { None }
    }

    fn permit(&mut self, common: &mut Common<E, T>, now: Now) -> Permit {
        let permit = self.check.permit(now);
        if permit == Permit::Ask {
            common.out.push_back(Action::CheckClock);
        }
        permit
    }

    /// Closes a frame over the turns that wait: as many as fit, and at least one. Without any it is a heartbeat.
    fn close_frame(&mut self, common: &Common<E, T>, now: Now) -> Option<InFlight<E, T>> {
        let (mut turns, mut effects, mut size) = (Vec::new(), Vec::new(), ENVELOPE_BYTES);
        let mut marks_snapshot = false;
        while let Some(first) = self.queue.front() {
            size += first.bytes.len();
            if size > FRAME_CLOSES_AT && !turns.is_empty() {
                break;
            }
            let Some(turn) = self.queue.pop_front() else { break };
            self.queued_bytes -= turn.bytes.len();
            turns.push(turn.bytes);
            marks_snapshot |= turn.marks_snapshot;
            effects.extend(turn.effects);
        }
        let sealed = self.seal(common, now, Draft::Turns(&turns), marks_snapshot)?;
        Some(InFlight::Turns(sealed, effects))
    }

    fn seal(&mut self, common: &Common<E, T>, now: Now, body: Draft<'_>, marks_snapshot: bool) -> Option<Sealed> {
        let mut envelope = self.envelope(common, now)?;
        if marks_snapshot {
            envelope.snapshot = envelope.number;
        }
        let Envelope { time, snapshot, .. } = envelope;
        Some(Sealed { flight: Flight::new(envelope.number, envelope.seal(body)), time, snapshot })
    }

    /// Of the next frame.
    fn envelope(&mut self, common: &Common<E, T>, now: Now) -> Option<Envelope> {
        let chain = &common.chain;
        Some(Envelope {
            format: common.chain.next_format(),
            journal_id: chain.journal?,
            epoch: chain.epoch,
            number: chain.next(),
            prev: chain.position.hash,
            time: self.time.read(now),
            snapshot: chain.snapshot,
        })
    }

    fn judge(&mut self, common: &mut Common<E, T>, verdict: Verdict) -> Next<E, T> {
        match verdict {
            Verdict::Open => Next::Stay,
            Verdict::Committed => match self.flight.take() {
                Some(flight) => self.committed(common, flight),
                None => Next::Stay,
            },
            Verdict::Refused(_) => Next::Deposed,
            Verdict::Lost(fault) => Next::Faulted(fault),
        }
    }

    fn committed(&mut self, common: &mut Common<E, T>, flight: InFlight<E, T>) -> Next<E, T> {
        self.lease_from = flight.flight().first_sent();
        match flight {
            InFlight::Started(candidacy) => {
                let taken_over = self.report == Some(Report::TakenOver);
                let before = mem::take(&mut self.ready);
                let mut again = Self::begin_with(common, candidacy);
                again.report = Some(if taken_over { Report::TakenOver } else { Report::Resumed });
                again.ready = before;
                *self = again;
            }
            InFlight::Stopped(sealed) => {
                sealed.enter(&mut common.chain);
                return Next::Ended;
            }
            InFlight::FormatRaised(flight, frame) => {
                self.raise = None;
                let committed = common.chain.commit(frame, flight.hash(), flight.size());
                common.out.push_back(Action::Apply(committed));
            }
            InFlight::Turns(sealed, effects) => {
                sealed.enter(&mut common.chain);
                if !effects.is_empty() {
                    self.make_ready(&common.chain, effects);
                }
            }
        }
        Next::Stay
    }

    fn make_ready(&mut self, chain: &Chain, effects: Vec<T>) {
        self.ready.push_back(Released { epoch: chain.epoch, number: chain.position.number, effects });
    }
}

impl Sealed {
    fn enter(&self, chain: &mut Chain) {
        chain.position = Position { number: self.flight.number(), hash: self.flight.hash() };
        chain.time = self.time;
        chain.snapshot = self.snapshot;
        chain.read_bytes += self.flight.size();
    }
}
