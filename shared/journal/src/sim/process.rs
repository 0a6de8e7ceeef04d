//! One scheduler process of the simulation: a node, the memory it folds, its clocks and the requests under way.

use std::collections::VecDeque;

use crate::clock::{BootMillis, Now};
use crate::frame::{FORMAT, Formats, FrameHash};
use crate::node::{Base, Node, Settings};
use crate::testing::{Clocks, Rng};

use super::checks::{Effect, Memory};

pub(super) const LEASE_MS: u64 = 3_000;
pub(super) const MARGIN_MS: u64 = 1_000;
/// Enough for a few raises.
pub(super) const FORMATS: Formats = Formats { oldest: FORMAT, newest: FORMAT + 100 };

/// What the world holds back for a process that is frozen.
pub(super) enum State<Event> {
    Running,
    Frozen { inbox: Vec<Event> },
    Dead,
}

pub(super) struct Process<Event> {
    pub(super) node: Node<u64, Effect>,
    pub(super) state: State<Event>,
    /// Changes when the process dies or its reader begins again; what was meant for an earlier life is dropped.
    pub(super) life: u64,
    pub(super) reader: u64,
    pub(super) publish: Option<u64>,
    pub(super) read: Option<u64>,
    pub(super) info: Option<u64>,
    pub(super) wake_at: Option<u64>,
    pub(super) memory: Memory,
    /// Turns pushed and not released.
    pub(super) waiting: VecDeque<(u64, Vec<u64>)>,
    pub(super) pushed: u64,
    /// The last `Started` that was sent.
    pub(super) candidate: Option<FrameHash>,
    pub(super) clocks: Clocks,
}

impl<Event> Process<Event> {
    pub(super) fn new(rng: &mut Rng, index: usize) -> Self {
        let clocks = Clocks::new(rng);
        Self {
            node: Self::fresh_node(index, rng, clocks.read(0)),
            state: State::Running,
            life: 0,
            reader: 0,
            publish: None,
            read: None,
            info: None,
            wake_at: None,
            memory: Memory::default(),
            waiting: VecDeque::new(),
            pushed: 0,
            candidate: None,
            clocks,
        }
    }

    pub(super) fn now(&self, time: u64) -> Now {
        self.clocks.read(time)
    }

    /// True time at which the clock of this process has reached `boot`.
    pub(super) fn true_time_of(&self, boot: BootMillis, time: u64) -> u64 {
        self.clocks.true_time_of(boot, time)
    }

    pub(super) fn die(&mut self) {
        self.state = State::Dead;
        self.forget();
        self.life += 1;
        self.wake_at = None;
        (self.publish, self.read, self.info) = (None, None, None);
    }

    pub(super) fn start(&mut self, index: usize, rng: &mut Rng, time: u64) {
        self.state = State::Running;
        self.life += 1;
        self.node = Self::fresh_node(index, rng, self.now(time));
    }

    /// Goes on from a snapshot.
    pub(super) fn begin_behind(&mut self, base: Base, memory: Memory, time: u64) {
        self.node.begin_behind(self.now(time), base);
        self.memory = memory;
    }

    /// Drops the memory, and everything that was decided in it.
    pub(super) fn forget(&mut self) {
        self.memory = Memory::default();
        self.waiting.clear();
        self.reader += 1;
    }

    fn fresh_node(index: usize, rng: &mut Rng, now: Now) -> Node<u64, Effect> {
        let settings = Settings {
            instance: format!("scheduler-{index}"),
            process: uuid::Uuid::from_u128(u128::from(rng.next())),
            new_journal: Some(uuid::Uuid::from_u128(u128::from(rng.next()))),
            lease_ms: LEASE_MS,
            margin_ms: MARGIN_MS,
            formats: FORMATS,
        };
        Node::new(settings, now)
    }
}
