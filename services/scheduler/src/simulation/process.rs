//! A scheduler process: the core over a node of the journal, the requests under way, and its clocks.

use std::sync::{Arc, LazyLock};

use laneway_contract::*;
use laneway_journal::clock::Now;
use laneway_journal::node::{self, Node};
use laneway_journal::testing::{Clocks, Rng};
use laneway_journal::{Formats, NotLeading, Position, TurnDraft};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::api::{Handler, Request};
use super::stores::Reads;
use super::world::{Address, What};
use crate::desk::{Desk, Order};
use crate::leader::core::{Core, Effects, Log, Settings};
use crate::publisher::Outgoing;

pub(super) static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| Arc::new(Catalog::built_in().unwrap()));

/// Frames between two digests: often, so that a short history has some.
const DIGEST_EVERY_FRAMES: u64 = 25;
/// Longer than a lease, how long a standby waits.
const MARGIN_MS: u64 = 1_000;

/// A node and the time at which it is asked.
pub(super) struct SimLog {
    pub(super) node: Node<Event, Effects>,
    pub(super) now: Now,
}

impl Log for SimLog {
    fn begin(&mut self) -> Option<TurnDraft<Event>> {
        self.node.begin(self.now)
    }

    fn push(&mut self, turn: TurnDraft<Event>, effects: Effects) -> Result<(), NotLeading> {
        self.node.push(turn, effects)
    }

    fn now(&mut self) -> Timestamp {
        self.node.time(self.now)
    }

    fn may_answer(&mut self) -> bool {
        self.node.may_answer(self.now)
    }

    fn position(&self) -> Position {
        self.node.position()
    }

    fn backlog(&self) -> usize {
        self.node.backlog()
    }

    fn abandon(&mut self) {
        self.node.abandon(self.now);
    }
}

/// What the world holds back for whoever is frozen.
pub(super) enum Life {
    Running,
    Frozen(Vec<What>),
    Dead,
}

/// Where requests come in while the process leads.
pub(super) struct Reception {
    pub(super) desk: Desk,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Whether new requests arrive.
    pub(super) open: bool,
}

/// A request that is being answered.
pub(super) struct Task {
    pub(super) from: Address,
    pub(super) request: Request,
    pub(super) handler: Handler,
}

/// One scheduler process.
pub(super) struct Process {
    pub(super) core: Core<SimLog>,
    pub(super) life: Life,
    /// Changes with each life; what was meant for an earlier one is dropped.
    pub(super) lives: u64,
    /// The process as its `Started` frames name it.
    pub(super) id: Uuid,
    pub(super) clocks: Clocks,
    pub(super) reader: u64,
    pub(super) publish: Option<u64>,
    pub(super) read: Option<u64>,
    pub(super) info: Option<u64>,
    pub(super) wake_at: Option<u64>,
    pub(super) reception: Option<Reception>,
    pub(super) tasks: Vec<Task>,
    pub(super) reads: Reads,
    /// The limits of its configuration, and how much it may hold in memory.
    settings: (Limits, MemoryLimits),
    /// Dispatches and signals that have left the core and not the process.
    pub(super) outbox: Vec<Outgoing>,
    /// A stop was requested.
    pub(super) stopping: bool,
    /// Until then its cable is out.
    pub(super) cut_until: u64,
}

impl Process {
    pub(super) fn new(index: usize, rng: &mut Rng, settings: (Limits, MemoryLimits), time: u64) -> Self {
        let clocks = Clocks::new(rng);
        let (core, id) = fresh(index, rng, &settings, clocks.read(time));
        Self {
            core,
            life: Life::Running,
            lives: 0,
            id,
            clocks,
            reader: 0,
            publish: None,
            read: None,
            info: None,
            wake_at: None,
            reception: None,
            tasks: Vec::new(),
            reads: Reads::default(),
            settings,
            outbox: Vec::new(),
            stopping: false,
            cut_until: 0,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running)
    }

    /// Whether requests to the leader reach this process, frozen or not.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.life, Life::Dead) && self.reception.as_ref().is_some_and(|reception| reception.open)
    }

    pub(super) fn die(&mut self) {
        self.life = Life::Dead;
        self.lives += 1;
        self.reader += 1;
        (self.publish, self.read, self.info, self.wake_at) = (None, None, None, None);
        self.reception = None;
        self.tasks.clear();
        self.reads = Reads::default();
        self.outbox.clear();
        self.stopping = false;
    }

    pub(super) fn start(&mut self, index: usize, rng: &mut Rng, time: u64) {
        (self.core, self.id) = fresh(index, rng, &self.settings, self.clocks.read(time));
        self.life = Life::Running;
        self.lives += 1;
        self.reader += 1;
    }
}

fn fresh(index: usize, rng: &mut Rng, (limits, memory): &(Limits, MemoryLimits), now: Now) -> (Core<SimLog>, Uuid) {
    let mut id = || Uuid::from_u64_pair(rng.next(), rng.next());
    let (process, journal, key) = (id(), id(), id());
    let settings = node::Settings {
        instance: format!("scheduler-{index}"),
        process,
        new_journal: Some(journal),
        lease_ms: LEADER_LEASE_MS,
        margin_ms: MARGIN_MS,
        formats: Formats::default(),
    };
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(key.as_bytes());
    let settings_of_core = Settings {
        limits: Some(limits.clone()),
        memory: *memory,
        new_hash_key: HashKey::from_bytes(bytes),
        digest_every_frames: DIGEST_EVERY_FRAMES,
    };
    (Core::new(SimLog { node: Node::new(settings, now), now }, settings_of_core), process)
}
