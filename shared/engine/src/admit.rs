//! Admission: one check over everything that can hold a run, and the choice among those that nothing holds.
//!
//! The order of the choice: lanes by their shares, then priority, then owners and keys in turn, then submit order. In
//! this order the first head that only waits for a bucket closes that bucket for all behind it, so that nothing passes it.

use laneway_contract::{
    BudgetOwner, Hold, Holder, Lane, Limits, ModelId, PoolId, RateCause, RateKind, Reservation, RunId, Scope,
    Timestamp, WaitReason,
};

use crate::budget::Amount;
use crate::hints::Hints;
use crate::queue::{Class, Rank};
use crate::rates::Rates;
use crate::run::{Phase, Run};
use crate::session::Session;
use crate::slots::{Gauge, Slots};
use crate::state::State;

/// The most holders that a hold names.
const MAX_HOLDERS: usize = 20;

/// The state as admission sees it, under its limits or under others that somebody asks about.
pub(crate) struct Admission<'a> {
    state: &'a State,
    slots: &'a Slots,
    limits: &'a Limits,
    now: Timestamp,
    pools: Vec<Pool<'a>>,
    cooling: Vec<Cooling<'a>>,
}

/// A cool-down that may hold runs.
#[derive(Clone, Copy)]
struct Cooling<'a> {
    scope: &'a Scope,
    until: Timestamp,
    allowed: u32,
    /// Runs that were dispatched since its end and hold a slot.
    probes: u32,
}

/// A pool with its free slots: those of its live workers − what they execute − the pool's unclaimed dispatches.
struct Pool<'a> {
    id: &'a PoolId,
    free: i64,
    workers: Vec<&'a crate::hints::WorkerHint>,
}

/// What is to be done next.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// The run to dispatch.
    pub(crate) next: Option<Chosen>,
    /// A wait for a rate to be recorded first.
    pub(crate) record: Option<RateWait>,
    /// When a head that waits for a rate or a cool-down can go on, unless something happens before.
    pub(crate) wake: Option<Timestamp>,
}

/// A run that nothing holds.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) run: RunId,
    pub(crate) pool: PoolId,
    pub(crate) reserved: Reservation,
}

/// A wait for a rate that was not recorded before.
#[derive(Debug)]
pub(crate) struct RateWait {
    pub(crate) run: RunId,
    pub(crate) cause: RateCause,
    pub(crate) wait_ms: u64,
    pub(crate) bucket: Option<(String, i64)>,
}

/// The bit of a cause in [`Run::rates_recorded`].
pub(crate) const fn bit(cause: RateCause) -> u8 {
    match cause {
        RateCause::RequestsPerMinute => 1,
        RateCause::TokensPerMinute => 2,
        RateCause::Provider => 4,
        RateCause::CoolDown => 8,
    }
}

/// A head among those of all lanes: smaller is sooner.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    start: u64,
    lane: Lane,
    rank: Rank,
    run: RunId,
}

/// Why a candidate is not dispatched now.
enum Held {
    /// By something whose end is an event.
    Otherwise,
    /// Until a time, by a cool-down.
    CoolDown(u64),
    /// By a bucket that lacks tokens or requests.
    Bucket(RateKind, Scope, u64),
}

impl<'a> Admission<'a> {
    pub(crate) fn new(state: &'a State, hints: &'a Hints, now: Timestamp) -> Self {
        let (pools, cooling) = (pools(state, hints, now), cooling(state, now));
        Self { state, slots: &state.slots, limits: &state.limits, now, pools, cooling }
    }

    /// The same state under other limits.
    pub(crate) fn under(&self, slots: &'a Slots, limits: &'a Limits, hints: &'a Hints) -> Self {
        let Self { state, now, .. } = *self;
        Self { state, slots, limits, now, pools: pools(state, hints, now), cooling: self.cooling.clone() }
    }

    /// The run to dispatch next, if any.
    pub(crate) fn choose(&self) -> Choice {
        if self.slots.global.is_full(Lane::Primary) || self.pools.iter().all(|pool| pool.free <= 0) {
            return Choice::default();
        }
        // Nearly always the first is the one; only when something else holds it are the others looked at in order.
        let Some(first) = self.candidates().min() else { return Choice::default() };
        if let Ok(chosen) = self.admit(first.run, &[]) {
            return Choice { next: Some(chosen), ..Choice::default() };
        }
        let mut candidates: Vec<Candidate> = self.candidates().collect();
        candidates.sort_unstable();
        let mut choice = Choice::default();
        let mut closed = Vec::new();
        for Candidate { run, .. } in candidates {
            let held = match self.admit(run, &closed) {
                Ok(chosen) => {
                    choice.next = Some(chosen);
                    return choice;
                }
                Err(held) => held,
            };
            let (wait_ms, record) = match held {
                Held::Otherwise => continue,
                Held::CoolDown(wait_ms) => {
                    (wait_ms, RateWait { run, cause: RateCause::CoolDown, wait_ms, bucket: None })
                }
                Held::Bucket(kind, scope, wait_ms) => {
                    let (cause, name) = match kind {
                        RateKind::Requests => (RateCause::RequestsPerMinute, "requests_per_minute"),
                        RateKind::Tokens => (RateCause::TokensPerMinute, "tokens_per_minute"),
                    };
                    let level = self.state.rates.level(self.limits, kind, &scope, self.now).unwrap_or(0);
                    let bucket = Some((format!("{name}:{scope}"), level));
                    closed.push(scope);
                    (wait_ms, RateWait { run, cause, wait_ms, bucket })
                }
            };
            let wake = self.now.plus_millis(wait_ms as i64);
            choice.wake = Some(choice.wake.map_or(wake, |known| known.min(wake)));
            let recorded = self.state.runs.get(&run).is_none_or(|run| run.rates_recorded & bit(record.cause) != 0);
            if !recorded {
                choice.record = Some(record);
                return choice;
            }
        }
        choice
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.state.queues.classes().filter_map(|class| {
            let (rank, run) = class.first()?;
            let lane = class.name.lane;
            let start = self.state.queues.lanes.start(lane);
            (!self.slots.hold(class)).then_some(Candidate { start, lane, rank, run })
        })
    }

    /// Admits a head whose class no concurrency limit holds.
    fn admit(&self, id: RunId, closed: &[Scope]) -> Result<Chosen, Held> {
        let run = self.state.runs.get(&id).ok_or(Held::Otherwise)?;
        let session = self.state.sessions.get(&run.record.session_id).ok_or(Held::Otherwise)?;
        let model = &run.record.fields.model_id;
        let timed = self.state.is_timed() || self.limits.has_rates();
        if let Some(until) = self.cool_downs(model).map(|cool| cool.until).max() {
            let wait_ms = until.millis_since(self.now);
            return Err(if wait_ms > 0 { Held::CoolDown(wait_ms) } else { Held::Otherwise });
        }
        let pool = self.pool(model).map_err(|_| Held::Otherwise)?;
        let estimate = self.state.estimate(run, session);
        if !timed {
            let reserved = reservation(estimate, 0, 0);
            return Ok(Chosen { run: id, pool: pool.clone(), reserved });
        }
        // One that is behind a closed bucket waits for that, and closes no other.
        if closed.iter().any(|scope| scope.covers(model)) {
            return Err(Held::Otherwise);
        }
        for (kind, scope, needs) in self.buckets(model, estimate) {
            let wait_ms = self.state.rates.wait_ms(self.limits, kind, &scope, needs as i64, self.now);
            if wait_ms > 0 {
                return Err(Held::Bucket(kind, scope, wait_ms));
            }
        }
        let [provider, of_model] = scopes(model);
        let needs = |scope| Rates::needs(self.limits, RateKind::Tokens, scope, estimate.tokens);
        Ok(Chosen { run: id, pool: pool.clone(), reserved: reservation(estimate, needs(&provider), needs(&of_model)) })
    }

    /// What a call takes of which buckets, in the order of admission.
    fn buckets(&self, model: &ModelId, estimate: Amount) -> impl Iterator<Item = (RateKind, Scope, u64)> {
        let limits = self.limits;
        let kinds = [RateKind::Requests, RateKind::Tokens];
        let all = kinds.into_iter().flat_map(|kind| scopes(model).map(|scope| (kind, scope)));
        all.map(move |(kind, scope)| {
            let needs = Rates::needs(limits, kind, &scope, estimate.tokens);
            (kind, scope, needs)
        })
    }

    /// The cool-downs that hold runs of a model now: until a time, or because as many try it out as may.
    fn cool_downs(&self, model: &ModelId) -> impl Iterator<Item = &Cooling<'a>> {
        let holds = |cool: &&Cooling<'_>| cool.until > self.now || cool.probes >= cool.allowed;
        self.cooling.iter().filter(|cool| cool.scope.covers(model)).filter(holds)
    }

    /// The pool that serves a model and has the most free slots, by name among equals.
    fn pool(&self, model: &ModelId) -> Result<&'a PoolId, WaitReason> {
        let serving = |pool: &&Pool<'a>| pool.workers.iter().any(|worker| worker.serves(model));
        let best = self.pools.iter().rev().filter(serving).max_by_key(|pool| pool.free);
        let best = best.ok_or(WaitReason::NoWorker)?;
        if best.free > 0 { Ok(best.id) } else { Err(WaitReason::WorkersBusy) }
    }

    /// Everything that holds a run, in the order of admission. Nothing for one that is dispatched or executing.
    pub(crate) fn holds(&self, run: &Run) -> Vec<Hold> {
        let Some(session) = self.state.sessions.get(&run.record.session_id) else { return Vec::new() };
        let mut holds = Vec::new();
        match run.phase {
            Phase::Dispatched { .. } | Phase::Running { .. } | Phase::Stalled | Phase::AwaitingUser => return holds,
            Phase::Backoff { until } => {
                return vec![Hold { until: Some(until), ..hold(WaitReason::RetryBackoff, "retry_backoff") }];
            }
            Phase::Delayed { until } => {
                holds.push(Hold { until: Some(until), ..hold(WaitReason::NotBefore, "not_before") });
            }
            Phase::Queued => holds.extend(self.before(run, session)),
        }
        if session.paused.is_some() {
            holds.push(hold(WaitReason::Paused, &format!("session:{}", session.creation.session_id)));
        }
        let class = self.state.queues.class(run.class);
        let lane = class.name.lane;
        holds.extend(self.slots.of(class).filter(|(_, gauge)| gauge.is_full(lane)).map(|(reason, gauge)| Hold {
            limit: gauge.limit.map(u64::from),
            level: Some(i64::from(gauge.used)),
            needs: Some(1),
            holders: self.holders(class, gauge),
            ..hold(reason, &gauge.what.to_string())
        }));
        let model = &run.record.fields.model_id;
        holds.extend(self.cool_downs(model).map(|cool| Hold {
            until: (cool.until > self.now).then_some(cool.until),
            limit: Some(u64::from(cool.allowed)),
            level: Some(i64::from(cool.probes)),
            needs: Some(1),
            holders: probes(self.state, cool.scope, cool.until).take(MAX_HOLDERS).map(holder).collect(),
            ..hold(WaitReason::CoolDown, &cool.scope.to_string())
        }));
        let estimate = self.state.estimate(run, session);
        holds.extend(
            self.buckets(model, estimate).filter_map(|(kind, scope, needs)| self.bucket_hold(kind, &scope, needs)),
        );
        holds.extend(self.budget_holds(session, estimate));
        if let Err(reason) = self.pool(model) {
            holds.push(hold(reason, model.as_str()));
        }
        // Nothing of its own holds it, and yet it was not chosen: another head goes first, or waits for tokens before it.
        if holds.is_empty() {
            holds.push(hold(WaitReason::Turn, &lane.to_string()));
        }
        holds
    }

    /// The run of the same session that goes before this one.
    fn before(&self, run: &Run, session: &Session) -> Option<Hold> {
        let first = session.queue.values().next().copied();
        let before = session.current.or(first.filter(|first| *first != run.record.run_id))?;
        let since = self.state.runs.get(&before).and_then(|run| run.record.status.dispatched_at);
        let holder = Holder { run_id: before, session_id: session.creation.session_id, since };
        Some(Hold { holders: vec![holder], ..hold(WaitReason::SessionBusy, &format!("run:{before}")) })
    }

    fn bucket_hold(&self, kind: RateKind, scope: &Scope, needs: u64) -> Option<Hold> {
        let wait_ms = self.state.rates.wait_ms(self.limits, kind, scope, needs as i64, self.now);
        let rate = self.limits.rate(kind, scope).filter(|_| wait_ms > 0)?;
        let (reason, name) = match kind {
            RateKind::Requests => (WaitReason::RequestsPerMinute, "requests_per_minute"),
            RateKind::Tokens => (WaitReason::TokensPerMinute, "tokens_per_minute"),
        };
        Some(Hold {
            limit: Some(rate.per_minute),
            level: self.state.rates.level(self.limits, kind, scope, self.now),
            needs: Some(needs),
            until: Some(self.now.plus_millis(wait_ms as i64)),
            ..hold(reason, &format!("{name}:{scope}"))
        })
    }

    /// A time before which the run does not start unless somebody changes something: when the last of what holds it for a
    /// known time has ended, even if every running call gives back all that it has reserved.
    pub(crate) fn earliest_start(&self, run: &Run) -> Option<Timestamp> {
        let session = self.state.sessions.get(&run.record.session_id)?;
        let model = &run.record.fields.model_id;
        let own = match run.phase {
            Phase::Backoff { until } | Phase::Delayed { until } => Some(until),
            Phase::Queued => None,
            Phase::Dispatched { .. } | Phase::Running { .. } | Phase::Stalled | Phase::AwaitingUser => return None,
        };
        let cool = self.cool_downs(model).map(|cool| cool.until);
        let estimate = self.state.estimate(run, session);
        let buckets = self.buckets(model, estimate).map(|(kind, scope, needs)| {
            let needs = (needs as i64).saturating_sub(self.state.outstanding(kind, &scope));
            self.now.plus_millis(self.state.rates.wait_ms(self.limits, kind, &scope, needs, self.now) as i64)
        });
        own.into_iter().chain(cool).chain(buckets).filter(|at| *at > self.now).max()
    }

    fn budget_holds(&self, session: &Session, estimate: Amount) -> Vec<Hold> {
        let packet = session.creation.fields.wp_id.clone();
        let of_packet = packet.map(|id| (self.state.work_packet_budget(&id), BudgetOwner::WorkPacket(id)));
        let of_session = (session.budget, BudgetOwner::Session(session.creation.session_id));
        let held = [Some(of_session), of_packet].into_iter().flatten().filter(|(account, _)| !account.fits(estimate));
        held.map(|(account, owner)| {
            let left = account.left();
            let (limit, level, needs) = if estimate.tokens > left.tokens || left.tokens == 0 {
                (account.lines().0.limit, left.tokens, estimate.tokens)
            } else {
                (account.lines().1.limit.map(|usd| usd.0), left.usd, estimate.usd)
            };
            let level = Some(i64::try_from(level).unwrap_or(i64::MAX));
            Hold { limit, level, needs: Some(needs), ..hold(WaitReason::Budget, &owner.to_string()) }
        })
        .collect()
    }

    /// Who holds a limit now.
    fn holders(&self, class: &Class, gauge: &Gauge) -> Vec<Holder> {
        let queues = &self.state.queues;
        let holds_it = |run: &&Run| self.slots.of(queues.class(run.class)).any(|(_, other)| other.what == gauge.what);
        let blocks = |run: &&Run| {
            // What keeps another lane out is what is not PRIMARY, or everything.
            let full = gauge.limit.is_some_and(|limit| gauge.used >= limit);
            full || class.name.lane == Lane::Primary || run.record.fields.lane != Lane::Primary
        };
        self.state.holding().filter(holds_it).filter(blocks).take(MAX_HOLDERS).map(holder).collect()
    }
}

fn holder(run: &Run) -> Holder {
    let (run_id, session_id) = (run.record.run_id, run.record.session_id);
    Holder { run_id, session_id, since: run.record.status.dispatched_at }
}

/// The runs that were dispatched since the end of a cool-down and hold a slot. Calls that have gone on since before it say
/// nothing about what comes after, and may take long.
fn probes<'a>(state: &'a State, scope: &'a Scope, until: Timestamp) -> impl Iterator<Item = &'a Run> {
    let since = move |run: &&Run| run.record.status.dispatched_at.is_some_and(|at| at >= until);
    state.holding().filter(|run| scope.covers(&run.record.fields.model_id)).filter(since)
}

fn cooling(state: &State, now: Timestamp) -> Vec<Cooling<'_>> {
    let cooling = state.cool_downs.iter().filter_map(|(scope, cool)| {
        let (until, allowed) = (cool.until, cool.allowed?);
        let probes = if until > now { 0 } else { probes(state, scope, until).count() as u32 };
        Some(Cooling { scope, until, allowed, probes })
    });
    cooling.collect()
}

/// A provider and one of its models, as buckets and cool-downs are kept.
pub(crate) fn scopes(model: &ModelId) -> [Scope; 2] {
    [Scope::Provider(model.provider().to_owned()), Scope::Model(model.clone())]
}

fn reservation(estimate: Amount, provider_tokens: u64, model_tokens: u64) -> Reservation {
    let cost_usd = laneway_contract::MicroUsd(estimate.usd);
    Reservation { tokens: estimate.tokens, cost_usd, provider_tokens, model_tokens }
}

fn hold(reason: WaitReason, name: &str) -> Hold {
    let name = name.to_owned();
    Hold { reason, name, limit: None, level: None, needs: None, until: None, holders: Vec::new() }
}

fn pools<'a>(state: &State, hints: &'a Hints, now: Timestamp) -> Vec<Pool<'a>> {
    let mut pools: std::collections::BTreeMap<&PoolId, Pool<'a>> = std::collections::BTreeMap::new();
    for (worker_id, worker) in &hints.workers {
        if worker.valid_until <= now || worker.slots == 0 {
            continue;
        }
        let executing = state.slots.workers.get(worker_id).copied().unwrap_or(0);
        let unclaimed = || i64::from(state.slots.unclaimed.get(&worker.pool).copied().unwrap_or(0));
        let pool = pools.entry(&worker.pool).or_insert_with(|| Pool {
            id: &worker.pool,
            free: -unclaimed(),
            workers: Vec::new(),
        });
        // A worker executes more than its slots after it came back with fewer: it adds nothing and takes nothing.
        pool.free += i64::from(worker.slots.saturating_sub(executing));
        pool.workers.push(worker);
    }
    pools.into_values().collect()
}
