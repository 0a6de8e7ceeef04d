//! The model: the engine decides again what it is asked, in virtual time, with workers that do what was recorded.
//!
//! A discrete-event simulation. Inputs come at their recorded times. A dispatch is claimed after as long as the run's
//! dispatch of the same number was, an attempt takes as long as the run's attempt of that dispatch did, and comes to the same.
//! What goes beyond what was recorded takes what is typical. Nothing is drawn by lot: the same workload and the same policy
//! give the same waits.

mod attempt;

use std::collections::{BTreeMap, HashMap};

use laneway_contract::{Event, PoolId, RunId, Timestamp};
use laneway_engine::{Cancel, CancelTarget, Command, Decide, Hints, LimitsChange, SetLimits, State};

use super::policy::Policy;
use super::pools::{self, Pool};
use super::workload::{Asked, Dispatch, Order, RecordedRun, Workload};
use attempt::Live;

/// Leases that are renewed end at no time that the model reaches.
const RENEWED: Timestamp = Timestamp::from_millis(i64::MAX / 4);
/// What is due at the same time as an input comes after it.
const LAST: Order = Order::MAX;

/// What the model came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modelled {
    /// From submit to the first dispatch of each run, in the order of the workload; none when it was never dispatched.
    pub(crate) waits: Vec<Option<u64>>,
    /// Submits that were refused, because the queue was full or their session had ended.
    pub(crate) refused: u64,
    /// Runs that a rule gave another lane or priority.
    pub(crate) changed: u64,
}

/// What is to happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim { run_id: RunId, dispatch_no: u32 },
    Part { run_id: RunId, epoch: u64, part: usize },
    Finish { run_id: RunId, epoch: u64 },
    Decide { run_id: RunId },
}

/// Runs the model. Without a policy everything is as it was.
pub(crate) fn run(
    work: &Workload,
    pools: &BTreeMap<PoolId, Pool>,
    slots: Option<u32>,
    policy: Option<&Policy>,
) -> Modelled {
    let mut model = Model {
        work,
        pools,
        slots,
        policy,
        state: State::default(),
        hints: Hints::default(),
        now: work.began,
        idle_at: None,
        agenda: BTreeMap::new(),
        scheduled: 0,
        live: HashMap::new(),
        result: Modelled { waits: vec![None; work.runs.len()], ..Modelled::default() },
    };
    model.set_limits();
    let mut inputs = work.inputs.iter().peekable();
    while let Some(next) = model.next(inputs.peek().map(|input| (input.at, input.order))) {
        match next {
            Next::Input => {
                if let Some(input) = inputs.next() {
                    model.now = model.now.max(input.at);
                    model.input(&input.what);
                }
            }
            Next::Step(key, step) => {
                model.agenda.remove(&key);
                model.now = model.now.max(key.0);
                model.step(step);
            }
            Next::Due(at) => {
                model.now = model.now.max(at);
                model.tick();
            }
        }
    }
    model.result
}

type Key = (Timestamp, Order, u64);

/// What comes next.
enum Next {
    Input,
    Step(Key, Step),
    Due(Timestamp),
}

struct Model<'a> {
    work: &'a Workload,
    pools: &'a BTreeMap<PoolId, Pool>,
    slots: Option<u32>,
    policy: Option<&'a Policy>,
    state: State,
    hints: Hints,
    now: Timestamp,
    /// When it was last found that nothing was due.
    idle_at: Option<Timestamp>,
    agenda: BTreeMap<Key, Step>,
    scheduled: u64,
    live: HashMap<RunId, Live>,
    result: Modelled,
}

impl Model<'_> {
    fn next(&self, input: Option<(Timestamp, Order)>) -> Option<Next> {
        let step = self.agenda.first_key_value().map(|(key, step)| (*key, *step));
        let due = self.state.next_deadline(&self.hints, self.now).filter(|at| *at < RENEWED);
        // A due time that has brought nothing is looked at again a millisecond later.
        let due = due.map(|at| if self.idle_at == Some(self.now) { at.max(self.now.plus_millis(1)) } else { at });
        let due = due.map(|at| self.awake(at.max(self.now), LAST).0);
        let at = [input, step.map(|((at, order, _), _)| (at, order))];
        let first = at.into_iter().flatten().chain(due.map(|at| (at, LAST))).min()?;
        if input.is_some_and(|input| input == first) {
            return Some(Next::Input);
        }
        match step {
            Some((key, step)) if (key.0, key.1) == first => Some(Next::Step(key, step)),
            _ => due.map(Next::Due),
        }
    }

    /// When something happens that is due at `at`: not while nobody leads.
    fn awake(&self, at: Timestamp, order: Order) -> (Timestamp, Order) {
        let silences = &self.work.silences;
        let behind = silences.partition_point(|silence| silence.until <= at);
        match silences.get(behind) {
            Some(silence) if silence.from < at => (silence.until, order.max(silence.order + 1)),
            Some(_) | None => (at, order),
        }
    }

    fn schedule(&mut self, after_ms: u64, order: Order, step: Step) {
        let (at, order) = self.awake(self.now.plus_millis(after_ms as i64), order);
        self.scheduled += 1;
        self.agenda.insert((at, order, self.scheduled), step);
    }

    /// The limits of the policy hold from the beginning.
    fn set_limits(&mut self) {
        if let Some(limits) = self.policy.and_then(|policy| policy.limits.as_ref()) {
            let change = LimitsChange::Configured(Box::new(limits.clone()));
            let actor = laneway_contract::Actor::runtime();
            self.command(&Command::SetLimits(Box::new(SetLimits { change, actor })));
        }
    }

    fn input(&mut self, asked: &Asked) {
        match asked {
            // Those of the policy hold all the time.
            Asked::Limits(_) if self.policy.is_some_and(|policy| policy.limits.is_some()) => {}
            Asked::Facts(events) | Asked::Limits(events) => self.facts(events.clone()),
            Asked::Submit(submit) => {
                let mut submit = submit.clone();
                if let Some(policy) = self.policy {
                    let before = (submit.lane, submit.priority);
                    policy.change(&mut submit);
                    self.result.changed += u64::from(before != (submit.lane, submit.priority));
                }
                let taken = self.command(&Command::Submit(submit));
                self.result.refused += u64::from(!taken);
            }
            Asked::Cancel { run_id, actor, reason } => {
                let (actor, reason) = (actor.clone(), reason.clone());
                self.command(&Command::Cancel(Cancel {
                    target: CancelTarget::Run(*run_id),
                    submitted_before: None,
                    actor,
                    reason,
                }));
            }
            Asked::Pause(pause) => drop(self.command(&Command::Pause(pause.clone()))),
            Asked::End(end) => drop(self.command(&Command::End(end.clone()))),
            Asked::Pool(id) => {
                if let Some(pool) = self.pools.get(id) {
                    let (worker, hint) = pools::modelled(id, pool, self.slots);
                    self.hints.workers.insert(worker, hint);
                }
            }
            Asked::Leader { gap_ms } => {
                self.state.stood_still(*gap_ms);
                self.tick();
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim { run_id, dispatch_no } => self.claim(run_id, dispatch_no),
            Step::Part { run_id, epoch, part } => self.part(run_id, epoch, part),
            Step::Finish { run_id, epoch } => self.finish(run_id, epoch),
            Step::Decide { run_id } => self.decide(run_id),
        }
    }

    /// Has a command decided. False when it was refused: it comes too late, or is over by itself.
    fn command(&mut self, command: &Command) -> bool {
        let Ok(decided) = self.state.turn(command, &self.hints, self.now) else { return false };
        self.take(&decided.events);
        if decided.more {
            self.tick();
        }
        true
    }

    fn facts(&mut self, events: Vec<Event>) {
        let decided = self.state.carry_out(events, &self.hints, self.now);
        self.take(&decided.events);
        if decided.more {
            self.tick();
        }
    }

    fn tick(&mut self) {
        let mut nothing = true;
        loop {
            let decided = self.state.tick(&self.hints, self.now);
            nothing &= decided.events.is_empty();
            self.take(&decided.events);
            if !decided.more {
                break;
            }
        }
        self.idle_at = nothing.then_some(self.now);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the workers of the model have nothing to do with the others")]
    fn take(&mut self, events: &[Event]) {
        if !events.is_empty() {
            self.idle_at = None;
        }
        for event in events {
            self.hints.observe(event, self.now);
            match event {
                Event::RunDispatched { run_id, dispatch_no, queue_wait_ms, .. } => {
                    self.dispatched(*run_id, *dispatch_no, *queue_wait_ms);
                }
                Event::RunClaimed { run_id, epoch, .. } => self.claimed(*run_id, *epoch),
                Event::RunStopRequested { run_id, cause, .. } => self.told_to_stop(*run_id, cause),
                Event::RunStalled { run_id, .. } | Event::RunParked { run_id, .. } => self.asks(*run_id),
                Event::RunSettled { run, .. } => drop(self.live.remove(&run.run_id)),
                _ => {}
            }
        }
    }

    fn recorded(&self, id: RunId) -> Option<&RecordedRun> {
        self.work.index.get(&id).and_then(|index| self.work.runs.get(*index))
    }

    fn dispatched(&mut self, run_id: RunId, dispatch_no: u32, wait_ms: u64) {
        if let Some(wait) = self.work.index.get(&run_id).and_then(|index| self.result.waits.get_mut(*index)) {
            wait.get_or_insert(wait_ms);
        }
        let nth = dispatch_no as usize - 1;
        let (after_ms, order) = match self.recorded(run_id).and_then(|run| run.dispatches.get(nth)) {
            Some(Dispatch::Claimed { after_ms, order, .. }) => (*after_ms, *order),
            // It returns to its queue by itself.
            Some(Dispatch::Ignored) => return,
            Some(Dispatch::Open { unclaimed_ms }) => (self.work.typical.claim_ms().max(*unclaimed_ms), LAST),
            None => (self.work.typical.claim_ms(), LAST),
        };
        self.schedule(after_ms, order, Step::Claim { run_id, dispatch_no });
    }

    /// A person decides as long after the run began to wait as was recorded.
    fn asks(&mut self, run_id: RunId) {
        let nth = self.live.entry(run_id).or_default().decisions;
        let Some(decision) = self.recorded(run_id).and_then(|run| run.decisions.get(nth)) else { return };
        let (after_ms, order) = (decision.after_ms, decision.order);
        self.schedule(after_ms, order, Step::Decide { run_id });
    }

    fn decide(&mut self, run_id: RunId) {
        let live = self.live.entry(run_id).or_default();
        let nth = live.decisions;
        live.decisions += 1;
        let Some(decided) = self.recorded(run_id).and_then(|run| run.decisions.get(nth)) else { return };
        let (actor, reason) = (decided.actor.clone(), decided.reason.clone());
        let decide = Decide { run_id, decision: decided.decision, approval_id: None, actor, reason };
        self.command(&Command::Decide(decide));
    }
}

#[cfg(test)]
mod tests;
