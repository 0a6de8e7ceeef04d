//! Workers: they announce themselves, take dispatches, and carry attempts out.

use laneway_bus::Refusal;
use laneway_contract::*;
use laneway_journal::testing::{Clocks, Rng};

use super::api::{Answer, Reply, Request};
use super::attempt::{Asked, Attempt, Doing, Held, Plan, duration, failed, outcome, said, tool};
use super::process::Life;
use super::world::{Actor, What, World};

/// One worker.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) pool: PoolId,
    pub(super) models: Vec<String>,
    pub(super) slots: u32,
    /// It goes on whatever it is told: only its lease ends what it does.
    pub(super) heedless: bool,
    pub(super) life: Life,
    pub(super) lives: u64,
    /// Until then its cable is out.
    pub(super) cut_until: u64,
    pub(super) clocks: Clocks,
    pub(super) attempts: Vec<Attempt>,
    /// Dispatches that the server has handed out and that have not arrived.
    pub(super) on_the_way: usize,
    /// The highest epoch that it has seen: what an older leader says does not count.
    highest: Epoch,
    wake_at: Option<u64>,
}

impl Worker {
    pub(super) fn new(index: usize, rng: &mut Rng) -> Self {
        let own_pool = index == 2;
        let models: &[&str] = if own_pool { &["echo/a"] } else { &["echo/*", "ollama/*"] };
        Self {
            id: WorkerId::parse(&format!("w{index}")).unwrap(),
            pool: PoolId::parse(if own_pool { "p2" } else { "p1" }).unwrap(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            slots: rng.range(1, 4) as u32,
            heedless: rng.per_mille(80),
            life: Life::Running,
            lives: 0,
            cut_until: 0,
            clocks: Clocks::new(rng),
            attempts: Vec::new(),
            on_the_way: 0,
            highest: 0,
            wake_at: None,
        }
    }

    /// Whether it has asked the server for dispatches of this pool.
    pub(super) fn asks_of(&self, pool: &PoolId, now: u64) -> bool {
        let alive = !matches!(self.life, Life::Dead) && now >= self.cut_until;
        alive && self.pool == *pool && self.attempts.len() + self.on_the_way < self.slots as usize
    }

    fn clock(&self, time: u64) -> u64 {
        self.clocks.read(time).boot.millis()
    }
}

impl World {
    pub(super) fn worker_receives(&mut self, index: usize, what: What) {
        let worker = &mut self.workers[index];
        match what {
            What::Announce => {
                let Worker { id, pool, models, slots, .. } = worker;
                let (worker_id, pool, models, slots) = (id.clone(), pool.clone(), models.clone(), *slots);
                let what = What::Announced(Announcement { worker_id, pool: pool.clone(), models, slots });
                for process in 0..self.processes.len() {
                    self.send(Actor::Process(process), &what);
                }
                self.at(self.now + ANNOUNCE_MS, Actor::Worker(index), What::Announce);
                self.hand_out(&pool);
                return;
            }
            What::Take { delivery, dispatch } => {
                worker.on_the_way = worker.on_the_way.saturating_sub(1);
                let (key, claim_id) = (self.next_ticket(), self.rng.next());
                self.workers[index].attempts.push(Attempt::new(key, delivery, dispatch, claim_id));
            }
            What::Control(ControlMessage { run_id, epoch, stop }) if !worker.heedless => {
                let meant = |attempt: &Attempt| {
                    attempt.dispatch.run_id == run_id && attempt.held.as_ref().is_some_and(|held| held.epoch == epoch)
                };
                if let Some(place) = worker.attempts.iter().position(meant) {
                    self.halt(index, place, AttemptResult::Stopped { stop });
                }
            }
            What::Reply { ticket, epoch, outcome } if epoch >= worker.highest => {
                worker.highest = epoch;
                self.answered(index, ticket, *outcome);
            }
            What::NoReply { ticket } => {
                for attempt in &mut worker.attempts {
                    attempt.asked = attempt.asked.filter(|(asked, ..)| *asked != ticket);
                    attempt.renewal = attempt.renewal.filter(|(asked, _)| *asked != ticket);
                }
            }
            What::Wake => worker.wake_at = None,
            What::Killed => return self.falls(Actor::Worker(index)),
            _ => {}
        }
        self.worker_looks(index);
    }

    /// Does what is due, and comes back when the next thing is.
    pub(super) fn worker_looks(&mut self, index: usize) {
        let mut place = 0;
        while place < self.workers[index].attempts.len() {
            let key = self.workers[index].attempts[place].key;
            self.attempt_looks(index, place);
            // It may have gone.
            place += usize::from(self.workers[index].attempts.get(place).is_some_and(|next| next.key == key));
        }
        let worker = &mut self.workers[index];
        let now = worker.clock(self.now);
        let Some(due) = worker.attempts.iter().map(|attempt| attempt.wake_at(now)).min() else { return };
        let wake_at = self.now + due.saturating_sub(now).max(1);
        if worker.wake_at.is_none_or(|earlier| wake_at < earlier || earlier <= self.now) {
            worker.wake_at = Some(wake_at);
            self.at(wake_at, Actor::Worker(index), What::Wake);
        }
    }

    fn attempt_looks(&mut self, index: usize, place: usize) {
        let now = self.workers[index].clock(self.now);
        let attempt = &mut self.workers[index].attempts[place];
        let Some(held) = &attempt.held else {
            if attempt.asked.is_none() {
                self.claim(index, place, now);
            }
            return;
        };
        if held.goes_on()
            && let Some(result) = held.over(now)
        {
            return self.halt(index, place, result);
        }
        if held.goes_on() && now >= held.renew_at {
            self.renew(index, place, now);
        }
        self.work(index, place, now);
        self.deliver(index, place, now);
    }

    fn claim(&mut self, index: usize, place: usize, now: u64) {
        let worker = &mut self.workers[index];
        let attempt = &mut worker.attempts[place];
        attempt.claim_sent_at.get_or_insert(now);
        let DispatchMessage { run_id, dispatch_no, .. } = attempt.dispatch;
        let request = ClaimAttempt { run_id, dispatch_no, worker_id: worker.id.clone(), claim_id: attempt.claim_id };
        let ticket = self.ask(Actor::Worker(index), Request::Claim(request));
        self.workers[index].attempts[place].asked = Some((ticket, Asked::Claim, now));
    }

    fn renew(&mut self, index: usize, place: usize, now: u64) {
        let attempt = &mut self.workers[index].attempts[place];
        let Some(held) = &mut attempt.held else { return };
        held.renew_at = now + RENEW_MS;
        let request = RenewAttempt { run_id: attempt.dispatch.run_id, epoch: held.epoch, output_tokens: 0 };
        let ticket = self.ask(Actor::Worker(index), Request::Renew(request));
        self.workers[index].attempts[place].renewal = Some((ticket, now));
    }

    /// What a call or a tool comes to when its time has passed.
    fn work(&mut self, index: usize, place: usize, now: u64) {
        let (calm, id) = (self.calm(), MessageId::from_uuid(self.uuid()));
        let again = MessageId::from_uuid(self.uuid());
        let Some(held) = &mut self.workers[index].attempts[place].held else { return };
        match held.doing {
            Doing::Calling { until } if now >= until => {
                if held.tools == 0 {
                    let result = held.result.clone();
                    return self.conclude(index, place, result);
                }
                // Reported before the tool is called.
                held.tools -= 1;
                held.doing = Doing::Tool { until: now + duration(&mut self.rng, calm) };
                let messages = vec![tool(id, MessageRole::ToolCall, held.call_id())];
                self.open(index, place, messages, None);
            }
            Doing::Tool { until } if now >= until && held.open.is_none() => {
                let messages = vec![tool(again, MessageRole::ToolResult, held.call_id())];
                self.open(index, place, messages, None);
                self.call(index, place, now);
            }
            Doing::Calling { .. } | Doing::Tool { .. } | Doing::Done => {}
        }
    }

    /// Calls the provider. The lease was looked at just now.
    fn call(&mut self, index: usize, place: usize, now: u64) {
        let calm = self.calm();
        let takes = if self.workers[index].heedless && !calm { 50_000 } else { duration(&mut self.rng, calm) };
        let until = now + takes;
        let attempt = &mut self.workers[index].attempts[place];
        let Some(held) = &mut attempt.held else { return };
        held.doing = Doing::Calling { until };
        let (key, run, session, epoch) = (attempt.key, attempt.dispatch.run_id, held.session, held.epoch);
        self.call_begins(index, key, run, session, epoch);
        if self.weather.poison && run.uuid().as_u128() % 16 == 0 {
            self.at(self.now + 1, Actor::Worker(index), What::Killed);
        }
    }

    fn open(&mut self, index: usize, place: usize, messages: Vec<ProducedMessage>, outcome: Option<Outcome>) {
        let attempt = &mut self.workers[index].attempts[place];
        self.calls.end(index, attempt.key);
        let Some(held) = &mut attempt.held else { return };
        let (run_id, epoch) = (attempt.dispatch.run_id, held.epoch);
        match &mut held.open {
            // It may have been taken, so it keeps its number and its bytes; what comes is told after it.
            Some(_) => {
                let late = held.late.get_or_insert_with(|| (Vec::new(), None));
                late.0.extend(messages);
                late.1 = outcome;
            }
            None => held.open = Some(ReportAttempt { run_id, epoch, report_no: held.report_no, messages, outcome }),
        }
    }

    /// Makes the last report.
    fn conclude(&mut self, index: usize, place: usize, result: AttemptResult) {
        let id = MessageId::from_uuid(self.uuid());
        let finish = match &result {
            AttemptResult::Completed { finish } => *finish,
            AttemptResult::Stopped { stop: Stop::Cancel } => Finish::Cancelled,
            AttemptResult::AwaitingApproval { .. } => Finish::ToolUse,
            AttemptResult::Failed { .. } | AttemptResult::Stopped { .. } | AttemptResult::HandedBack => Finish::Error,
        };
        let messages = vec![said(id, finish)];
        if let Some(held) = &mut self.workers[index].attempts[place].held {
            held.doing = Doing::Done;
        }
        let calm = self.calm();
        let outcome = outcome(result, &mut self.rng, calm);
        self.open(index, place, messages, Some(outcome));
        if !self.calm() && self.weather.worker_pauses && self.rng.per_mille(100) {
            // With an answer that nobody has heard.
            self.freezes(Actor::Worker(index));
        }
    }

    /// Sends the report that is open, unless it is under way.
    fn deliver(&mut self, index: usize, place: usize, now: u64) {
        let attempt = &mut self.workers[index].attempts[place];
        let Some(report) = attempt.held.as_ref().and_then(|held| held.open.clone()) else { return };
        if attempt.asked.is_none() && matches!(self.workers[index].life, Life::Running) {
            let ticket = self.ask(Actor::Worker(index), Request::Report(report));
            self.workers[index].attempts[place].asked = Some((ticket, Asked::Report, now));
        }
    }

    /// It may not go on: the call is closed, and the end reported.
    fn halt(&mut self, index: usize, place: usize, result: AttemptResult) {
        let attempt = &self.workers[index].attempts[place];
        if attempt.held.as_ref().is_some_and(Held::goes_on) {
            self.conclude(index, place, result);
        }
    }

    /// The attempt is over for this worker, and its slot free.
    fn forget(&mut self, index: usize, place: usize) {
        let attempt = self.workers[index].attempts.remove(place);
        self.calls.end(index, attempt.key);
        let pool = self.workers[index].pool.clone();
        self.hand_out(&pool);
    }

    fn answered(&mut self, index: usize, ticket: u64, outcome: Answer) {
        let attempts = &mut self.workers[index].attempts;
        if let Some(place) =
            attempts.iter().position(|attempt| attempt.renewal.is_some_and(|(asked, _)| asked == ticket))
        {
            let sent_at = attempts[place].renewal.take().map_or(0, |(_, sent_at)| sent_at);
            return self.renewed(index, place, sent_at, outcome);
        }
        let asked = |attempt: &Attempt| attempt.asked.is_some_and(|(asked, ..)| asked == ticket);
        let Some(place) = attempts.iter().position(asked) else { return };
        match attempts[place].asked.take() {
            Some((_, Asked::Claim, _)) => self.claimed(index, place, outcome),
            Some((_, Asked::Report, _)) => self.reported(index, place, outcome),
            None => {}
        }
    }

    fn claimed(&mut self, index: usize, place: usize, outcome: Answer) {
        let delivery = self.workers[index].attempts[place].delivery;
        match outcome {
            Ok(Reply::Claimed(claim)) => {
                let calm = self.calm();
                let heedless = self.workers[index].heedless;
                let plan = Plan::draw(&mut self.rng, calm || heedless);
                let now = self.workers[index].clock(self.now);
                let attempt = &mut self.workers[index].attempts[place];
                let sent_at = attempt.claim_sent_at.unwrap_or(now);
                let held = Held::new(&claim, sent_at, plan);
                let is_late = now - sent_at >= claim.timeout_ms.clamp(DISPATCH_CLAIM_MS, WORKER_BOUND_MS);
                let over = if is_late { Some(AttemptResult::HandedBack) } else { held.over(now) };
                attempt.held = Some(held);
                match over {
                    Some(result) => self.halt(index, place, result),
                    None => self.call(index, place, now),
                }
            }
            Ok(_) => panic!("not the answer to a claim"),
            Err(Refusal::Error(error)) if error.code == ErrorCode::Internal => return,
            Err(_) => self.forget(index, place),
        }
        self.send(Actor::Server, &What::Acked(delivery));
    }

    fn renewed(&mut self, index: usize, place: usize, sent_at: u64, outcome: Answer) {
        match outcome {
            Ok(Reply::Renewed(RenewReply { stop })) if stop.is_none() || self.workers[index].heedless => {
                if let Some(held) = &mut self.workers[index].attempts[place].held {
                    held.bound = held.bound.max(sent_at + WORKER_BOUND_MS);
                }
            }
            Ok(Reply::Renewed(RenewReply { stop: Some(stop) })) => {
                self.halt(index, place, AttemptResult::Stopped { stop });
            }
            Err(Refusal::Error(error))
                if self.workers[index].attempts[place].held.as_ref().is_some_and(Held::goes_on)
                    && matches!(error.code, ErrorCode::StaleEpoch | ErrorCode::RunTerminal | ErrorCode::NotFound) =>
            {
                self.forget(index, place);
            }
            _ => {}
        }
    }

    fn reported(&mut self, index: usize, place: usize, outcome: Answer) {
        let Some(held) = &mut self.workers[index].attempts[place].held else { return };
        match outcome {
            Ok(_) => {
                let last = held.open.take().is_some_and(|report| report.outcome.is_some());
                held.report_no += 1;
                if last {
                    return self.forget(index, place);
                }
                if let Some((messages, outcome)) = held.late.take() {
                    self.open(index, place, messages, outcome);
                }
            }
            Err(Refusal::Error(error)) if error.code == ErrorCode::Internal => {}
            Err(Refusal::Error(error)) => {
                let over = matches!(error.code, ErrorCode::StaleEpoch | ErrorCode::RunTerminal);
                assert!(over, "a report was refused: {error}");
                self.seen.stale_epochs += 1;
                self.forget(index, place);
            }
            Err(Refusal::Silent) => {}
        }
    }

    /// It lets nothing new begin, and cuts off what goes on.
    pub(super) fn worker_leaves(&mut self, index: usize) {
        for place in 0..self.workers[index].attempts.len() {
            self.halt(index, place, failed("worker_left", ErrorClass::WorkerLost, None));
        }
        self.worker_looks(index);
    }

    pub(super) fn worker_dies(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        (worker.life, worker.wake_at, worker.on_the_way) = (Life::Dead, None, 0);
        worker.lives += 1;
        worker.attempts.clear();
        self.calls.end_all(index);
    }

    pub(super) fn worker_starts(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.life = Life::Running;
        worker.lives += 1;
        self.at(self.now, Actor::Worker(index), What::Announce);
    }
}
