//! What the task of a scheduler does, one step at a time: between any two it may die or freeze.

use std::task::{Context, Poll};

use laneway_bus::Refusal;
use laneway_contract::Event;
use laneway_journal::node::Action;

use super::api::{Answer, Request, handle};
use super::facts::dispatches_are_sent_again;
use super::process::{CATALOG, Life, Process, Reception, Task};
use super::world::{Actor, Address, REQUEST_TIMEOUT_MS, What, World};
use crate::SchedulerError;
use crate::desk::Desk;
use crate::edge::Edge;
use crate::leader::core::{Begun, Effects};

/// More steps than anything takes at one moment.
const MAX_STEPS: usize = 20_000;
/// Orders that are taken in one go.
const ORDERS_AT_A_TIME: usize = 8;

impl World {
    pub(super) fn process_receives(&mut self, index: usize, what: What) {
        match what {
            What::Said { ticket, said } => self.store_said(index, ticket, *said),
            What::NoReply { ticket } => self.store_is_silent(index, ticket),
            what => self.process_hears(index, what),
        }
        self.go_on(index);
    }

    fn process_hears(&mut self, index: usize, what: What) {
        let process = &mut self.processes[index];
        let now = process.clocks.read(self.now);
        process.core.journal.now = now;
        let node = &mut process.core.journal.node;
        match what {
            What::Published { request, outcome } if process.publish == Some(request) => {
                process.publish = None;
                node.on_published(now, &outcome);
            }
            What::Found { request, outcome } if process.read == Some(request) => {
                process.read = None;
                node.on_read(now, outcome);
            }
            What::Answered { request, info } if process.info == Some(request) => {
                process.info = None;
                node.on_server_info(now, info);
            }
            What::Deliver { reader, first, last } if process.reader == reader => {
                for number in first..=last {
                    node.on_frame(now, number, self.stream.get(number).unwrap());
                }
            }
            What::Request { from, request } => {
                if let Some(reception) = process.reception.as_ref().filter(|reception| reception.open) {
                    let handler = handle(reception.desk.clone(), (*request).clone());
                    process.tasks.push(Task { from, request: *request, handler });
                }
            }
            What::Announced(announcement) => process.core.heard(announcement),
            What::Reconnect => process.core.reconnected(|message| process.outbox.push(message)),
            What::Snapshot(taken) if process.core.leads() => {
                process.core.journal_snapshot(taken, |_| Box::new(|_| ()));
            }
            What::Wake => process.wake_at = None,
            _ => {}
        }
    }

    /// Steps until there is nothing to do.
    pub(super) fn go_on(&mut self, index: usize) {
        for step in 0.. {
            assert!(step < MAX_STEPS, "a scheduler never comes to rest");
            if !self.processes[index].is_running() || self.trips(index) {
                return;
            }
            if !self.step(index) {
                break;
            }
        }
        self.set_alarm(index);
    }

    fn set_alarm(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let pause = process.core.pause().as_millis() as u64;
        let of_node = process.core.journal.node.next_wakeup().map(|due| process.clocks.true_time_of(due, self.now));
        let wake_at = of_node.unwrap_or(u64::MAX).min(self.now + pause).max(self.now + 1);
        if process.wake_at.is_none_or(|earlier| wake_at < earlier || earlier <= self.now) {
            process.wake_at = Some(wake_at);
            self.at(wake_at, Actor::Process(index), What::Wake);
        }
    }

    /// One step of the task. False when it would wait.
    fn step(&mut self, index: usize) -> bool {
        let process = &mut self.processes[index];
        let now = process.clocks.read(self.now);
        process.core.journal.now = now;
        if process.core.journal.node.may_answer(now) && !self.act(index) {
            return false;
        }
        let process = &mut self.processes[index];
        if let Some(action) = process.core.journal.node.poll(now) {
            self.progressed(index, action);
            return true;
        }
        if !process.outbox.is_empty() {
            let message = process.outbox.remove(0);
            self.publish(message);
            return true;
        }
        if self.take_orders(index) {
            return true;
        }
        if self.goes_on_reading(index) || self.answer(index) {
            return true;
        }
        let process = &mut self.processes[index];
        if process.stopping && process.tasks.is_empty() {
            process.core.journal.node.stop();
            process.stopping = false;
            return true;
        }
        process.core.pause().is_zero()
    }

    /// What the task does before it waits. False when it has ended.
    fn act(&mut self, index: usize) -> bool {
        let process = &mut self.processes[index];
        let mut sent = Vec::new();
        if let Some(Begun { epoch, anew }) = process.core.take_office(|message| sent.push(message)) {
            if anew {
                dispatches_are_sent_again(process.core.state(), &sent);
                let key = process.core.state().hash_key().unwrap().clone();
                let (desk, orders) = Desk::new(Edge::new(key, CATALOG.clone()), Box::new(process.reads.line.clone()));
                process.reception = Some(Reception { desk, orders, open: true });
            }
            self.facts.acts(epoch, process.id);
        }
        process.outbox.extend(sent);
        let at = process.core.journal.node.time(process.core.journal.now);
        self.facts.ledger.looks(process.id, at, &process.core.hints().workers);
        match process.core.act() {
            Ok(()) => true,
            Err(SchedulerError::Panicked) => {
                self.falls(Actor::Process(index));
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn take_orders(&mut self, index: usize) -> bool {
        let Process { core, reception, .. } = &mut self.processes[index];
        let Some(reception) = reception else { return false };
        if !core.has_room() {
            return false;
        }
        let orders: Vec<_> = std::iter::from_fn(|| reception.orders.try_recv().ok()).take(ORDERS_AT_A_TIME).collect();
        let some = !orders.is_empty();
        core.take(orders);
        some
    }

    /// Lets handlers go on; the first that is ready answers. True when one was.
    fn answer(&mut self, index: usize) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let tasks = &mut self.processes[index].tasks;
        for place in 0..tasks.len() {
            let Poll::Ready(outcome) = tasks[place].handler.as_mut().poll(&mut context) else { continue };
            let Task { from, request, .. } = tasks.remove(place);
            self.reply(index, from, &request, outcome);
            return true;
        }
        // One that was polled may have left an order.
        self.processes[index].reception.as_ref().is_some_and(|reception| !reception.orders.is_empty())
            && self.take_orders(index)
    }

    /// A reply leaves, if the gate lets it.
    fn reply(&mut self, index: usize, from: Address, request: &Request, outcome: Answer) {
        let process = &self.processes[index];
        let node = &process.core.journal.node;
        let now = process.clocks.read(self.now).boot;
        let epoch = node.answers_until().filter(|until| now < *until).map(|_| node.epoch());
        let (Some(epoch), false) = (epoch, matches!(outcome, Err(Refusal::Silent))) else {
            self.seen.silent += 1;
            return;
        };
        self.facts.acts(epoch, process.id);
        self.check_reply(index, request, &outcome);
        self.send_to(from.actor, from.life, &What::Reply { ticket: from.ticket, epoch, outcome: Box::new(outcome) });
    }

    fn progressed(&mut self, index: usize, action: Action<Event, Effects>) {
        let request = self.next_ticket();
        let (timeout, life) = (self.now + REQUEST_TIMEOUT_MS, self.processes[index].lives);
        let (me, process) = (Actor::Process(index), &mut self.processes[index]);
        match action {
            Action::Publish { bytes, expected_last } => {
                process.publish = Some(request);
                let outcome = laneway_journal::node::PublishOutcome::Failed;
                self.at(timeout, me, What::Published { request, outcome });
                self.send(Actor::Server, &What::Publish { process: index, life, request, expected_last, bytes });
            }
            Action::Read { number } => {
                process.read = Some(request);
                let outcome = laneway_journal::node::ReadOutcome::Failed;
                self.at(timeout, me, What::Found { request, outcome });
                self.send(Actor::Server, &What::Read { process: index, life, request, number });
            }
            Action::CheckClock => {
                process.info = Some(request);
                self.at(timeout, me, What::Answered { request, info: None });
                self.send(Actor::Server, &What::Info { process: index, life, request });
            }
            Action::Apply(committed) => {
                process.core.follow(&committed).unwrap();
                let digest = process.core.digest();
                self.facts.is_equal(committed.position.number, digest);
            }
            Action::Lead { epoch, resumed } => {
                self.facts.acts(epoch, process.id);
                process.core.elected(epoch);
                self.seen.takeovers += u64::from(!resumed);
                self.seen.resumed += u64::from(resumed);
            }
            Action::Release(released) => {
                self.facts.acts(released.epoch, process.id);
                self.facts.is_stored(released.number);
                for effects in released.effects {
                    effects.release(released.number, |message| process.outbox.push(message));
                }
            }
            Action::Deposed => {
                self.seen.deposed += 1;
                process.core.deposed();
                process.reception = None;
                process.reader += 1;
                self.begin_reading(index);
            }
            Action::Stopped => self.falls(me),
            Action::ClockOff { .. } => {}
            Action::Fault(fault) => panic!("{fault}"),
        }
    }

    /// Dies or freezes between two steps.
    fn trips(&mut self, index: usize) -> bool {
        if self.calm() || self.weather.trips == 0 || self.rng.range(0, 100_000) >= self.weather.trips {
            return false;
        }
        if self.rng.per_mille(500) {
            self.falls(Actor::Process(index));
        } else {
            self.processes[index].life = Life::Frozen(Vec::new());
            self.processes[index].wake_at = None;
            let frozen = self.rng.range(10, 9_000);
            self.at(self.now + frozen, Actor::Process(index), What::Thaw);
        }
        true
    }
}
