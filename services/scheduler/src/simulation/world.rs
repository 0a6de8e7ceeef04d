//! Virtual time, the network, and who is there.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use laneway_contract::*;
use laneway_engine::Question;
use laneway_journal::node::{PublishOutcome, ReadOutcome, ServerInfo};
use laneway_journal::testing::{Rng, Stream};
use uuid::Uuid;

use super::api::{Answer, Request};
use super::calls::Calls;
use super::client::Client;
use super::facts::Facts;
use super::process::{Life, Process};
use super::seen::Seen;
use super::snapshots::Objects;
use super::stores::Store;
use super::weather::Weather;
use super::worker::Worker;

/// How long a simulation goes on after the calm has come, at most.
const CALM_MS: u64 = 500_000;
/// A request to the server is given up after this time.
pub(super) const REQUEST_TIMEOUT_MS: u64 = 1_000;
/// A request to the leader that nobody answers is given up after this time.
pub(super) const REPLY_TIMEOUT_MS: u64 = 2_000;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Process(usize),
    Worker(usize),
    Store(usize),
    Client,
    Server,
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) actor: Actor,
    pub(super) life: u64,
    pub(super) ticket: u64,
}

/// What happens.
#[derive(Clone)]
pub(super) enum What {
    // To the server.
    Publish {
        process: usize,
        life: u64,
        request: u64,
        expected_last: u64,
        bytes: Bytes,
    },
    Read {
        process: usize,
        life: u64,
        request: u64,
        number: u64,
    },
    Info {
        process: usize,
        life: u64,
        request: u64,
    },
    Dispatch(PoolId, DispatchMessage),
    Acked(u64),
    AckWait(u64),
    // To a store replica.
    Apply,
    Ask {
        from: Address,
        question: Question,
        min_seq: u64,
    },
    // To a process.
    Said {
        ticket: u64,
        said: Box<StoreSaid>,
    },
    Wake,
    Published {
        request: u64,
        outcome: PublishOutcome,
    },
    Found {
        request: u64,
        outcome: ReadOutcome,
    },
    Answered {
        request: u64,
        info: Option<ServerInfo>,
    },
    Deliver {
        reader: u64,
        first: u64,
        last: u64,
    },
    Request {
        from: Address,
        request: Box<Request>,
    },
    Announced(Announcement),
    Reconnect,
    /// A snapshot that it has begun is stored.
    Snapshot(SnapshotTaken),
    // To a worker, client or process.
    Reply {
        ticket: u64,
        epoch: Epoch,
        outcome: Box<Answer>,
    },
    NoReply {
        ticket: u64,
    },
    Take {
        delivery: u64,
        dispatch: DispatchMessage,
    },
    Control(ControlMessage),
    Announce,
    /// A run kills its worker.
    Killed,
    // What befalls them.
    Chaos,
    Thaw,
    Start,
    /// The client does something, or looks whether it is quiet.
    Act,
    Care,
}

struct Event {
    actor: Actor,
    life: u64,
    /// It comes through a cable.
    sent: bool,
    what: What,
}

/// One seed.
pub(super) struct World {
    pub(super) weather: Weather,
    pub(super) rng: Rng,
    pub(super) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    ticket: u64,
    ids: u64,
    pub(super) stream: Stream,
    pub(super) down_until: u64,
    /// Whose turn it is: what is sent comes from there.
    acting: Actor,
    pub(super) processes: Vec<Process>,
    pub(super) workers: Vec<Worker>,
    pub(super) stores: Vec<Store>,
    pub(super) objects: Objects,
    pub(super) client: Client,
    /// Dispatches that nobody has taken, by pool.
    pub(super) queues: BTreeMap<PoolId, VecDeque<DispatchMessage>>,
    /// Dispatches that a worker has and has not acknowledged.
    pub(super) unacked: BTreeMap<u64, (PoolId, DispatchMessage)>,
    pub(super) facts: Facts,
    pub(super) calls: Calls,
    pub(super) seen: Seen,
    pub(super) quiet_since: Option<u64>,
    /// Runs that could have started, and how often that was seen.
    pub(super) idle: BTreeMap<RunId, u32>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let weather = Weather::of(&mut rng);
        let processes = 2 + rng.range(0, 2) as usize;
        let settings = || (weather.limits.clone(), weather.memory);
        let processes = (0..processes).map(|index| Process::new(index, &mut rng, settings(), 0)).collect();
        let workers = 2 + rng.range(0, 2) as usize;
        let workers = (0..workers).map(|index| Worker::new(index, &mut rng)).collect();
        let stores = 1 + rng.range(0, 2) as usize;
        let stores = (0..stores).map(|_| Store::new(&mut rng)).collect();
        let stream = Stream::new(rng.per_mille(500));
        Self {
            weather,
            rng,
            now: 0,
            events: BTreeMap::new(),
            ticket: 0,
            ids: 0,
            stream,
            down_until: 0,
            acting: Actor::Server,
            processes,
            workers,
            stores,
            objects: Objects::default(),
            client: Client::default(),
            queues: BTreeMap::new(),
            unacked: BTreeMap::new(),
            facts: Facts::default(),
            calls: Calls::default(),
            seen: Seen::default(),
            quiet_since: None,
            idle: BTreeMap::new(),
        }
    }

    /// Plays the seed to its end. A broken rule panics.
    pub(super) fn run(mut self) -> Seen {
        for process in 0..self.processes.len() {
            self.at(process as u64, Actor::Process(process), What::Wake);
            self.at(500, Actor::Process(process), What::Chaos);
        }
        for worker in 0..self.workers.len() {
            self.at(10, Actor::Worker(worker), What::Announce);
            self.at(700, Actor::Worker(worker), What::Chaos);
        }
        for store in 0..self.stores.len() {
            self.at(600, Actor::Store(store), What::Chaos);
        }
        self.at(50, Actor::Client, What::Act);
        self.at(self.weather.calm_at, Actor::Client, What::Care);
        while let Some(((time, _), event)) = self.events.pop_first() {
            self.now = time;
            assert!(time < self.weather.calm_at + CALM_MS, "it never gets quiet: {}", self.restless());
            self.handle(event);
            if self.is_over() {
                break;
            }
        }
        self.finish()
    }

    pub(super) fn calm(&self) -> bool {
        self.now >= self.weather.calm_at
    }

    pub(super) fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// An id that no other is.
    pub(super) fn uuid(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u64_pair(self.rng.next(), self.ids)
    }

    /// Whether something is lost because a cable is out: nothing comes, and nothing that is sent arrives.
    fn is_cut(&mut self, actor: Actor) -> bool {
        let cut_until = match actor {
            Actor::Process(index) => self.processes[index].cut_until,
            Actor::Worker(index) => self.workers[index].cut_until,
            Actor::Client | Actor::Server | Actor::Store(_) => 0,
        };
        let cut = self.now < cut_until;
        self.seen.cut_off += u64::from(cut);
        cut
    }

    pub(super) fn life_of(&self, actor: Actor) -> u64 {
        match actor {
            Actor::Process(index) => self.processes[index].lives,
            Actor::Worker(index) => self.workers[index].lives,
            Actor::Client | Actor::Server | Actor::Store(_) => 0,
        }
    }

    pub(super) fn at(&mut self, time: u64, actor: Actor, what: What) {
        let life = self.life_of(actor);
        self.schedule(time, Event { actor, life, sent: false, what });
    }

    fn schedule(&mut self, time: u64, event: Event) {
        self.ticket += 1;
        // What happens at the same moment happens in any order.
        let order = self.rng.next() << 32 | self.ticket & 0xffff_ffff;
        self.events.insert((time.max(self.now), order), event);
    }

    /// Sends over the network: usually soon, sometimes late, twice, or never.
    pub(super) fn send(&mut self, actor: Actor, what: &What) {
        let life = self.life_of(actor);
        self.send_to(actor, life, what);
    }

    pub(super) fn send_to(&mut self, actor: Actor, life: u64, what: &What) {
        let bad = !self.calm();
        if self.is_cut(self.acting) || bad && self.rng.per_mille(self.weather.lost) {
            return;
        }
        let copies = if bad && self.rng.per_mille(self.weather.repeated) { 2 } else { 1 };
        for _ in 0..copies {
            let late = bad && self.rng.per_mille(self.weather.late);
            let delay = if late { self.rng.range(5, self.weather.latest_ms) } else { self.rng.range(1, 4) };
            self.schedule(self.now + delay, Event { actor, life, sent: true, what: what.clone() });
        }
    }

    /// Asks the leader, whoever has its endpoints open: a copy goes to the queue group of each epoch.
    pub(super) fn ask(&mut self, actor: Actor, request: Request) -> u64 {
        let ticket = self.next_ticket();
        let from = Address { actor, life: self.life_of(actor), ticket };
        let open: Vec<usize> = (0..self.processes.len()).filter(|index| self.processes[*index].is_open()).collect();
        let patience = if open.is_empty() || self.now < self.down_until {
            self.rng.range(50, 250)
        } else {
            let what = What::Request { from, request: Box::new(request) };
            for index in open {
                self.send(Actor::Process(index), &what);
            }
            REPLY_TIMEOUT_MS
        };
        self.at(self.now + patience, actor, What::NoReply { ticket });
        ticket
    }

    fn handle(&mut self, event: Event) {
        let Event { actor, life, sent, what } = event;
        if sent && self.is_cut(actor) {
            return;
        }
        self.acting = actor;
        match (actor, what) {
            (Actor::Server, what) => self.serve(what),
            (Actor::Client, what) => self.client_does(what),
            (Actor::Store(index), what) => self.store_does(index, what),
            // What befalls an actor does so whatever it is doing.
            (actor, What::Chaos) => self.chaos(actor),
            (actor, What::Thaw) => self.thaw(actor),
            (actor, What::Start) => self.start(actor),
            (actor, what) if self.life_of(actor) == life => {
                let state = match actor {
                    Actor::Process(index) => &mut self.processes[index].life,
                    Actor::Worker(index) => &mut self.workers[index].life,
                    Actor::Client | Actor::Server | Actor::Store(_) => return,
                };
                match state {
                    Life::Running => self.receive(actor, what),
                    Life::Frozen(inbox) => inbox.push(what),
                    Life::Dead => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn receive(&mut self, actor: Actor, what: What) {
        match actor {
            Actor::Process(index) => self.process_receives(index, what),
            Actor::Worker(index) => self.worker_receives(index, what),
            Actor::Client | Actor::Server | Actor::Store(_) => {}
        }
    }
}
