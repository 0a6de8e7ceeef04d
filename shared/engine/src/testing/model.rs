//! The rules of admission once more, slow and obvious: every decision is worked out from all runs and the history. It folds
//! the same events, and says before each dispatch which run it has to be.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{
    BudgetOwner, BudgetType, CoolDown, Decision, Estimate, Event, Finish, Lane, LimitChange, Limits, MicroUsd, ModelId,
    OnBusy, PoolId, RateCause, RateKind, Reservation, RunFields, RunId, RunRecord, Scope, SessionId, Timestamp,
    WorkerId,
};

use crate::WorkerHint;

/// Workers that the leader has heard.
pub type Workers = BTreeMap<WorkerId, WorkerHint>;

/// Units of a request or token in a bucket.
const UNITS: i128 = 60_000;

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before its `not_before`.
    Delayed,
    /// It waits.
    Queued,
    /// Nobody has claimed it yet.
    Dispatched(PoolId),
    /// A worker executes it.
    Running(WorkerId),
    /// It is tried again later.
    Backoff,
    /// It waits for a person.
    Parked,
}

/// A run that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct ModelRun {
    record: RunRecord,
    pub(crate) place: Place,
    order: u64,
    decided: bool,
    /// It goes on with the attempt that asked; and while that executes.
    goes_on: bool,
    claimed: bool,
    estimate: Estimate,
    /// With the number of changes of limits until then.
    reserved: (Reservation, u64),
    unknown: (Reservation, u64),
    dispatched_at: Timestamp,
    usage: u64,
    usd: u64,
}

/// A budget. Pairs are tokens and millionths of a US dollar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The most of each.
    pub most: (Option<u64>, Option<u64>),
    /// What is charged.
    pub used: (u64, u64),
    /// What calls under way may use.
    pub reserved: (u64, u64),
}

#[derive(Clone, Debug)]
struct ModelSession {
    wp: Option<String>,
    paused: bool,
    closed: bool,
    window: u64,
}

/// All that admission looks at, as a fold of the events.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The limits in force.
    pub limits: Limits,
    /// Every run that has not ended.
    pub(crate) runs: BTreeMap<RunId, ModelRun>,
    sessions: BTreeMap<SessionId, ModelSession>,
    /// Budgets of sessions and work packets, also of sessions that memory has given up.
    pub budgets: BTreeMap<BudgetOwner, Budget>,
    /// Warnings since a budget was set.
    warned: BTreeSet<(BudgetOwner, BudgetType)>,
    /// Units, when, and the change of limits that made it.
    buckets: BTreeMap<(RateKind, Scope), (i128, i64, u64)>,
    changes: u64,
    /// Waits for a rate that were recorded.
    recorded: BTreeSet<(RunId, RateCause)>,
    still_ms: i64,
    cool: BTreeMap<Scope, CoolDown>,
    pass: BTreeMap<Lane, u64>,
    virtual_time: u64,
    /// When each owner and key of a level was served last, or arrived.
    owners: BTreeMap<(Lane, u32, String), u64>,
    keys: BTreeMap<(Lane, u32, String), u64>,
    turns: u64,
    orders: u64,
    /// Runs that a newer one of their session replaces.
    giving_way: BTreeSet<RunId>,
}

fn level(run: &ModelRun) -> (Lane, u32) {
    (run.record.fields.lane, run.record.fields.priority)
}

fn owner_of(key: &str) -> &str {
    key.split('/').next().unwrap()
}

fn scopes(model: &ModelId) -> [Scope; 2] {
    [Scope::Provider(model.provider().to_owned()), Scope::Model(model.clone())]
}

fn cause_of(kind: RateKind) -> RateCause {
    match kind {
        RateKind::Requests => RateCause::RequestsPerMinute,
        RateKind::Tokens => RateCause::TokensPerMinute,
    }
}

impl Model {
    fn holding(&self) -> impl Iterator<Item = &ModelRun> {
        self.runs.values().filter(|run| matches!(run.place, Place::Dispatched(_) | Place::Running(_)))
    }

    /// The concurrency limits of a run: how many of its kind hold a slot (of them, not PRIMARY), and the limit.
    fn limits_of(&self, run: &ModelRun) -> Vec<(usize, usize, u32)> {
        let fields = &run.record.fields;
        let count = |same: &dyn Fn(&RunFields) -> bool| {
            let holding: Vec<_> = self.holding().filter(|other| same(&other.record.fields)).collect();
            let others = holding.iter().filter(|run| run.record.fields.lane != Lane::Primary).count();
            (holding.len(), others)
        };
        let provider = fields.model_id.provider();
        let mut all = vec![
            (count(&|_| true), self.limits.global),
            (count(&|other| other.model_id.provider() == provider), self.limits.provider(provider)),
            (count(&|other| other.model_id == fields.model_id), self.limits.model(&fields.model_id)),
        ];
        if let Some(group) = &fields.concurrency_group
            && let Some(limit) = self.limits.group(group)
        {
            all.push((count(&|other| other.concurrency_group.as_ref() == Some(group)), limit));
        }
        all.into_iter().map(|((used, others), limit)| (used, others, limit)).collect()
    }

    fn estimate(&self, run: &ModelRun) -> (u64, u64) {
        let fields = &run.record.fields;
        let input: u64 = fields.input.iter().map(|m| m.token_count.unwrap_or(m.size.div_ceil(4))).sum();
        let window = self.sessions[&run.record.session_id].window + if run.claimed { 0 } else { input };
        let tokens = fields.estimated_tokens.unwrap_or(window + run.estimate.output_tokens);
        let price = |tokens: u64, price: Option<MicroUsd>| u128::from(tokens) * u128::from(price.unwrap_or_default().0);
        let usd = price(window, run.estimate.input_usd_per_million)
            + price(run.estimate.output_tokens, run.estimate.output_usd_per_million);
        (tokens, fields.estimated_cost_usd.map_or(usd.div_ceil(1_000_000) as u64, |usd| usd.0))
    }

    /// Whose budgets pay for a session: its own, and that of its work packet.
    fn owners(&self, session: SessionId) -> impl Iterator<Item = BudgetOwner> + use<> {
        let packet = self.sessions[&session].wp.clone().map(BudgetOwner::WorkPacket);
        std::iter::once(BudgetOwner::Session(session)).chain(packet)
    }

    /// Whose budget has no room for a run.
    #[must_use]
    pub fn unaffordable(&self, id: RunId) -> Option<BudgetOwner> {
        let run = &self.runs[&id];
        let estimate = self.estimate(run);
        self.owners(run.record.session_id)
            .find(|owner| self.budgets.get(owner).is_some_and(|budget| !budget.has_room_for(estimate)))
    }

    /// The tokens of a session's thread that are in the window of its next run.
    #[must_use]
    pub fn window(&self, session: SessionId) -> u64 {
        self.sessions[&session].window
    }

    /// What a bucket holds, in whole requests or tokens, rounded down.
    #[must_use]
    pub fn level(&self, kind: RateKind, scope: &Scope, now: Timestamp) -> Option<i64> {
        Some(self.bucket(kind, scope, now)?.div_euclid(UNITS) as i64)
    }

    /// The first bucket that lacks what a run needs of it, and for how many milliseconds.
    #[must_use]
    pub fn lacking(&self, id: RunId, now: Timestamp) -> Option<(RateKind, Scope, u64)> {
        let run = &self.runs[&id];
        let (tokens, _) = self.estimate(run);
        let kinds = [RateKind::Requests, RateKind::Tokens].into_iter();
        let mut all = kinds.flat_map(|kind| scopes(&run.record.fields.model_id).map(|scope| (kind, scope)));
        all.find_map(|(kind, scope)| {
            let missing = i128::from(self.needs(kind, &scope, tokens)) * UNITS - self.bucket(kind, &scope, now)?;
            let per_minute = self.limits.rate(kind, &scope)?.per_minute;
            (missing > 0).then(|| (kind, scope, (missing as u64).div_ceil(per_minute)))
        })
    }

    /// Whether a run's wait for a rate was recorded.
    #[must_use]
    pub fn is_recorded(&self, run: RunId, cause: RateCause) -> bool {
        self.recorded.contains(&(run, cause))
    }

    fn bucket(&self, kind: RateKind, scope: &Scope, now: Timestamp) -> Option<i128> {
        let rate = self.limits.rate(kind, scope)?;
        let (units, at, _) = self.buckets[&(kind, scope.clone())];
        let back = i128::from(rate.per_minute) * i128::from((now.millis() - self.still_ms - at).max(0));
        Some((units + back).min(i128::from(rate.capacity) * UNITS))
    }

    fn needs(&self, kind: RateKind, scope: &Scope, tokens: u64) -> u64 {
        let rate = self.limits.rate(kind, scope);
        rate.map_or(0, |rate| if kind == RateKind::Requests { 1 } else { tokens.min(rate.capacity) })
    }

    fn move_bucket(&mut self, kind: RateKind, scope: &Scope, amount: i128, taken: u64, now: Timestamp) {
        let Some(units) = self.bucket(kind, scope, now) else { return };
        let full = i128::from(self.limits.rate(kind, scope).unwrap().capacity) * UNITS;
        let clock = now.millis() - self.still_ms;
        let (_, _, made) = self.buckets[&(kind, scope.clone())];
        // A call that began before the bucket was made neither takes of it nor gives back.
        if made <= taken {
            self.buckets.insert((kind, scope.clone()), ((units + amount * UNITS).min(full), clock, made));
        }
    }

    /// The heads of all sessions, in the order of the rules.
    fn heads(&self) -> Vec<&ModelRun> {
        let mut heads = Vec::new();
        for (id, session) in &self.sessions {
            let of_session: Vec<_> = self.runs.values().filter(|run| run.record.session_id == *id).collect();
            let busy = of_session.iter().any(|run| !matches!(run.place, Place::Queued | Place::Delayed));
            let giving_way = of_session.iter().any(|run| self.giving_way.contains(&run.record.run_id));
            if busy || session.paused || session.closed || giving_way {
                continue;
            }
            let seat = |run: &&&ModelRun| {
                if run.decided {
                    (0, run.order)
                } else if run.record.fields.on_busy == OnBusy::Interrupt {
                    (1, u64::MAX - run.order)
                } else {
                    (2, run.order)
                }
            };
            heads.extend(of_session.iter().filter(|run| run.place == Place::Queued).min_by_key(seat).copied());
        }
        heads.retain(|run| self.unaffordable(run.record.run_id).is_none());
        heads.sort_by_key(|run| {
            let (lane, priority) = level(run);
            let key = &run.record.fields.fairness_key;
            let start = self.pass.get(&lane).copied().unwrap_or(0).max(self.virtual_time);
            let owner = self.owners[&(lane, priority, owner_of(key).to_owned())];
            (start, lane, priority, owner, self.keys[&(lane, priority, key.clone())], !run.decided, run.order)
        });
        heads
    }

    /// The runs that could be dispatched now, and where to: the first of them has to be.
    #[must_use]
    pub fn candidates(&self, workers: &Workers, now: Timestamp) -> Vec<(RunId, PoolId)> {
        self.look(workers, now, |_, _| ())
    }

    /// SCHED-3: a head that waits for a rate and has not said so.
    #[cfg(test)]
    pub(crate) fn silent_wait(&self, workers: &Workers, now: Timestamp) -> Option<(RunId, RateCause)> {
        let mut silent = None;
        self.look(workers, now, |run, cause| {
            if !self.is_recorded(run, cause) {
                silent = Some((run, cause));
            }
        });
        silent
    }

    fn look(&self, workers: &Workers, now: Timestamp, mut waits: impl FnMut(RunId, RateCause)) -> Vec<(RunId, PoolId)> {
        let (mut closed, mut candidates) = (Vec::<Scope>::new(), Vec::new());
        'heads: for run in self.heads() {
            let other = run.record.fields.lane != Lane::Primary;
            for (used, others, limit) in self.limits_of(run) {
                let limit = limit as usize;
                if used >= limit || (other && others >= limit - limit / 4) {
                    continue 'heads;
                }
            }
            let model = &run.record.fields.model_id;
            for scope in scopes(model) {
                let Some(cool) = self.cool.get(&scope) else { continue };
                let since = |other: &&ModelRun| other.dispatched_at >= cool.until;
                let in_flight =
                    self.holding().filter(|other| scopes(&other.record.fields.model_id).contains(&scope)).filter(since);
                if cool.allowed.is_some_and(|allowed| cool.until > now || in_flight.count() >= allowed as usize) {
                    continue 'heads;
                }
            }
            let Some(pool) = self.free_pool(model, workers, now) else { continue };
            if closed.iter().any(|scope| scopes(model).contains(scope)) {
                continue;
            }
            if let Some((kind, scope, _)) = self.lacking(run.record.run_id, now) {
                waits(run.record.run_id, cause_of(kind));
                closed.push(scope);
                continue;
            }
            candidates.push((run.record.run_id, pool));
        }
        candidates
    }

    /// The pool that serves the model and has the most free slots, the first by name among equals, if it has any.
    fn free_pool(&self, model: &ModelId, workers: &Workers, now: Timestamp) -> Option<PoolId> {
        let live = || workers.iter().filter(|(_, worker)| worker.valid_until > now && worker.slots > 0);
        let pools: BTreeSet<_> = live().map(|(_, worker)| worker.pool.clone()).collect();
        let serving = pools.into_iter().filter(|pool| live().any(|(_, w)| w.pool == *pool && w.serves(model)));
        let free = serving.map(|pool| {
            let of_pool = live().filter(|(_, worker)| worker.pool == pool);
            let slots: i64 = of_pool
                .map(|(id, worker)| {
                    let executing = self.runs.values().filter(|run| run.place == Place::Running(id.clone())).count();
                    (i64::from(worker.slots) - executing as i64).max(0)
                })
                .sum();
            let unclaimed = self.runs.values().filter(|run| run.place == Place::Dispatched(pool.clone())).count();
            (slots - unclaimed as i64, pool)
        });
        let best = free.max_by(|(free, pool), (other, its)| free.cmp(other).then_with(|| its.cmp(pool)));
        best.and_then(|(free, pool)| (free > 0).then_some(pool))
    }

    fn charge(&mut self, session: SessionId, change: impl Fn(&mut Budget)) {
        for owner in self.owners(session) {
            change(self.budgets.entry(owner).or_default());
        }
    }

    /// What an attempt has used, when that is known; its reservation is over in any case.
    fn settle(&mut self, id: RunId, usage: Option<(u64, u64)>, now: Timestamp) {
        let run = self.runs.get_mut(&id).unwrap();
        let session = run.record.session_id;
        let used = usage.map(|(tokens, usd)| (tokens - run.usage, usd - run.usd));
        if let Some((tokens, usd)) = usage {
            (run.usage, run.usd) = (tokens, usd);
        }
        let called = matches!(run.place, Place::Running(_));
        let [provider, of_model] = scopes(&run.record.fields.model_id);
        // What a lost attempt has used was charged as its estimate, until this says better.
        if let Some(spent) = used.filter(|used| !called && *used != (0, 0)) {
            let run = self.runs.get_mut(&id).unwrap();
            let charged = std::mem::take(&mut run.unknown);
            self.give_back(&provider, &of_model, charged, spent.0, now);
            let (charged, _) = charged;
            self.charge(session, |budget| {
                budget.used.0 = budget.used.0 - charged.tokens + spent.0;
                budget.used.1 = budget.used.1 - charged.cost_usd.0 + spent.1;
            });
        }
        let run = self.runs.get_mut(&id).unwrap();
        if !matches!(run.place, Place::Dispatched(_) | Place::Running(_)) {
            return;
        }
        let (reserved, taken) = std::mem::take(&mut run.reserved);
        if !called || used.is_none() {
            for scope in [&provider, &of_model] {
                self.move_bucket(RateKind::Requests, scope, 1, taken, now);
            }
        }
        let spent = used.filter(|_| called).unwrap_or((0, 0));
        self.give_back(&provider, &of_model, (reserved, taken), spent.0, now);
        self.charge(session, |budget| {
            budget.reserved.0 -= reserved.tokens;
            budget.reserved.1 -= reserved.cost_usd.0;
            budget.used.0 += spent.0;
            budget.used.1 += spent.1;
        });
    }

    /// Reserved tokens come back, less those that were used.
    fn give_back(
        &mut self,
        provider: &Scope,
        model: &Scope,
        (reserved, taken): (Reservation, u64),
        used: u64,
        now: Timestamp,
    ) {
        let back = |reserved: u64| i128::from(reserved) - i128::from(used);
        self.move_bucket(RateKind::Tokens, provider, back(reserved.provider_tokens), taken, now);
        self.move_bucket(RateKind::Tokens, model, back(reserved.model_tokens), taken, now);
    }

    /// Nobody could write for this long: buckets stood still.
    pub fn stood_still(&mut self, gap_ms: u64) {
        self.still_ms += gap_ms as i64;
    }

    /// Folds an event. Which run a dispatch has to be is asked before ([`Model::candidates`]); what it reserves is checked here.
    pub fn fold(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::LimitsChanged { changes, .. } => self.relimit(changes, now),
            Event::BudgetSet { owner, tokens, usd, .. } => {
                let budget = self.budgets.entry(owner.clone()).or_default();
                budget.most = (*tokens, usd.map(|usd| usd.0));
                self.warned.retain(|(of, _)| of != owner);
            }
            Event::BudgetWarned { owner, budget_type, current_value, threshold_value, .. } => {
                let of = &self.budgets[owner];
                let at = if *budget_type == BudgetType::Tokens { of.used.0 } else { of.used.1 };
                assert!(at == *current_value && at >= *threshold_value, "{owner} warns of {budget_type} at {at}");
                assert!(self.warned.insert((owner.clone(), *budget_type)), "{owner} warns of {budget_type} twice");
            }
            Event::CoolDownChanged { scope, cool_down: Some(cool) } => drop(self.cool.insert(scope.clone(), *cool)),
            Event::CoolDownChanged { scope, cool_down: None } => drop(self.cool.remove(scope)),
            Event::SessionCreated { session, .. } => {
                let (id, fields) = (session.session_id, &session.fields);
                let model = ModelSession { wp: fields.wp_id.clone(), paused: false, closed: false, window: 0 };
                self.sessions.insert(id, model);
                let budget = self.budgets.entry(BudgetOwner::Session(id)).or_default();
                budget.most = (fields.budget_tokens, fields.budget_usd.map(|usd| usd.0));
            }
            Event::SessionPauseSet { session_id, paused, .. } => {
                self.sessions.get_mut(session_id).unwrap().paused = *paused;
            }
            Event::SessionEndRequested { session_id, .. } => self.sessions.get_mut(session_id).unwrap().closed = true,
            Event::SessionStateChanged { session_id, status, .. } if status.state.is_terminal() => {
                self.sessions.get_mut(session_id).unwrap().closed = true;
            }
            Event::MessageAppended(message) if message.finish.is_none_or(Finish::in_later_windows) => {
                let tokens = message.token_count.unwrap_or(message.size.div_ceil(4));
                self.sessions.get_mut(&message.session_id).unwrap().window += tokens;
            }
            Event::RunQueued { run, estimate, .. } => self.queued(run, *estimate, now),
            Event::RunRateLimited { run_id, cause, .. } => {
                assert!(self.recorded.insert((*run_id, *cause)), "SCHED-3: {run_id} waits for {cause} twice");
            }
            Event::RunDispatched { run_id, pool, reserved, .. } => {
                self.dispatched(*run_id, pool, *reserved, now);
            }
            Event::RunReturned { run_id, .. } => {
                if !matches!(self.runs[run_id].place, Place::Backoff | Place::Delayed) {
                    self.settle(*run_id, None, now);
                }
                let run = self.runs.get_mut(run_id).unwrap();
                run.decided |= run.goes_on && matches!(run.place, Place::Running(_));
                run.place = Place::Queued;
            }
            Event::RunClaimed { run_id, worker_id, .. } => {
                let run = self.runs.get_mut(run_id).unwrap();
                run.place = Place::Running(worker_id.clone());
                run.claimed = true;
                run.goes_on &= run.decided;
                run.decided = false;
                run.unknown = Default::default();
            }
            Event::LeaseExpired { run_id, .. } => {
                let run = self.runs.get_mut(run_id).unwrap();
                let session = run.record.session_id;
                // It executes no more: usage that is told now corrects what is charged here.
                run.place = Place::Backoff;
                run.unknown = std::mem::take(&mut run.reserved);
                let (reserved, _) = run.unknown;
                self.charge(session, |budget| {
                    budget.reserved.0 -= reserved.tokens;
                    budget.reserved.1 -= reserved.cost_usd.0;
                    budget.used.0 += reserved.tokens;
                    budget.used.1 += reserved.cost_usd.0;
                });
            }
            Event::RunRetryScheduled { run_id, usage, cost_usd, .. } => {
                self.settle(*run_id, Some((usage.total(), cost_usd.unwrap_or_default().0)), now);
                self.runs.get_mut(run_id).unwrap().place = Place::Backoff;
            }
            Event::RunParked { run_id, usage, cost_usd, .. } | Event::RunStalled { run_id, usage, cost_usd, .. } => {
                self.settle(*run_id, Some((usage.total(), cost_usd.unwrap_or_default().0)), now);
                self.runs.get_mut(run_id).unwrap().place = Place::Parked;
            }
            Event::RunDecided { run_id, decision: decision @ (Decision::Approve | Decision::Retry), .. } => {
                let run = self.runs.get_mut(run_id).unwrap();
                run.place = Place::Queued;
                run.decided = true;
                run.goes_on = *decision == Decision::Approve;
            }
            Event::RunSettled { run, .. } => {
                let usd = run.status.cost_usd.unwrap_or_default().0;
                self.settle(run.run_id, Some((run.status.usage.total(), usd)), now);
                self.runs.remove(&run.run_id);
                self.giving_way.remove(&run.run_id);
                self.forget();
            }
            _ => {}
        }
    }

    fn relimit(&mut self, changes: &[LimitChange], now: Timestamp) {
        let mut limits = self.limits.clone();
        for change in changes {
            limits.set(change.name.clone(), change.to);
        }
        let old: BTreeMap<_, _> =
            self.buckets.keys().map(|(kind, scope)| ((*kind, scope.clone()), self.bucket(*kind, scope, now))).collect();
        self.limits = limits.clone();
        self.changes += 1;
        let before = std::mem::take(&mut self.buckets);
        for (kind, scope) in limits.rates() {
            let full = i128::from(limits.rate(kind, &scope).unwrap().capacity) * UNITS;
            let key = (kind, scope);
            let units = old.get(&key).copied().flatten().unwrap_or(full).min(full);
            let made = before.get(&key).map_or(self.changes, |(_, _, made)| *made);
            self.buckets.insert(key, (units, now.millis() - self.still_ms, made));
        }
    }

    fn queued(&mut self, run: &RunRecord, estimate: Estimate, now: Timestamp) {
        self.orders += 1;
        let fields = &run.fields;
        for (known, name) in
            [(&mut self.owners, owner_of(&fields.fairness_key)), (&mut self.keys, &fields.fairness_key)]
        {
            known.entry((fields.lane, fields.priority, name.to_owned())).or_insert_with(|| {
                self.turns += 1;
                self.turns
            });
        }
        if fields.on_busy == OnBusy::ReplaceQueued {
            let waiting = self.runs.values().filter(|other| {
                let waits = matches!(other.place, Place::Queued | Place::Delayed) && !other.decided;
                waits && other.record.session_id == run.session_id
            });
            self.giving_way.extend(waiting.map(|other| other.record.run_id));
        }
        let late = fields.not_before.is_some_and(|at| at > now);
        let queued = ModelRun {
            record: run.clone(),
            place: if late { Place::Delayed } else { Place::Queued },
            order: self.orders,
            decided: false,
            goes_on: false,
            claimed: false,
            estimate,
            reserved: Default::default(),
            unknown: Default::default(),
            dispatched_at: now,
            usage: 0,
            usd: 0,
        };
        self.runs.insert(run.run_id, queued);
    }

    fn dispatched(&mut self, id: RunId, pool: &PoolId, reserved: Reservation, now: Timestamp) {
        let run = &self.runs[&id];
        let (tokens, usd) = self.estimate(run);
        let model = run.record.fields.model_id.clone();
        let [provider, of_model] = scopes(&model);
        let expected = Reservation {
            tokens,
            cost_usd: MicroUsd(usd),
            provider_tokens: self.needs(RateKind::Tokens, &provider, tokens),
            model_tokens: self.needs(RateKind::Tokens, &of_model, tokens),
        };
        assert_eq!(reserved, expected, "SCHED-6: {id} reserves another amount");
        let ((lane, priority), key) = (level(run), run.record.fields.fairness_key.clone());
        let session = run.record.session_id;
        let start = self.pass.get(&lane).copied().unwrap_or(0).max(self.virtual_time);
        self.virtual_time = start;
        self.pass.insert(lane, start + (1 << 24) / self.limits.weight(lane));
        self.turns += 1;
        self.owners.insert((lane, priority, owner_of(&key).to_owned()), self.turns);
        self.keys.insert((lane, priority, key), self.turns);
        for scope in [&provider, &of_model] {
            self.move_bucket(RateKind::Requests, scope, -1, self.changes, now);
        }
        self.move_bucket(RateKind::Tokens, &provider, -i128::from(reserved.provider_tokens), self.changes, now);
        self.move_bucket(RateKind::Tokens, &of_model, -i128::from(reserved.model_tokens), self.changes, now);
        self.charge(session, |budget| {
            budget.reserved.0 += tokens;
            budget.reserved.1 += usd;
        });
        let changes = self.changes;
        let run = self.runs.get_mut(&id).unwrap();
        run.place = Place::Dispatched(pool.clone());
        run.reserved = (reserved, changes);
        run.dispatched_at = now;
    }

    /// Owners and keys without runs lose their place.
    fn forget(&mut self) {
        let live: Vec<(Lane, u32, String)> = self
            .runs
            .values()
            .map(|run| (run.record.fields.lane, run.record.fields.priority, run.record.fields.fairness_key.clone()))
            .collect();
        self.keys.retain(|key, _| live.contains(key));
        let owns = |owner: &(Lane, u32, String)| {
            live.iter().any(|(lane, priority, key)| (*lane, *priority, owner_of(key)) == (owner.0, owner.1, &owner.2))
        };
        self.owners.retain(|owner, _| owns(owner));
    }
}

impl Budget {
    /// Where no tokens are left, nothing has room.
    fn has_room_for(&self, (tokens, usd): (u64, u64)) -> bool {
        let taken = (self.used.0 + self.reserved.0, self.used.1 + self.reserved.1);
        self.most.0.is_none_or(|most| taken.0 < most && taken.0 + tokens <= most)
            && self.most.1.is_none_or(|most| usd == 0 || taken.1 + usd <= most)
    }
}
