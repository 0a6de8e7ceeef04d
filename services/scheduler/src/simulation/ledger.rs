//! What runs take of rates and budgets, added up from the events of the journal alone.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::*;
use laneway_engine::State;

use super::buckets::{Buckets, Taken, needs, scopes};

/// A budget.
#[derive(Clone, Debug, Default)]
struct Purse {
    most: Amount<Option<u64>>,
    used: Amount<u64>,
    reserved: Amount<u64>,
}

/// Tokens and millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount<T> {
    tokens: T,
    usd: T,
}

/// What is known of a run that has not ended.
struct Bill {
    session: SessionId,
    fields: RunFields,
    estimate: Estimate,
    /// Its input is in the thread.
    claimed: bool,
    /// A worker executes it.
    executes: bool,
    held: Option<Taken>,
    /// Of an attempt whose worker was lost: charged, until it is known what it has used.
    unknown: Option<Taken>,
    used: Amount<u64>,
}

/// All that was taken, and of what.
#[derive(Default)]
pub(super) struct Ledger {
    buckets: Buckets,
    purses: BTreeMap<BudgetOwner, Purse>,
    /// The work packet of each session, and the tokens of its thread as a window.
    sessions: BTreeMap<SessionId, (Option<String>, u64)>,
    runs: BTreeMap<RunId, Bill>,
    /// Waits for a rate that were recorded.
    waits: BTreeSet<(RunId, RateCause)>,
    /// Warnings since a budget was set.
    warned: BTreeSet<(BudgetOwner, BudgetType)>,
    /// The time of the last frame.
    time: Option<Timestamp>,
}

impl Ledger {
    /// A frame begins. Where it begins a leadership nobody could write since the last.
    pub(super) fn frame(&mut self, time: Timestamp, starts: bool) {
        let gap_ms = self.time.map_or(0, |last| time.millis() - last.millis());
        if starts {
            self.buckets.stand_still(gap_ms);
        }
        self.time = Some(time);
    }

    /// Folds an event. `limits` are those that it finds.
    pub(super) fn happened(&mut self, event: &Event, at: Timestamp, limits: &Limits) {
        match event {
            Event::LimitsChanged { changes, .. } => {
                let mut new = limits.clone();
                for change in changes {
                    new.set(change.name.clone(), change.to);
                }
                self.buckets.relimit(limits, &new, at);
            }
            Event::BudgetSet { owner, tokens, usd, .. } => {
                self.purses.entry(owner.clone()).or_default().most = most(*tokens, *usd);
                self.warned.retain(|(of, _)| of != owner);
            }
            Event::BudgetWarned { owner, budget_type, current_value, threshold_value, .. } => {
                assert!(current_value >= threshold_value, "{owner} warns of {budget_type} too early");
                assert!(self.warned.insert((owner.clone(), *budget_type)), "{owner} warns of {budget_type} twice");
            }
            Event::SessionCreated { session, .. } => {
                let fields = &session.fields;
                self.sessions.insert(session.session_id, (fields.wp_id.clone(), 0));
                let purse = Purse { most: most(fields.budget_tokens, fields.budget_usd), ..Purse::default() };
                self.purses.insert(BudgetOwner::Session(session.session_id), purse);
            }
            Event::SessionsEvicted { sessions, .. } => sessions.iter().for_each(|session| self.given_up(session)),
            Event::MessageAppended(message) if message.finish.is_none_or(Finish::in_later_windows) => {
                let tokens = message.token_count.unwrap_or(message.size.div_ceil(4));
                self.sessions.get_mut(&message.session_id).unwrap().1 += tokens;
            }
            _ => self.happened_to_run(event, at, limits),
        }
    }

    fn happened_to_run(&mut self, event: &Event, at: Timestamp, limits: &Limits) {
        match event {
            Event::RunQueued { run, estimate, .. } => {
                let bill = Bill {
                    session: run.session_id,
                    fields: run.fields.clone(),
                    estimate: *estimate,
                    claimed: false,
                    executes: false,
                    held: None,
                    unknown: None,
                    used: Amount::default(),
                };
                self.runs.insert(run.run_id, bill);
            }
            Event::RunRateLimited { run_id, cause, backoff_ms, bucket, .. } => {
                assert!(self.waits.insert((*run_id, *cause)), "SCHED-3: {run_id} waits for {cause} twice");
                self.waits_as_said(*run_id, *cause, *backoff_ms, bucket.as_ref(), limits, at);
            }
            Event::RunDispatched { run_id, reserved, .. } => self.dispatched(*run_id, *reserved, limits, at),
            Event::RunClaimed { run_id, .. } => {
                let bill = self.runs.get_mut(run_id).unwrap();
                (bill.claimed, bill.executes, bill.unknown) = (true, true, None);
            }
            Event::RunReturned { run_id, .. } => {
                self.runs.get_mut(run_id).unwrap().executes = false;
                self.gives_back(*run_id, None, limits, at);
            }
            Event::LeaseExpired { run_id, .. } => {
                let bill = self.runs.get_mut(run_id).unwrap();
                bill.executes = false;
                bill.unknown = bill.held.take();
                let (session, taken) = (bill.session, amount(bill.unknown.unwrap_or_default()));
                self.charge(session, |purse| {
                    purse.reserved = purse.reserved.less(taken);
                    purse.used = purse.used.plus(taken);
                });
            }
            Event::RunRetryScheduled { run_id, usage, cost_usd, .. }
            | Event::RunStalled { run_id, usage, cost_usd, .. }
            | Event::RunParked { run_id, usage, cost_usd, .. } => {
                self.settled(*run_id, total(usage, *cost_usd), limits, at);
            }
            Event::RunSettled { run, .. } => {
                self.settled(run.run_id, total(&run.status.usage, run.status.cost_usd), limits, at);
                self.runs.remove(&run.run_id);
            }
            _ => {}
        }
    }

    /// A session leaves memory with its budget, of which nothing is reserved.
    fn given_up(&self, record: &EvictedSession) {
        let (id, kept) = (record.session_id, &record.budget);
        let purse = &self.purses[&BudgetOwner::Session(id)];
        let most = most(kept.tokens, kept.usd);
        let used = Amount { tokens: kept.used_tokens, usd: kept.used_usd.0 };
        assert_eq!((most, used), (purse.most, purse.used), "{id} is given up with another budget");
        assert_eq!(purse.reserved, Amount::default(), "{id} is given up while a call holds some of its budget");
        assert_eq!(record.window_tokens, self.sessions[&id].1, "{id} is given up with another window");
    }

    fn owners(&self, session: SessionId) -> impl Iterator<Item = BudgetOwner> + use<> {
        let packet = self.sessions[&session].0.clone().map(BudgetOwner::WorkPacket);
        std::iter::once(BudgetOwner::Session(session)).chain(packet)
    }

    fn charge(&mut self, session: SessionId, change: impl Fn(&mut Purse)) {
        for owner in self.owners(session) {
            change(self.purses.entry(owner).or_default());
        }
    }

    fn estimate(&self, bill: &Bill) -> Amount<u64> {
        let input = bill.fields.input.iter().map(|input| input.token_count.unwrap_or(input.size.div_ceil(4)));
        let input = if bill.claimed { 0 } else { input.sum() };
        let window = self.sessions[&bill.session].1 + input;
        let Estimate { output_tokens, input_usd_per_million, output_usd_per_million } = bill.estimate;
        let price = |tokens: u64, price: Option<MicroUsd>| u128::from(tokens) * u128::from(price.unwrap_or_default().0);
        let usd = price(window, input_usd_per_million) + price(output_tokens, output_usd_per_million);
        Amount {
            tokens: bill.fields.estimated_tokens.unwrap_or(window + output_tokens),
            usd: bill.fields.estimated_cost_usd.map_or(usd.div_ceil(1_000_000) as u64, |usd| usd.0),
        }
    }

    /// SCHED-3: a wait for a bucket lasts as long as is said, and the bucket holds so much.
    fn waits_as_said(
        &self,
        id: RunId,
        cause: RateCause,
        backoff_ms: u64,
        bucket: Option<&(String, i64)>,
        limits: &Limits,
        at: Timestamp,
    ) {
        let bill = &self.runs[&id];
        let of_bucket = matches!(cause, RateCause::RequestsPerMinute | RateCause::TokensPerMinute);
        assert_eq!(bucket.is_some(), of_bucket, "SCHED-3: {id} waits for {cause}, and of a bucket it says {bucket:?}");
        let Some(said) = bucket else { return };
        let tokens = self.estimate(bill).tokens;
        let lacking = self.buckets.lacking(limits, &bill.fields.model_id, tokens, at);
        let Some((kind, scope, wait_ms)) = lacking else {
            panic!("SCHED-3: {id} waits for {said:?}, which has enough")
        };
        let level = self.buckets.level(limits, kind, &scope, at).unwrap();
        let name = match kind {
            RateKind::Requests => LimitName::RequestsPerMinute(scope),
            RateKind::Tokens => LimitName::TokensPerMinute(scope),
        };
        assert_eq!((said, backoff_ms), (&(name.to_string(), level), wait_ms), "SCHED-3: the wait of {id}");
    }

    /// SCHED-6 for rates: no bucket lacks what the run takes of it. Budgets: it fits into what nobody else has.
    fn dispatched(&mut self, id: RunId, reserved: Reservation, limits: &Limits, at: Timestamp) {
        let bill = &self.runs[&id];
        let (session, model, estimate) = (bill.session, bill.fields.model_id.clone(), self.estimate(bill));
        let [provider_tokens, model_tokens] =
            scopes(&model).map(|scope| needs(limits, RateKind::Tokens, &scope, estimate.tokens));
        let cost_usd = MicroUsd(estimate.usd);
        let expected = Reservation { tokens: estimate.tokens, cost_usd, provider_tokens, model_tokens };
        assert_eq!(reserved, expected, "SCHED-6: {id} reserves another amount");
        let lacking = self.buckets.lacking(limits, &model, estimate.tokens, at);
        assert_eq!(lacking, None, "SCHED-6: {id} is dispatched, and a bucket lacks what it takes");
        for owner in self.owners(session) {
            let purse = self.purses.get(&owner).cloned().unwrap_or_default();
            assert!(purse.fits(estimate), "SCHED-6: {id} takes {estimate:?} of the budget of {owner}: {purse:?}");
        }
        let taken = Taken { reserved, changes: self.buckets.changes };
        self.buckets.take(limits, &model, taken, at);
        self.charge(session, |purse| purse.reserved = purse.reserved.plus(estimate));
        self.runs.get_mut(&id).unwrap().held = Some(taken);
    }

    /// What a run holds comes back, less what it has used. Where nothing was called, its request as well.
    fn gives_back(&mut self, id: RunId, used: Option<Amount<u64>>, limits: &Limits, at: Timestamp) {
        let bill = self.runs.get_mut(&id).unwrap();
        let Some(taken) = bill.held.take() else { return };
        let (session, model, reserved) = (bill.session, bill.fields.model_id.clone(), amount(taken));
        let requests = i128::from(used.is_none());
        let used = used.unwrap_or_default();
        self.buckets.settle(limits, &model, taken, (requests, used.tokens), at);
        self.charge(session, |purse| {
            purse.reserved = purse.reserved.less(reserved);
            purse.used = purse.used.plus(used);
        });
    }

    /// An attempt is over: the totals of its run are these.
    fn settled(&mut self, id: RunId, total: Amount<u64>, limits: &Limits, at: Timestamp) {
        let bill = self.runs.get_mut(&id).unwrap();
        let used = total.less(bill.used);
        bill.used = total;
        if std::mem::take(&mut bill.executes) {
            return self.gives_back(id, Some(used), limits, at);
        }
        // A late answer says what the lost attempt has used.
        if used != Amount::default() {
            let charged = bill.unknown.take();
            let (session, model, estimate) =
                (bill.session, bill.fields.model_id.clone(), amount(charged.unwrap_or_default()));
            if let Some(charged) = charged {
                self.buckets.settle(limits, &model, charged, (0, used.tokens), at);
            }
            self.charge(session, |purse| purse.used = purse.used.less(estimate).plus(used));
        }
        self.gives_back(id, None, limits, at);
    }

    /// The bucket that lacks what a run needs, as of the last frame.
    pub(super) fn lacking(&self, id: RunId, limits: &Limits) -> Option<(RateKind, Scope, u64)> {
        let bill = &self.runs[&id];
        self.buckets.lacking(limits, &bill.fields.model_id, self.estimate(bill).tokens, self.time?)
    }

    /// Whether a wait for a bucket of this run was recorded.
    pub(super) fn is_recorded(&self, id: RunId) -> bool {
        let causes = [RateCause::RequestsPerMinute, RateCause::TokensPerMinute];
        causes.into_iter().any(|cause| self.waits.contains(&(id, cause)))
    }

    /// Whose budget has no room for a run.
    pub(super) fn unaffordable(&self, id: RunId) -> Option<BudgetOwner> {
        let bill = &self.runs[&id];
        let estimate = self.estimate(bill);
        self.owners(bill.session).find(|owner| self.purses.get(owner).is_some_and(|purse| !purse.fits(estimate)))
    }

    /// The state holds the same in its buckets.
    pub(super) fn agrees(&self, state: &State, limits: &Limits) {
        let Some(time) = self.time else { return };
        for (kind, scope) in limits.rates() {
            let (theirs, ours) =
                (state.bucket_level(kind, &scope, time), self.buckets.level(limits, kind, &scope, time));
            assert_eq!(theirs, ours, "SCHED-6: another level of {kind:?} of {scope}");
        }
    }

    /// At the end nothing is reserved, and the budgets that the state holds are these.
    pub(super) fn is_closed(&self, state: &State) {
        for (owner, purse) in &self.purses {
            assert_eq!(purse.reserved, Amount::default(), "a reservation of {owner} is left");
            let account = match owner {
                BudgetOwner::Session(id) => state.session_budget(*id).copied(),
                BudgetOwner::WorkPacket(id) => Some(state.work_packet_budget(id)),
            };
            let Some((tokens, usd)) = account.map(|account| account.lines()) else { continue };
            let theirs = (most(tokens.limit, usd.limit), Amount { tokens: tokens.used, usd: usd.used.0 });
            assert_eq!(theirs, (purse.most, purse.used), "the budget of {owner} is another");
        }
    }
}

impl Purse {
    /// Where no tokens are left, nothing has room.
    fn fits(&self, estimate: Amount<u64>) -> bool {
        let taken = self.used.plus(self.reserved);
        let after = taken.plus(estimate);
        self.most.tokens.is_none_or(|most| taken.tokens < most && after.tokens <= most)
            && self.most.usd.is_none_or(|most| estimate.usd == 0 || after.usd <= most)
    }
}

impl Amount<u64> {
    fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens + other.tokens, usd: self.usd + other.usd }
    }

    fn less(self, other: Self) -> Self {
        Self { tokens: self.tokens - other.tokens, usd: self.usd - other.usd }
    }
}

fn most(tokens: Option<u64>, usd: Option<MicroUsd>) -> Amount<Option<u64>> {
    Amount { tokens, usd: usd.map(|usd| usd.0) }
}

fn amount(taken: Taken) -> Amount<u64> {
    Amount { tokens: taken.reserved.tokens, usd: taken.reserved.cost_usd.0 }
}

fn total(usage: &Usage, cost_usd: Option<MicroUsd>) -> Amount<u64> {
    Amount { tokens: usage.total(), usd: cost_usd.unwrap_or_default().0 }
}
