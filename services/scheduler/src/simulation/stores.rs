//! Store replicas: each folds the stored frames at its own pace, and says what there is of a session as of the frame that it
//! has applied. A scheduler asks them through the real reader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use laneway_contract::*;
use laneway_engine::Question;
use laneway_journal::Body;
use laneway_journal::testing::{Reader, Rng};
use tokio::sync::oneshot;

use super::world::{Actor, Address, What, World};
use crate::reader::Stores;

/// A question that nobody answers is asked again after this time.
const REPLY_MS: u64 = 2_000;
/// Such a question is given up after this time.
const PATIENCE_MS: u64 = 5_000;
/// A handler that was told so has answered after this time, also when its process was frozen.
const TOLD_MS: u64 = 20_000;

/// One replica.
pub(super) struct Store {
    reader: Reader,
    /// Evictions that it has applied.
    evictions: u64,
    sessions: BTreeMap<SessionId, (SessionCreation, Option<EvictedSession>)>,
    keys: BTreeMap<(SessionId, String), KeyAnswer>,
    /// Questions that wait for a frame.
    waiting: Vec<(u64, Address, Question)>,
    /// It applies what is there a little later.
    applies: bool,
    /// The longest that it waits with that, in milliseconds.
    lag_ms: u64,
    pub(super) away_until: u64,
}

impl Store {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            reader: Reader::default(),
            evictions: 0,
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            waiting: Vec::new(),
            applies: false,
            lag_ms: [20, 300, 3_000][rng.range(0, 3) as usize],
            away_until: 0,
        }
    }

    /// What it says of a session.
    pub(super) fn says(&self, question: &Question) -> StoreSaid {
        let Question { session_id, key } = question.clone();
        let session = match self.sessions.get(&session_id) {
            None => SessionSaid::Absent,
            Some((_, None)) => SessionSaid::Held,
            Some((creation, Some(record))) => {
                let (creation, record) = (creation.clone(), record.clone());
                SessionSaid::Evicted(Box::new(StoredSession { creation, record }))
            }
        };
        let taken = |key| self.keys.get(&(session_id, key)).map_or(KeySaid::Absent, |answer| KeySaid::Taken(*answer));
        StoreSaid { session_id, read_at: self.evictions, session, key: key.map_or(KeySaid::NotAsked, taken) }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::SessionCreated { session, .. } => {
                self.sessions.insert(session.session_id, ((**session).clone(), None));
            }
            Event::SessionLoaded { session, .. } => self.sessions.get_mut(&session.session_id).unwrap().1 = None,
            Event::SessionsEvicted { number, sessions } => {
                self.evictions = *number;
                for session in sessions {
                    self.sessions.get_mut(&session.session_id).unwrap().1 = Some(session.clone());
                }
            }
            Event::KeysEvicted { number, .. } => self.evictions = *number,
            Event::AppendKeyTaken { session_id, key, fingerprint, first_seq, last_seq } => {
                let (fingerprint, first_seq, last_seq) = (*fingerprint, *first_seq, *last_seq);
                self.keys.insert((*session_id, key.clone()), KeyAnswer { fingerprint, first_seq, last_seq });
            }
            _ => {}
        }
    }
}

/// Tells a reader what a replica has said.
type Tell = oneshot::Sender<Result<StoreSaid, ApiError>>;

/// A question of a process.
struct Asking {
    question: Question,
    min_seq: u64,
    since: u64,
    tell: Tell,
}

/// What the reader of a process has asked and begun, and the world has not seen yet.
#[derive(Default)]
struct Left {
    questions: Vec<(Question, u64, Tell)>,
    reads: Vec<BoxFuture<'static, ()>>,
}

/// The way of a reader to the stores.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Left>>);

impl Line {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap()
    }
}

impl Stores for Line {
    fn ask(&self, question: Question, min_seq: u64) -> BoxFuture<'_, Result<StoreSaid, ApiError>> {
        let (tell, told) = oneshot::channel();
        self.left().questions.push((question, min_seq, tell));
        Box::pin(async move { told.await.expect("who asks does not outlive its question") })
    }

    fn spawn(&self, read: BoxFuture<'static, ()>) {
        self.left().reads.push(read);
    }
}

/// Reads of a process that are under way. They die with it.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) line: Line,
    under_way: Vec<BoxFuture<'static, ()>>,
    asked: BTreeMap<u64, Asking>,
    /// When a question was given up last.
    gave_up_at: Option<u64>,
}

impl World {
    /// A frame was stored: the replicas come to it in their time.
    pub(super) fn stores_hear(&mut self) {
        for index in 0..self.stores.len() {
            if !std::mem::replace(&mut self.stores[index].applies, true) {
                let lag = if self.calm() { 20 } else { self.stores[index].lag_ms };
                let at = self.now + self.rng.range(1, lag);
                self.at(at, Actor::Store(index), What::Apply);
            }
        }
    }

    pub(super) fn store_does(&mut self, index: usize, what: What) {
        let back = self.stores[index].away_until;
        match what {
            What::Chaos => self.befalls_store(index),
            What::Apply if self.now < back => self.at(back, Actor::Store(index), What::Apply),
            What::Apply => self.store_applies(index),
            What::Ask { from, question, min_seq } if self.now >= back => {
                if self.stores[index].reader.last() >= min_seq {
                    self.store_answers(index, from, &question);
                } else {
                    self.stores[index].waiting.push((min_seq, from, question));
                }
            }
            _ => {}
        }
    }

    fn befalls_store(&mut self, index: usize) {
        if self.calm() {
            return;
        }
        let next = self.now + self.rng.range(300, 6_000);
        self.at(next.min(self.weather.calm_at), Actor::Store(index), What::Chaos);
        if self.weather.stores_away && self.rng.per_mille(150) {
            let store = &mut self.stores[index];
            store.away_until = (self.now + self.rng.range(100, 12_000)).min(self.weather.calm_at);
            store.waiting.clear();
        }
    }

    /// Applies some or all of what is there.
    fn store_applies(&mut self, index: usize) {
        let (store, last) = (&mut self.stores[index], self.stream.last());
        let up_to = self.rng.range(store.reader.last(), last + 1);
        let up_to = if self.rng.per_mille(500) { last } else { up_to };
        while store.reader.last() < up_to {
            let next = store.reader.last() + 1;
            let committed = store.reader.read::<Event>(self.stream.get(next).unwrap()).unwrap();
            let Body::Turns(turns) = &committed.frame.body else { continue };
            turns.iter().flat_map(|turn| &turn.events).for_each(|event| store.apply(event));
        }
        store.applies = false;
        let waiting = std::mem::take(&mut store.waiting);
        for (min_seq, from, question) in waiting {
            if min_seq <= up_to {
                self.store_answers(index, from, &question);
            } else {
                self.stores[index].waiting.push((min_seq, from, question));
            }
        }
        if up_to < last {
            self.stores_hear();
        }
    }

    fn store_answers(&mut self, index: usize, from: Address, question: &Question) {
        let said = Box::new(self.stores[index].says(question));
        self.send_to(from.actor, from.life, &What::Said { ticket: from.ticket, said });
    }

    /// Carries questions of a process to replicas, and its reads on. True when something happened.
    pub(super) fn goes_on_reading(&mut self, index: usize) -> bool {
        let now = self.now;
        let Left { questions, reads: begun } = std::mem::take(&mut *self.processes[index].reads.line.left());
        let mut went_on = !questions.is_empty() || !begun.is_empty();
        for (question, min_seq, tell) in questions {
            self.asks_a_store(index, Asking { question, min_seq, since: now, tell });
        }
        self.seen.put_aside += begun.len() as u64;
        let reads = &mut self.processes[index].reads.under_way;
        reads.extend(begun);
        let mut context = Context::from_waker(std::task::Waker::noop());
        reads.retain_mut(|read| {
            let goes_on = read.as_mut().poll(&mut context) == Poll::Pending;
            went_on |= !goes_on;
            goes_on
        });
        went_on
    }

    fn asks_a_store(&mut self, index: usize, asking: Asking) {
        let (me, ticket) = (Actor::Process(index), self.next_ticket());
        let from = Address { actor: me, life: self.processes[index].lives, ticket };
        let store = self.rng.range(0, self.stores.len() as u64) as usize;
        let (question, min_seq) = (asking.question.clone(), asking.min_seq);
        self.send(Actor::Store(store), &What::Ask { from, question, min_seq });
        self.at(self.now + REPLY_MS, me, What::NoReply { ticket });
        self.processes[index].reads.asked.insert(ticket, asking);
    }

    pub(super) fn store_said(&mut self, index: usize, ticket: u64, said: StoreSaid) {
        if let Some(asking) = self.processes[index].reads.asked.remove(&ticket) {
            drop(asking.tell.send(Ok(said)));
        }
    }

    /// No replica has answered in time.
    pub(super) fn store_is_silent(&mut self, index: usize, ticket: u64) {
        let reads = &mut self.processes[index].reads;
        let Some(asking) = reads.asked.remove(&ticket) else { return };
        if self.now - asking.since < PATIENCE_MS {
            return self.asks_a_store(index, asking);
        }
        reads.gave_up_at = Some(self.now);
        drop(asking.tell.send(Err(ApiError::new(ErrorCode::Unavailable, "no store replica answers"))));
    }

    /// Nobody is told that something is unavailable while a replica answers, but where each answer came when more had been
    /// given up, as from a replica that lags, or where several orders share room for a few sessions. In the calm each answers.
    pub(super) fn stores_were_silent(&self, index: usize, error: &ApiError) {
        if self.weather.memory.sessions <= 10 && error.message.contains("given up again each time") {
            return;
        }
        let over = self.weather.calm_at + 2 * PATIENCE_MS;
        assert!(self.now < over, "in the calm: {error}");
        let gave_up = self.processes[index].reads.gave_up_at;
        let silent = gave_up.is_some_and(|at| self.now - at <= TOLD_MS);
        assert!(silent, "a store replica answers, and: {error}");
    }
}
