//! NATS: the stream of the journal, the work queues of the pools, and the signals.

use laneway_contract::*;
use laneway_journal::node::{PublishOutcome, ReadOutcome, ServerInfo};
use laneway_journal::testing::EPOCH_MS;

use super::world::{Actor, What, World};
use crate::publisher::Outgoing;

/// A dispatch that was not acknowledged comes again after this time.
const ACK_WAIT_MS: u64 = 6_000;

impl World {
    pub(super) fn serve(&mut self, what: What) {
        match what {
            What::Publish { process, life, request, expected_last, bytes } => {
                let outcome = self.store(expected_last, &bytes);
                self.send_to(Actor::Process(process), life, &What::Published { request, outcome });
            }
            What::Read { process, life, request, number } => {
                let lag = self.stale_by();
                let up = self.now >= self.down_until;
                let outcome = if up { self.stream.read(number, lag) } else { ReadOutcome::Failed };
                self.send_to(Actor::Process(process), life, &What::Found { request, outcome });
            }
            What::Info { process, life, request } => {
                let time = Timestamp::from_millis(EPOCH_MS + self.now as i64);
                let last = self.stream.last().saturating_sub(self.stale_by());
                let info = (self.now >= self.down_until).then_some(ServerInfo { time, last });
                self.send_to(Actor::Process(process), life, &What::Answered { request, info });
            }
            What::Dispatch(pool, dispatch) => {
                self.queues.entry(pool.clone()).or_default().push_back(dispatch);
                self.hand_out(&pool);
            }
            What::Acked(delivery) => drop(self.unacked.remove(&delivery)),
            What::AckWait(delivery) => {
                if let Some((pool, dispatch)) = self.unacked.remove(&delivery) {
                    self.queues.entry(pool.clone()).or_default().push_back(dispatch);
                    self.hand_out(&pool);
                }
            }
            _ => {}
        }
    }

    fn store(&mut self, expected_last: u64, bytes: &bytes::Bytes) -> PublishOutcome {
        if self.now < self.down_until {
            return PublishOutcome::Failed;
        }
        if self.troubled(3) && expected_last == self.stream.last() {
            // A server between two states, that does not take what it should.
            return PublishOutcome::WrongLast { last: expected_last };
        }
        let before = self.stream.last();
        let outcome = self.stream.publish(expected_last, bytes);
        if self.stream.last() > before {
            self.committed(bytes);
            self.stores_hear();
            for index in 0..self.processes.len() {
                let reader = self.processes[index].reader;
                let (first, last) = (before + 1, before + 1);
                self.send(Actor::Process(index), &What::Deliver { reader, first, last });
            }
        }
        outcome
    }

    /// Delivers everything behind a frame to a reader that begins again.
    pub(super) fn replay(&mut self, index: usize, behind: u64) {
        let (reader, last) = (self.processes[index].reader, self.stream.last());
        let at = self.processes[index].cut_until.max(self.now + 2);
        if last > behind {
            self.at(at, Actor::Process(index), What::Deliver { reader, first: behind + 1, last });
        }
    }

    /// Dispatches go to workers with free slots, also to one that is frozen: it has asked before.
    pub(super) fn hand_out(&mut self, pool: &PoolId) {
        loop {
            let asks = |index: &usize| self.workers[*index].asks_of(pool, self.now);
            let free: Vec<usize> = (0..self.workers.len()).filter(asks).collect();
            if free.is_empty() {
                return;
            }
            let Some(dispatch) = self.queues.get_mut(pool).and_then(std::collections::VecDeque::pop_front) else {
                return;
            };
            let worker = free[self.rng.range(0, free.len() as u64) as usize];
            let delivery = self.next_ticket();
            self.unacked.insert(delivery, (pool.clone(), dispatch.clone()));
            self.workers[worker].on_the_way += 1;
            self.at(self.now + ACK_WAIT_MS, Actor::Server, What::AckWait(delivery));
            let delay = self.rng.range(1, 4);
            self.at(self.now + delay, Actor::Worker(worker), What::Take { delivery, dispatch });
        }
    }

    /// What the publisher of a process stores.
    pub(super) fn publish(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Dispatch(pool, dispatch) => {
                self.seen.dispatches += 1;
                self.send(Actor::Server, &What::Dispatch(pool, dispatch));
            }
            Outgoing::Control(signal) => {
                for index in 0..self.workers.len() {
                    self.send(Actor::Worker(index), &What::Control(signal.clone()));
                }
            }
            Outgoing::Mend => {}
        }
    }

    pub(super) fn stale_by(&mut self) -> u64 {
        if self.troubled(200) { self.rng.range(1, 4) } else { 0 }
    }

    fn troubled(&mut self, per_mille: u64) -> bool {
        self.weather.lost > 0 && !self.calm() && self.rng.per_mille(per_mille)
    }
}
