//! One run: virtual time, a network, and what goes wrong until the calm at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use laneway_contract::Timestamp;

use crate::frame::{Body, Frame, FrameHash};
use crate::node::{Action, PublishOutcome, ReadOutcome, ServerInfo};

use super::checks::{Checks, Effect};
use super::process::{FORMATS, Process, State};
use crate::testing::{EPOCH_MS, Rng, Stream};

/// When nothing goes wrong any more, in true milliseconds, and when the run ends.
const CALM_AT: u64 = 40_000;
const PROBE_AT: u64 = 70_000;
const END_AT: u64 = 75_000;

const REQUEST_TIMEOUT_MS: u64 = 1_000;

/// What goes wrong in a run.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) bad_network: bool,
    pub(super) outages: bool,
    pub(super) pauses: bool,
    pub(super) kills: bool,
    pub(super) stops: bool,
    pub(super) abandons: bool,
    pub(super) clock_steps: bool,
    /// Leaders take snapshots, and processes begin with them.
    pub(super) snapshots: bool,
    /// Leaders raise the format.
    pub(super) raises: bool,
    /// All wall clocks are set back after a while, so that journal time waits for them.
    pub(super) clocks_behind: bool,
}

/// What happened, over all runs.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) takeovers: u64,
    pub(super) resumed: u64,
    pub(super) deposed: u64,
    pub(super) refused: u64,
    pub(super) released: u64,
    pub(super) stopped: u64,
    pub(super) clock_off: u64,
    pub(super) from_snapshots: u64,
    pub(super) raised: u64,
}

struct Event {
    process: usize,
    life: u64,
    what: What,
}

enum What {
    Wake,
    Publish { request: u64, expected_last: u64, bytes: Bytes },
    Read { request: u64, number: u64 },
    Info { request: u64 },
    Published { request: u64, outcome: PublishOutcome },
    Found { request: u64, outcome: ReadOutcome },
    Answered { request: u64, info: Option<ServerInfo> },
    Deliver { reader: u64, number: u64 },
    Command,
    Chaos,
    Thaw,
    Start,
    Probe,
}

pub(super) struct World<'a> {
    profile: &'a Profile,
    rng: Rng,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    ticket: u64,
    stream: Stream,
    down_until: u64,
    processes: Vec<Process<Event>>,
    checks: Checks,
    next_event: u64,
    /// The last frame of which anything was answered.
    answered: u64,
    probe: Option<u64>,
    probe_released: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, profile: &'a Profile) -> Self {
        let mut rng = Rng::new(seed);
        let count = rng.range(2, 4) as usize;
        let processes = (0..count).map(|index| Process::new(&mut rng, index)).collect();
        let stream = Stream::new(rng.per_mille(500));
        Self {
            profile,
            rng,
            now: 0,
            events: BTreeMap::new(),
            ticket: 0,
            stream,
            down_until: 0,
            processes,
            checks: Checks::new(),
            next_event: 1,
            answered: 0,
            probe: None,
            probe_released: false,
        }
    }

    pub(super) fn run(mut self, seen: &mut Seen) {
        for process in 0..self.processes.len() {
            self.at(self.now + process as u64, process, What::Wake);
            self.at(self.now + 10, process, What::Command);
            self.at(self.now + 500, process, What::Chaos);
            self.at(PROBE_AT, process, What::Probe);
        }
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > END_AT {
                break;
            }
            self.now = time;
            self.handle(event, seen);
        }
        self.finish();
    }

    fn calm(&self) -> bool {
        self.now >= CALM_AT
    }

    fn at(&mut self, time: u64, process: usize, what: What) {
        let life = self.processes[process].life;
        self.ticket += 1;
        // Events of the same moment happen in any order.
        let order = self.rng.next() << 32 | self.ticket;
        self.events.insert((time, order), Event { process, life, what });
    }

    /// Sends over the network: usually soon, sometimes late, twice, or never.
    fn send(&mut self, process: usize, make: impl Fn() -> What) {
        let bad = self.profile.bad_network && !self.calm();
        if bad && self.rng.per_mille(40) {
            return;
        }
        let copies = if bad && self.rng.per_mille(40) { 2 } else { 1 };
        for _ in 0..copies {
            let late = bad && self.rng.per_mille(40);
            let delay = if late { self.rng.range(5, 8_000) } else { self.rng.range(1, 4) };
            self.at(self.now + delay, process, make());
        }
    }

    fn handle(&mut self, event: Event, seen: &mut Seen) {
        let Event { process, life, what } = event;
        match what {
            // What has left a process no longer depends on it.
            What::Publish { request, expected_last, bytes } => {
                self.serve_publish(process, request, expected_last, &bytes);
            }
            What::Read { request, number } => self.serve_read(process, request, number),
            What::Info { request } => self.serve_info(process, request),
            What::Chaos => self.chaos(process),
            What::Thaw => self.thaw(process, seen),
            What::Start => self.start(process, seen),
            What::Command => self.command(process, seen),
            What::Probe => self.send_probe(process, seen),
            What::Wake | What::Published { .. } | What::Found { .. } | What::Answered { .. } | What::Deliver { .. } => {
                let target = &mut self.processes[process];
                match &mut target.state {
                    State::Running if target.life == life => self.receive(process, what, seen),
                    State::Frozen { inbox } if target.life == life => inbox.push(Event { process, life, what }),
                    State::Running | State::Frozen { .. } | State::Dead => {}
                }
            }
        }
    }

    /// What reaches a running process.
    fn receive(&mut self, index: usize, what: What, seen: &mut Seen) {
        let target = &mut self.processes[index];
        let now = target.now(self.now);
        match what {
            What::Published { request, outcome } if target.publish == Some(request) => {
                target.publish = None;
                seen.refused += u64::from(matches!(outcome, PublishOutcome::WrongLast { .. }));
                target.node.on_published(now, &outcome);
            }
            What::Found { request, outcome } if target.read == Some(request) => {
                target.read = None;
                target.node.on_read(now, outcome);
            }
            What::Answered { request, info } if target.info == Some(request) => {
                target.info = None;
                target.node.on_server_info(now, info);
            }
            What::Deliver { reader, number } if target.reader == reader => {
                let bytes = self.stream.get(number).expect("only what is stored is delivered").clone();
                target.node.on_frame(now, number, &bytes);
            }
            What::Wake => target.wake_at = None,
            // Answers to requests that were given up, and what no process receives.
            What::Published { .. }
            | What::Found { .. }
            | What::Answered { .. }
            | What::Deliver { .. }
            | What::Publish { .. }
            | What::Read { .. }
            | What::Info { .. }
            | What::Command
            | What::Chaos
            | What::Thaw
            | What::Start
            | What::Probe => {}
        }
        self.poll(index, seen);
    }

    fn poll(&mut self, index: usize, seen: &mut Seen) {
        while matches!(self.processes[index].state, State::Running) {
            let now = self.processes[index].now(self.now);
            match self.processes[index].node.poll(now) {
                Some(action) => self.act(index, action, seen),
                None => break,
            }
        }
        let target = &self.processes[index];
        if !matches!(target.state, State::Running) {
            return;
        }
        if let Some(due) = target.node.next_wakeup() {
            let wake_at = target.true_time_of(due, self.now);
            if target.wake_at.is_none_or(|earlier| wake_at < earlier) {
                assert!(wake_at > self.now, "the node asks to be woken and then does nothing");
                self.processes[index].wake_at = Some(wake_at);
                self.at(wake_at, index, What::Wake);
            }
        }
    }

    fn act(&mut self, index: usize, action: Action<u64, Effect>, seen: &mut Seen) {
        self.ticket += 1;
        let request = self.ticket;
        let timeout = self.now + REQUEST_TIMEOUT_MS;
        let target = &mut self.processes[index];
        match action {
            Action::Publish { bytes, expected_last } => {
                target.publish = Some(request);
                self.check_candidate(index, &bytes);
                self.at(timeout, index, What::Published { request, outcome: PublishOutcome::Failed });
                self.send(index, || What::Publish { request, expected_last, bytes: bytes.clone() });
            }
            Action::Read { number } => {
                target.read = Some(request);
                self.at(timeout, index, What::Found { request, outcome: ReadOutcome::Failed });
                self.send(index, || What::Read { request, number });
            }
            Action::CheckClock => {
                target.info = Some(request);
                self.at(timeout, index, What::Answered { request, info: None });
                self.send(index, || What::Info { request });
            }
            Action::Apply(committed) => {
                seen.raised += u64::from(matches!(committed.frame.body, Body::FormatRaised { .. }));
                target.memory.apply_frame(&committed.frame);
            }
            Action::Lead { epoch, resumed } => {
                self.checks.acts(epoch);
                seen.takeovers += u64::from(!resumed);
                seen.resumed += u64::from(resumed);
            }
            Action::Release(released) => {
                self.checks.released(&released);
                self.answered = self.answered.max(released.number);
                seen.released += released.effects.len() as u64;
                for effect in &released.effects {
                    let (order, _) = target.waiting.pop_front().expect("released once");
                    assert_eq!(order, effect.order, "effects leave in the order of their turns");
                    self.probe_released |= self.probe.is_some_and(|probe| effect.events.contains(&probe));
                }
            }
            Action::Deposed => {
                seen.deposed += 1;
                target.forget();
                self.begin_reading(index, seen);
            }
            Action::Stopped => {
                seen.stopped += 1;
                target.die();
                let delay = self.rng.range(1, 3_000);
                self.at(self.now + delay, index, What::Start);
            }
            Action::ClockOff { .. } => seen.clock_off += 1,
            Action::Fault(fault) => panic!("{fault}"),
        }
    }

    /// No one writes a `Started` whose wall clock is more than a minute off. Checked when it is first sent, with the
    /// time that the answer to the question may have taken.
    fn check_candidate(&mut self, index: usize, bytes: &Bytes) {
        let target = &mut self.processes[index];
        let hash = Some(FrameHash::of(bytes));
        let frame = Frame::<u64>::decode_of(bytes, FORMATS).expect("a frame");
        let started = matches!(frame.body, Body::Started { .. });
        if started && target.candidate != hash {
            target.candidate = hash;
            let off = target.clocks.wall_offset_ms.abs();
            assert!(off < 62_500, "a process leads with a wall clock that is {off} ms off");
        }
    }
}

mod actors;
mod server;
