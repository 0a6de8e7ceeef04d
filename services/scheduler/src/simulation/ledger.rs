//! Which run goes next and what it takes of rates and budgets, by the slow model of the engine's own simulation: the observer
//! folds the events of the journal into it once more.

use std::collections::BTreeMap;

use laneway_contract::*;
use laneway_engine::State;
use laneway_engine::testing::{Budget, Model, Workers};
use uuid::Uuid;

/// The model, and what is checked of it.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) model: Model,
    /// The time of the last frame.
    time: Option<Timestamp>,
    /// Which workers a process had heard when it decided, from when on. No event says so.
    heard: BTreeMap<Uuid, Vec<(Timestamp, Workers)>>,
    /// Dispatches of one that others could have been in place of.
    pub(super) contested: u64,
}

impl Ledger {
    /// A process is about to decide what is to be done then.
    pub(super) fn looks(&mut self, process: Uuid, at: Timestamp, workers: &Workers) {
        let looks = self.heard.entry(process).or_default();
        if looks.last().is_none_or(|(_, last)| last != workers) {
            looks.push((at, workers.clone()));
        }
    }

    /// A frame begins. Where it begins a leadership nobody could write since the last.
    pub(super) fn frame(&mut self, time: Timestamp, starts: bool) {
        let gap_ms = self.time.map_or(0, |last| time.millis_since(last));
        if starts {
            self.model.stood_still(gap_ms);
        }
        self.time = Some(time);
    }

    /// Folds an event of a turn that the leader has decided.
    pub(super) fn happened(&mut self, event: &Event, at: Timestamp, leader: Uuid) {
        match event {
            Event::SessionsEvicted { sessions, .. } => sessions.iter().for_each(|session| self.given_up(session)),
            Event::RunRateLimited { run_id, cause, backoff_ms, bucket, .. } => {
                self.waits_as_said(*run_id, *cause, *backoff_ms, bucket.as_ref(), at);
            }
            Event::RunDispatched { run_id, pool, .. } => self.goes_next(*run_id, pool, at, leader),
            Event::BudgetWarned { owner, budget_type, threshold_value, .. } => {
                let (tokens, usd) = self.model.budgets[owner].most;
                let most = if *budget_type == BudgetType::Tokens { tokens } else { usd };
                let expected = most.map(|most| (most * BUDGET_WARNS_AT_PERCENT).div_ceil(100));
                assert_eq!(Some(*threshold_value), expected, "{owner} warns of {budget_type} at another part");
            }
            _ => {}
        }
        self.model.fold(event, at);
    }

    /// A session leaves memory with its budget, of which nothing is reserved.
    fn given_up(&self, record: &EvictedSession) {
        let (id, kept) = (record.session_id, &record.budget);
        let theirs = Budget {
            most: (kept.tokens, kept.usd.map(|usd| usd.0)),
            used: (kept.used_tokens, kept.used_usd.0),
            reserved: (0, 0),
        };
        assert_eq!(theirs, self.model.budgets[&BudgetOwner::Session(id)], "{id} is given up with another budget");
        assert_eq!(record.window_tokens, self.model.window(id), "{id} is given up with another window");
    }

    /// SCHED-3: a wait for a bucket lasts as long as is said, and the bucket holds so much.
    fn waits_as_said(
        &self,
        id: RunId,
        cause: RateCause,
        backoff_ms: u64,
        bucket: Option<&(String, i64)>,
        at: Timestamp,
    ) {
        let of_bucket = matches!(cause, RateCause::RequestsPerMinute | RateCause::TokensPerMinute);
        assert_eq!(bucket.is_some(), of_bucket, "SCHED-3: {id} waits for {cause}, and of a bucket it says {bucket:?}");
        let Some(said) = bucket else { return };
        let Some((kind, scope, wait_ms)) = self.model.lacking(id, at) else {
            panic!("SCHED-3: {id} waits for {said:?}, which has enough")
        };
        let level = self.model.level(kind, &scope, at).unwrap();
        let name = match kind {
            RateKind::Requests => LimitName::RequestsPerMinute(scope),
            RateKind::Tokens => LimitName::TokensPerMinute(scope),
        };
        assert_eq!((said, backoff_ms), (&(name.to_string(), level), wait_ms), "SCHED-3: the wait of {id}");
    }

    /// SCHED-6 for rates: no bucket lacks what the run takes of it. Budgets: it fits into what nobody else has. SCHED-5: it is
    /// the one that goes next, and where to, by the workers that were heard until one of the looks of that moment.
    fn goes_next(&mut self, id: RunId, pool: &PoolId, at: Timestamp, leader: Uuid) {
        let lacking = self.model.lacking(id, at);
        assert_eq!(lacking, None, "SCHED-6: {id} is dispatched, and a bucket lacks what it takes");
        let budget = self.model.unaffordable(id).map(|owner| (self.model.budgets[&owner].clone(), owner));
        assert_eq!(budget, None, "SCHED-6: {id} is dispatched, and takes of a budget that has not so much left");
        let looks = self.heard.get(&leader).map(Vec::as_slice).unwrap_or_default();
        let before = looks.iter().rposition(|(from, _)| *from < at).unwrap_or(0);
        let looks = looks[before..].iter().take_while(|(from, _)| *from <= at);
        let candidates: Vec<_> = looks.map(|(_, workers)| self.model.candidates(workers, at)).collect();
        let goes_next = |of: &&Vec<(RunId, PoolId)>| of.first().is_some_and(|first| *first == (id, pool.clone()));
        let Some(rivals) = candidates.iter().find(goes_next) else {
            panic!("SCHED-5: {id} is dispatched to {pool}, and the first of these is to be: {candidates:?}")
        };
        self.contested += u64::from(rivals.len() > 1);
    }

    /// Whether a bucket lacks what a run needs, as of the last frame.
    pub(super) fn is_lacking(&self, id: RunId) -> bool {
        self.time.is_some_and(|time| self.model.lacking(id, time).is_some())
    }

    /// Whether a wait for a bucket of this run was recorded.
    pub(super) fn is_recorded(&self, id: RunId) -> bool {
        let causes = [RateCause::RequestsPerMinute, RateCause::TokensPerMinute];
        causes.into_iter().any(|cause| self.model.is_recorded(id, cause))
    }

    /// The state holds the same in its buckets.
    pub(super) fn agrees(&self, state: &State) {
        let Some(time) = self.time else { return };
        for (kind, scope) in self.model.limits.rates() {
            let (theirs, ours) = (state.bucket_level(kind, &scope, time), self.model.level(kind, &scope, time));
            assert_eq!(theirs, ours, "SCHED-6: another level of {kind:?} of {scope}");
        }
    }

    /// At the end nothing is reserved, and the budgets that the state holds are these.
    pub(super) fn is_closed(&self, state: &State) {
        for (owner, budget) in &self.model.budgets {
            assert_eq!(budget.reserved, (0, 0), "a reservation of {owner} is left");
            let account = match owner {
                BudgetOwner::Session(id) => state.session_budget(*id).copied(),
                BudgetOwner::WorkPacket(id) => Some(state.work_packet_budget(id)),
            };
            let Some((tokens, usd)) = account.map(|account| account.lines()) else { continue };
            let theirs = ((tokens.limit, usd.limit.map(|usd| usd.0)), (tokens.used, usd.used.0));
            assert_eq!(theirs, (budget.most, budget.used), "the budget of {owner} is another");
        }
    }
}
