//! Callers that send commands, and whatever freezes, kills, stops and starts processes or sets their clocks.

use super::super::checks::Effect;
use super::super::process::FORMATS;
use super::{CALM_AT, EPOCH_MS, Event, Frame, Seen, State, Timestamp, What, World};
use crate::chain::Chain;
use crate::node::Base;

impl World<'_> {
    /// A caller's command: a turn with or without events, if the process may act.
    pub(super) fn command(&mut self, index: usize, seen: &mut Seen) {
        let delay = if self.calm() { 500 } else { self.rng.range(1, 120) };
        self.at(self.now + delay, index, What::Command);
        let count = if self.rng.per_mille(300) { 0 } else { self.rng.range(1, 4) };
        self.turn(index, count, seen);
    }

    /// After a while without trouble, exactly one process leads and its turns are released.
    pub(super) fn send_probe(&mut self, index: usize, seen: &mut Seen) {
        let now = self.processes[index].now(self.now);
        if self.processes[index].node.may_answer(now) {
            assert_eq!(self.probe, None, "two processes lead");
            self.probe = Some(self.next_event);
            self.turn(index, 1, seen);
        }
    }

    fn turn(&mut self, index: usize, events: u64, seen: &mut Seen) {
        let target = &mut self.processes[index];
        let now = target.now(self.now);
        if !matches!(target.state, State::Running) {
            return;
        }
        let Some(mut turn) = target.node.begin(now) else { return };
        let takes_snapshot = self.profile.snapshots && events > 0 && self.rng.per_mille(30);
        let first = self.next_event;
        self.next_event += events;
        let events: Vec<_> = (first..self.next_event).collect();
        self.checks.decided(&events, target.node.format());
        turn.add(&events).expect("a small turn");
        for &event in &events {
            target.memory.apply(event);
        }
        if takes_snapshot {
            turn.mark_snapshot();
            self.checks.takes_snapshot(events[0], target.node.position().number);
        }
        target.pushed += 1;
        target.waiting.push_back((target.pushed, events.clone()));
        let effect = Effect { order: target.pushed, events, memory: target.memory, after: self.answered };
        target.node.push(turn, effect).expect("begun under this leadership");
        self.poll(index, seen);
    }

    /// Something goes wrong with a process, or with the server.
    pub(super) fn chaos(&mut self, index: usize) {
        if self.calm() {
            self.calm_down(index);
            return;
        }
        let next = self.now + self.rng.range(200, 4_000);
        self.at(next.min(CALM_AT), index, What::Chaos);
        if self.profile.outages && self.rng.per_mille(100) {
            self.down_until = self.now + self.rng.range(100, 9_000);
        }
        if self.profile.clock_steps && self.rng.per_mille(300) {
            let span = [2_000, 30_000, 30_000, 600_000][self.rng.range(0, 4) as usize];
            self.processes[index].clocks.wall_offset_ms = self.rng.signed(span);
        }
        if self.profile.clocks_behind && self.now > 5_000 {
            self.processes[index].clocks.wall_offset_ms = -50_000;
        }
        if !matches!(self.processes[index].state, State::Running) {
            return;
        }
        if self.profile.pauses && self.rng.per_mille(250) {
            self.processes[index].state = State::Frozen { inbox: Vec::new() };
            let frozen = self.rng.range(100, 10_000);
            self.at(self.now + frozen, index, What::Thaw);
        } else if self.profile.kills && self.rng.per_mille(150) {
            self.processes[index].die();
            let dead = self.rng.range(1, 8_000);
            self.at(self.now + dead, index, What::Start);
        } else if self.profile.stops && self.rng.per_mille(150) {
            self.processes[index].node.stop();
            self.at(self.now, index, What::Wake);
        } else if self.profile.raises && self.rng.per_mille(150) {
            let target = &mut self.processes[index];
            target.node.raise_format(target.node.format() + 1);
            self.at(self.now, index, What::Wake);
        } else if self.profile.abandons && self.rng.per_mille(100) {
            let now = self.processes[index].now(self.now);
            self.processes[index].node.abandon(now);
            self.at(self.now, index, What::Wake);
        }
    }

    fn calm_down(&mut self, index: usize) {
        self.processes[index].clocks.wall_offset_ms = self.rng.signed(2_000);
        if matches!(self.processes[index].state, State::Frozen { .. }) {
            self.at(self.now, index, What::Thaw);
        }
    }

    /// A frozen process goes on. What came meanwhile reaches it in any order: timers may be seen before sockets.
    pub(super) fn thaw(&mut self, index: usize, seen: &mut Seen) {
        let target = &mut self.processes[index];
        if !matches!(target.state, State::Frozen { .. }) {
            return;
        }
        if let State::Frozen { mut inbox } = std::mem::replace(&mut target.state, State::Running) {
            target.wake_at = None;
            while !inbox.is_empty() {
                let Event { what, .. } = inbox.swap_remove(self.rng.range(0, inbox.len() as u64) as usize);
                if matches!(self.processes[index].state, State::Running) {
                    self.receive(index, what, seen);
                }
            }
        }
        self.poll(index, seen);
    }

    pub(super) fn start(&mut self, index: usize, seen: &mut Seen) {
        if matches!(self.processes[index].state, State::Dead) {
            self.processes[index].start(index, &mut self.rng, self.now);
            self.begin_reading(index, seen);
            self.poll(index, seen);
        }
    }

    /// A process reads the journal: behind the snapshot that the last frame names, as far as the server shows it, or all.
    pub(super) fn begin_reading(&mut self, index: usize, seen: &mut Seen) {
        let last = self.last_shown();
        let read = |bytes| Frame::<u64>::decode_of(bytes, FORMATS).expect("a frame");
        let named = self.stream.get(last).map(|bytes| read(bytes).snapshot);
        let named = named.filter(|_| self.profile.snapshots).and_then(|number| self.stream.get(number));
        let behind = named.map_or(0, |bytes| {
            let (number, memory) = self.checks.snapshot_named_by(&read(bytes));
            let bytes = self.stream.get(number).expect("a frame");
            let chain = Chain::behind::<u64>(number, bytes, FORMATS).expect("the right frame");
            self.processes[index].begin_behind(Base(chain), memory, self.now);
            seen.from_snapshots += 1;
            number
        });
        self.replay(index, behind);
    }

    /// What holds when it has been calm for a while: someone leads, nothing handed over was forgotten, everyone has read
    /// everything, and journal time is near the wall clock.
    pub(super) fn finish(self) {
        assert!(self.probe.is_some(), "nobody leads in the calm");
        assert!(self.probe_released, "the leader's turn was not released");
        for target in &self.processes {
            let behind = self.stream.last() - target.node.position().number;
            assert!(behind <= 1, "a process is {behind} frames behind in the calm");
            for (_, events) in &target.waiting {
                let stored = events.iter().any(|&event| self.checks.is_stored(event));
                assert!(!stored || behind == 1, "a turn is in the journal and its effects never left");
            }
            let wall = Timestamp::from_millis(EPOCH_MS + self.now as i64 + target.clocks.wall_offset_ms);
            let late = wall.millis_since(self.checks.time());
            assert!(late <= 15_000, "journal time is {late} ms behind the wall clock");
        }
    }
}
