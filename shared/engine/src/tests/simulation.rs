//! Clients, workers, people and the clock as actors, drawn by a seed; every rule is checked after every turn.
//!
//! Checked: each dispatch and each reservation is the one that the slow model asks for, and nothing waits that the model
//! would start (SCHED-2, 5, 6, 8, SESS-3, buckets, budgets); waits for a rate are recorded once (SCHED-3); limits are kept
//! even so; runs end once; epochs rise; threads have no holes; folding again gives the same state; what `explain` claims comes true.
//! Now and then the state is written, read back and taken from there.

mod memory;

use std::collections::BTreeMap;

use laneway_contract::*;

use super::draw::Draw;
use super::world::*;
use crate::SetBudget;
use crate::testing::{Model, Place};
use crate::*;
use memory::Tight;

/// Seeds of one run of the tests.
const SEEDS: u64 = 10_000;
/// Seeds of one round of the endless simulation.
const ROUND: u64 = 50_000;
/// Commands of one seed.
const STEPS: usize = 120;

#[test]
fn replay() {
    for seed in 0..SEEDS / 50 {
        let (mut world, mut again) = (simulate(seed, true), simulate(seed, false));
        assert_eq!(
            world.journal, again.journal,
            "seed {seed}: the same commands, and snapshots on one side, gave other decisions"
        );
        let digest = world.state.digest();
        assert_eq!(digest, world.state.full_digest(), "seed {seed}: the incremental digest is off");
        assert_eq!(digest, again.state.digest(), "seed {seed}");
        assert_eq!(digest, world.replayed().digest(), "seed {seed}: a fold of the journal gives another state");
    }
}

#[test]
fn every_rule_holds_in_every_seed() {
    for seed in 0..SEEDS {
        simulate(seed, true);
    }
}

#[test]
fn every_rule_holds_with_little_memory_and_stores_that_lag() {
    let (mut loaded, mut refused) = (0, 0);
    for seed in 0..SEEDS / 10 {
        let sim = simulate_with(Simulation::forgetful(seed), true);
        let tight = sim.tight.unwrap();
        (loaded, refused) = (loaded + tight.loaded, refused + tight.refused);
        let (mut world, seed_is) = (sim.world, format!("seed {seed}"));
        assert_eq!(world.state.digest(), world.replayed().digest(), "{seed_is}: a fold gives another state");
    }
    assert!(loaded > 0 && refused > 0, "{loaded} loads, {refused} reads that came too late");
}

/// `just simulate`: plays a round of seeds; a panic names the seed, which `TEST_SEED` plays again.
#[test]
#[ignore = "endless: just simulate"]
#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]
fn endless() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("TEST_SEED") {
        simulate(seed, true);
        simulate_with(Simulation::forgetful(seed), true);
        return;
    }
    let first = SEEDS + number("TEST_ROUND").unwrap_or(0) * ROUND;
    for seed in first..first + ROUND {
        simulate(seed, true);
        simulate_with(Simulation::forgetful(seed), true);
    }
    println!("engine: seeds {first} to {}", first + ROUND - 1);
}

fn simulate(seed: u64, with_snapshots: bool) -> World {
    simulate_with(Simulation::new(seed), with_snapshots).world
}

fn simulate_with(mut sim: Simulation, with_snapshots: bool) -> Simulation {
    let seed = sim.seed;
    // Drawn apart, so that both ways meet the same commands.
    let mut snapshots = Draw(!seed);
    for step in 0..STEPS {
        sim.step();
        if sim.tight.is_some() {
            sim.memory_step();
        }
        if with_snapshots && snapshots.one_in(16) {
            sim.begin_from_snapshot();
        }
        sim.check();
        if step % 16 == 0 {
            let (digest, full) = (sim.world.state.digest(), sim.world.state.full_digest());
            assert_eq!(digest, full, "seed {seed}: the incremental digest is off");
        }
    }
    sim.finish();
    sim
}

struct Simulation {
    seed: u64,
    world: World,
    draw: Draw,
    model: Model,
    /// Events that the model has folded.
    folded: usize,
    sessions: Vec<SessionId>,
    /// With little memory.
    tight: Option<Tight>,
}

const MODELS: [&str; 5] = ["echo/a", "echo/b", "other/c", "other/d", "third/e"];

impl Simulation {
    /// Memory for everything.
    fn new(seed: u64) -> Self {
        let ever = u64::from(u32::MAX);
        let memory = MemoryLimits { session_ms: ever, key_ms: ever, ended_run_ms: ever, ..MemoryLimits::default() };
        Self::with(seed, memory, None)
    }

    fn forgetful(seed: u64) -> Self {
        let mut tight = Tight::new(seed);
        let memory = tight.limits();
        Self::with(seed, memory, Some(tight))
    }

    fn with(seed: u64, memory: MemoryLimits, tight: Option<Tight>) -> Self {
        let mut draw = Draw(seed);
        let mut world = World::new();
        world.hints.memory = memory;
        for worker in world.hints.workers.values_mut() {
            worker.slots = 4 + draw.next(12) as u32;
        }
        let mut sim = Self { seed, world, draw, model: Model::default(), folded: 0, sessions: Vec::new(), tight };
        if sim.draw.one_in(2) {
            sim.rates();
        }
        sim.fold();
        sim
    }

    /// Goes on with the state that was read back from its snapshot.
    fn begin_from_snapshot(&mut self) {
        let (seed, World { state, hints, now, .. }) = (self.seed, &self.world);
        let bytes = snapshot(state);
        let read = State::read_snapshot(&bytes[..], |_, _| ());
        let read = read.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(snapshot(&read) == bytes, "seed {seed}: a state that was read back has other bytes");
        assert_eq!(
            read.full_digest(),
            state.full_digest(),
            "seed {seed}: a state that was read back has another digest"
        );
        let shown = |state: &State| {
            let live: Vec<SessionId> = state.live_sessions(None).map(|session| session.creation.session_id).collect();
            (state.next_deadline(hints, *now), state.slots().by_name(), state.queued().values().sum::<u64>(), live)
        };
        assert_eq!(shown(&read), shown(state), "seed {seed}: indexes of a state that was read back");
        self.world.state = read;
    }

    /// Folds what is new into the model, which checks each dispatch.
    fn fold(&mut self) {
        let seed = self.seed;
        let Self { world, model, folded, tight, .. } = self;
        for (at, event) in world.journal.iter().skip(*folded) {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if let Some(tight) = tight.as_mut() {
                    tight.fold(event, *at);
                }
                if let Event::RunDispatched { run_id, pool, .. } = event {
                    let candidates = model.candidates(&world.hints.workers, *at);
                    let first = Some(&(*run_id, pool.clone()));
                    assert_eq!(candidates.first(), first, "SCHED-5: another run had to be dispatched, or elsewhere");
                }
                model.fold(event, *at);
            }));
            assert!(result.is_ok(), "seed {seed}: at {event:?}");
        }
        *folded = world.journal.len();
    }

    fn run(&mut self, command: &Command) -> Option<Vec<Event>> {
        let result = if self.tight.is_some() { self.run_reading(command) } else { self.world.run(command) };
        self.fold();
        result.ok()
    }

    fn rates(&mut self) {
        let mut changes = Vec::new();
        for _ in 0..=self.draw.next(4) {
            let model = model(MODELS[self.draw.next(5) as usize]);
            let scope =
                if self.draw.one_in(2) { Scope::Provider(model.provider().to_owned()) } else { Scope::Model(model) };
            changes.push(match self.draw.next(4) {
                0 => (LimitName::RequestsPerMinute(scope), Some(1 + self.draw.next(200))),
                1 => (LimitName::TokensPerMinute(scope), Some(1 + self.draw.next(20_000))),
                2 => (LimitName::TokensBurst(scope), Some(1 + self.draw.next(2_000))),
                _ => (LimitName::RequestsBurst(scope), Some(1 + self.draw.next(4))),
            });
        }
        self.change(changes);
    }

    fn change(&mut self, changes: Vec<(LimitName, Option<u64>)>) {
        self.run(&Command::SetLimits(Box::new(SetLimits { change: LimitsChange::Single(changes), actor: actor() })));
    }

    fn step(&mut self) {
        self.advance();
        match self.draw.next(32) {
            0..=2 => self.create(),
            3..=11 => self.submit(),
            12..=16 => self.claim(),
            17..=22 => self.report(),
            23 => self.cancel(),
            24 => self.pause(),
            25 => self.end(),
            26 => self.decide(),
            27 => self.limits(),
            28 => self.budget(),
            29 => self.workers(),
            30 => {
                let gap = self.draw.next(20_000);
                self.world.now = self.world.now.plus_millis(gap as i64);
                self.world.stood_still(gap);
                self.model.stood_still(gap);
                self.take_over();
            }
            _ => self.explain(),
        }
    }

    /// The new leader has heard no worker yet, gives every attempt a full lease, and then hears them again.
    fn take_over(&mut self) {
        let Hints { workers, memory, .. } = std::mem::take(&mut self.world.hints);
        self.world.hints.memory = memory;
        let now = self.world.now;
        for (run, epoch) in
            self.world.state.executing().map(|r| (r.record.run_id, r.record.status.epoch)).collect::<Vec<_>>()
        {
            self.world.hints.give_lease(run, epoch, now);
        }
        self.world.tick();
        self.fold();
        self.world.hints.workers = workers;
        self.world.tick();
        self.fold();
    }

    /// Mostly moments, sometimes minutes.
    fn advance(&mut self) {
        let millis = self.draw.heavy_tailed(120_000);
        let renew: Vec<_> = self.world.state.executing().map(|r| (r.record.run_id, r.record.status.epoch)).collect();
        for (run, epoch) in renew {
            if !self.draw.one_in(8) {
                let now = self.world.now;
                self.world.hints.give_lease(run, epoch, now);
            }
        }
        self.world.advance(millis as i64);
        self.fold();
    }

    fn create(&mut self) {
        let model_id = MODELS[self.draw.next(5) as usize];
        let mut command = self.world.create_command(Mode::SessionPersistent, model_id);
        let fields = &mut command.session.fields;
        fields.wp_id = self.draw.one_in(2).then(|| format!("wp{}", self.draw.next(3)));
        fields.budget_tokens = self.draw.one_in(5).then(|| self.draw.next(3_000));
        fields.budget_usd = self.draw.one_in(5).then(|| MicroUsd(self.draw.next(3_000)));
        self.sessions.push(command.session.session_id);
        self.run(&Command::Create(Box::new(command)));
    }

    fn submit(&mut self) {
        let session = self.draw.of(&self.sessions).filter(|_| !self.draw.one_in(6));
        let now = self.world.now;
        let draw = &mut self.draw;
        let mut command = self.world.submit_command(session);
        command.lane = Lane::ALL[draw.next(4) as usize];
        command.priority = draw.next(2) as u32;
        command.max_retries = draw.next(3) as u32;
        command.timeout_ms = 1 + draw.next(60_000);
        command.model_id = draw.one_in(3).then(|| model(MODELS[draw.next(5) as usize]));
        command.cancellation_token = draw.one_in(6).then(|| "t".to_owned());
        command.concurrency_group = draw.one_in(4).then(|| format!("g{}", draw.next(2)));
        command.fairness_key = draw.one_in(2).then(|| format!("o{}/k{}", draw.next(3), draw.next(3)));
        command.on_busy = OnBusy::ALL[if draw.one_in(2) { 0 } else { draw.next(4) as usize }];
        command.not_before = draw.one_in(8).then(|| now.plus_millis(draw.next(30_000) as i64));
        command.deadline = draw.one_in(8).then(|| now.plus_millis(draw.next(120_000) as i64));
        command.queue_timeout_ms = draw.one_in(8).then(|| 1 + draw.next(60_000));
        command.max_tokens_budget = draw.one_in(8).then(|| 1 + draw.next(60));
        command.estimated_tokens = draw.one_in(2).then(|| draw.next(1_500));
        command.estimated_cost_usd = draw.one_in(4).then(|| MicroUsd(draw.next(1_500)));
        command.estimate = Estimate {
            output_tokens: draw.next(500),
            input_usd_per_million: draw.one_in(2).then_some(MicroUsd(3_000_000)),
            output_usd_per_million: draw.one_in(2).then_some(MicroUsd(1_000_000)),
        };
        self.run(&Command::Submit(Box::new(command)));
    }

    fn claim(&mut self) {
        let dispatched: Vec<RunId> = self.world.state.dispatched().map(|run| run.record.run_id).collect();
        if let Some(run) = self.draw.of(&dispatched) {
            let command = self.world.claim_command(run);
            self.run(&Command::Claim(command));
        }
    }

    fn report(&mut self) {
        let executing: Vec<(RunId, Epoch)> =
            self.world.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
        let late: Vec<(RunId, Epoch)> =
            self.world.state.live_runs(None).map(|run| (run.record.run_id, run.record.status.epoch)).collect();
        let of = if self.draw.one_in(12) { late } else { executing };
        let Some((run, epoch)) = self.draw.of(&of) else { return };
        let result = self.result();
        let mut command = self.world.report_command(run, epoch, result);
        command.report_no = self.world.state.run(run).map_or(0, |run| run.reports);
        if let Some(outcome) = &mut command.outcome {
            outcome.usage.input_tokens = self.draw.next(40);
            outcome.usage.output_tokens = self.draw.heavy_tailed(2_000);
            outcome.cost_usd = self.draw.one_in(2).then(|| MicroUsd(self.draw.next(2_000)));
        }
        // A tool was called: reported before its end.
        if self.draw.one_in(6) {
            command.outcome = None;
            for message in &mut command.messages {
                message.role = MessageRole::ToolCall;
                message.tool_call_id = Some("call".to_owned());
                message.finish = None;
            }
        }
        self.run(&Command::Report(Box::new(command)));
    }

    fn result(&mut self) -> AttemptResult {
        match self.draw.next(12) {
            0 | 1 => failed(ErrorClass::Server, true, None),
            2 => {
                let wait = self.draw.one_in(2).then(|| self.draw.next(20_000));
                failed(ErrorClass::RateLimit, true, wait)
            }
            3 => failed(ErrorClass::InvalidRequest, false, None),
            4 => AttemptResult::Stopped { stop: Stop::Cancel },
            5 => AttemptResult::HandedBack,
            6 => AttemptResult::AwaitingApproval { approval_id: "a".to_owned() },
            7 => AttemptResult::Completed { finish: Finish::Budget },
            8 => AttemptResult::Completed { finish: Finish::Length },
            _ => AttemptResult::Completed { finish: Finish::Stop },
        }
    }

    fn cancel(&mut self) {
        let Some(session) = self.draw.of(&self.sessions) else { return };
        let target =
            if self.draw.one_in(2) { CancelTarget::Session(session) } else { CancelTarget::Token("t".to_owned()) };
        self.run(&Command::Cancel(Cancel {
            target,
            submitted_before: None,
            actor: actor(),
            reason: "test".to_owned(),
        }));
    }

    fn pause(&mut self) {
        let Some(session_id) = self.draw.of(&self.sessions) else { return };
        let (paused, interrupt) = (self.draw.one_in(2), self.draw.one_in(2));
        self.run(&Command::Pause(PauseSession {
            session_id,
            paused,
            interrupt,
            actor: actor(),
            reason: String::new(),
        }));
    }

    fn end(&mut self) {
        let Some(session_id) = self.draw.of(&self.sessions).filter(|_| self.draw.one_in(4)) else { return };
        let end = [SessionState::Completed, SessionState::Failed, SessionState::Cancelled][self.draw.next(3) as usize];
        let cancel_runs = self.draw.one_in(2);
        self.run(&Command::End(EndSession { session_id, end, cancel_runs, actor: actor(), reason: String::new() }));
    }

    fn decide(&mut self) {
        let parked: Vec<RunId> = self
            .world
            .state
            .live_runs(None)
            .filter(|run| matches!(run.phase, Phase::Stalled | Phase::AwaitingUser))
            .map(|run| run.record.run_id)
            .collect();
        let Some(run_id) = self.draw.of(&parked) else { return };
        let decision = Decision::ALL[self.draw.next(4) as usize];
        let (actor, reason) = (actor(), String::new());
        self.run(&Command::Decide(Decide { run_id, decision, approval_id: None, actor, reason }));
    }

    fn limits(&mut self) {
        if self.draw.one_in(2) {
            return self.rates();
        }
        let name = match self.draw.next(6) {
            0 => LimitName::Global,
            1 => LimitName::PerProvider,
            2 => LimitName::PerModel,
            3 => LimitName::Scope(Scope::Provider("echo".to_owned())),
            4 => LimitName::Group("g0".to_owned()),
            _ => LimitName::Weight(Lane::ALL[self.draw.next(4) as usize]),
        };
        let value = 1 + self.draw.next(9);
        self.change(vec![(name, Some(value))]);
    }

    fn budget(&mut self) {
        let session = self.draw.of(&self.sessions).filter(|_| self.draw.one_in(2));
        let owner = session.map_or(BudgetOwner::WorkPacket(format!("wp{}", self.draw.next(3))), BudgetOwner::Session);
        let tokens = (!self.draw.one_in(4)).then(|| self.draw.next(6_000));
        let usd = self.draw.one_in(2).then(|| MicroUsd(self.draw.next(6_000)));
        self.run(&Command::SetBudget(SetBudget { owner, tokens, usd, actor: actor() }));
    }

    fn workers(&mut self) {
        let slots = self.draw.next(6) as u32;
        let name = ["w1", "w2"][self.draw.next(2) as usize];
        let pool = if name == "w1" { "pool" } else { "pool-2" };
        self.world.announce(name, pool, slots);
        self.world.tick();
        self.fold();
    }

    /// What is claimed of a waiting run comes true.
    fn explain(&mut self) {
        let waiting: Vec<RunId> = self
            .world
            .state
            .live_runs(None)
            .filter(|run| run.record.status.state == JobState::Queued)
            .map(|run| run.record.run_id)
            .collect();
        let Some(id) = self.draw.of(&waiting) else { return };
        let (hints, now, seed) = (&self.world.hints, self.world.now, self.seed);
        let run = self.world.state.run(id).unwrap();
        let explanation = self.world.state.explain(run, hints, now);
        assert!(!explanation.holds.is_empty(), "seed {seed}: nothing holds {id}");
        if let Some(counterfactual) = &explanation.counterfactual {
            let parse = |(name, value): (&String, &u64)| (LimitName::parse(name).unwrap(), Some(*value));
            let change = LimitsChange::Single(counterfactual.changes.iter().map(parse).collect());
            let mut other = self.world.state.clone();
            let command = Command::SetLimits(Box::new(SetLimits { change, actor: actor() }));
            let events = other.turn(&command, hints, now).unwrap().events;
            let started = events.iter().any(|e| matches!(e, Event::RunDispatched { run_id, .. } if *run_id == id));
            assert!(started, "seed {seed}: {} does not start {id}", counterfactual.text);
        }
        if let Some(earliest) = explanation.earliest_start {
            let mut other = self.world.clone();
            for _ in 0..200 {
                let Some(run) = other.state.run(id).filter(|run| !run.holds_slot()) else { break };
                assert_ne!(run.phase, Phase::Stalled);
                let executing: Vec<_> =
                    other.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
                for (run, epoch) in executing {
                    let result = AttemptResult::Completed { finish: Finish::Stop };
                    let mut command = other.report_command(run, epoch, result);
                    command.report_no = other.state.run(run).map_or(0, |run| run.reports);
                    drop(other.run(&Command::Report(Box::new(command))));
                }
                for run in other.state.dispatched().map(|run| run.record.run_id).collect::<Vec<_>>() {
                    let command = other.claim_command(run);
                    drop(other.run(&Command::Claim(command)));
                }
                other.advance(500);
            }
            let dispatched = other.journal.iter().skip(self.world.journal.len()).find_map(|(at, event)| match event {
                Event::RunDispatched { run_id, .. } if *run_id == id => Some(*at),
                _ => None,
            });
            assert!(dispatched.is_none_or(|at| at >= earliest), "seed {seed}: {id} started before {earliest}");
        }
    }

    fn check(&self) {
        let (state, seed, now) = (&self.world.state, self.seed, self.world.now);
        let workers = &self.world.hints.workers;
        assert_eq!(self.model.candidates(workers, now), [], "seed {seed}: SCHED-8, a run could start");
        assert_eq!(self.model.silent_wait(workers, now), None, "seed {seed}: SCHED-3, it waits, and nothing says so");
        let mut executing = BTreeMap::<SessionId, u32>::new();
        for run in state.live_runs(None) {
            let place = &self.model.runs[&run.record.run_id].place;
            let same = match &run.phase {
                Phase::Delayed { .. } => *place == Place::Delayed,
                Phase::Queued => *place == Place::Queued,
                Phase::Dispatched { pool, .. } => *place == Place::Dispatched(pool.clone()),
                Phase::Running { worker_id, .. } => *place == Place::Running(worker_id.clone()),
                Phase::Backoff { .. } => *place == Place::Backoff,
                Phase::Stalled | Phase::AwaitingUser => *place == Place::Parked,
            };
            assert!(same, "seed {seed}: {:?} and {place:?}", run.phase);
            if run.holds_slot() {
                *executing.entry(run.record.session_id).or_default() += 1;
            }
            if run.record.status.state == JobState::Queued {
                let reason = state.wait_reason(run, &self.world.hints, now);
                assert_ne!(reason, WaitReason::None, "seed {seed}: SCHED-2, no reason is shown");
            }
        }
        assert!(executing.values().all(|used| *used <= 1), "seed {seed}: SESS-3");
        for run in state.live_runs(None).filter(|run| matches!(run.phase, Phase::Stalled | Phase::AwaitingUser)) {
            let session = state.session(run.record.session_id).unwrap();
            assert_eq!(session.status.state, SessionState::Blocked, "seed {seed}");
        }
    }

    /// Lets everything end and checks that it did, once.
    fn finish(&mut self) {
        let seed = self.seed;
        for owner in self
            .sessions
            .clone()
            .into_iter()
            .map(BudgetOwner::Session)
            .chain((0..3).map(|n| BudgetOwner::WorkPacket(format!("wp{n}"))))
        {
            self.run(&Command::SetBudget(SetBudget { owner, tokens: None, usd: None, actor: actor() }));
        }
        self.world.announce("w1", "pool", 64);
        for session_id in self.world.state.live_sessions(None).map(|s| s.creation.session_id).collect::<Vec<_>>() {
            let resume =
                PauseSession { session_id, paused: false, interrupt: false, actor: actor(), reason: String::new() };
            self.run(&Command::Pause(resume));
        }
        for _ in 0..10_000 {
            if self.world.state.live_runs(None).next().is_none() {
                break;
            }
            for run in self.world.state.dispatched().map(|run| run.record.run_id).collect::<Vec<_>>() {
                let command = self.world.claim_command(run);
                self.run(&Command::Claim(command));
            }
            let executing: Vec<_> =
                self.world.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
            for (run, epoch) in executing {
                let mut command =
                    self.world.report_command(run, epoch, AttemptResult::Completed { finish: Finish::Stop });
                command.report_no = self.world.state.run(run).map_or(0, |run| run.reports);
                self.run(&Command::Report(Box::new(command)));
            }
            let parked: Vec<RunId> = self
                .world
                .state
                .live_runs(None)
                .filter(|run| matches!(run.phase, Phase::Stalled | Phase::AwaitingUser))
                .map(|run| run.record.run_id)
                .collect();
            for run_id in parked {
                let (decision, actor, reason) = (Decision::Retry, actor(), String::new());
                self.run(&Command::Decide(Decide { run_id, decision, approval_id: None, actor, reason }));
            }
            self.world.advance(60_000);
            self.fold();
        }
        let world = &mut self.world;
        assert_eq!(world.state.live_runs(None).count(), 0, "seed {seed}: a run never ends");
        assert!(world.state.slots().is_idle(), "seed {seed}: slots leak");
        let mut ends = BTreeMap::<RunId, u32>::new();
        let mut tails = BTreeMap::<SessionId, u64>::new();
        let mut last_epoch = 0;
        for (_, event) in &world.journal {
            match event {
                Event::RunSettled { run, .. } => *ends.entry(run.run_id).or_default() += 1,
                Event::MessageAppended(message) => {
                    let tail = tails.entry(message.session_id).or_default();
                    assert_eq!(message.seq, *tail + 1, "seed {seed}: a hole in a thread");
                    *tail += 1;
                }
                Event::RunClaimed { epoch, .. } => {
                    assert!(*epoch > last_epoch, "seed {seed}: an epoch fell");
                    last_epoch = *epoch;
                }
                _ => {}
            }
        }
        assert!(ends.values().all(|count| *count == 1), "seed {seed}: a run ended twice");
        for id in &self.sessions {
            let reserved = match (&self.tight, world.state.session_budget(*id)) {
                (Some(tight), _) => tight.reserved(*id),
                (None, budget) => {
                    let (tokens, usd) = budget.unwrap().lines();
                    (tokens.reserved, usd.reserved)
                }
            };
            assert_eq!(reserved, (0, MicroUsd(0)), "seed {seed}: a reservation leaks");
        }
    }
}
