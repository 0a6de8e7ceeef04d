//! Which run goes next and what it takes of rates and budgets, by the slow model of the engine's own simulation: the observer
//! folds the events of the journal into it once more.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::*;
use laneway_engine::State;
use laneway_engine::testing::{Budget, Model, Workers};
use uuid::Uuid;

/// The model, and what is checked of it.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) model: Model,
    /// Warnings since a budget was set.
    warned: BTreeSet<(BudgetOwner, BudgetType)>,
    /// The time of the last frame.
    time: Option<Timestamp>,
    /// Who had been heard when a process decided the turns of a moment. No event says so.
    heard: BTreeMap<(Uuid, Timestamp), Vec<Workers>>,
}

impl Ledger {
    /// A process is about to publish what it has decided then.
    pub(super) fn decided(&mut self, process: Uuid, at: Timestamp, workers: Workers) {
        self.heard.entry((process, at)).or_default().push(workers);
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
            Event::BudgetSet { owner, .. } => self.warned.retain(|(of, _)| of != owner),
            Event::BudgetWarned { owner, budget_type, current_value, threshold_value, .. } => {
                assert!(current_value >= threshold_value, "{owner} warns of {budget_type} too early");
                assert!(self.warned.insert((owner.clone(), *budget_type)), "{owner} warns of {budget_type} twice");
            }
            Event::SessionsEvicted { sessions, .. } => sessions.iter().for_each(|session| self.given_up(session)),
            Event::RunRateLimited { run_id, cause, backoff_ms, bucket, .. } => {
                self.waits_as_said(*run_id, *cause, *backoff_ms, bucket.as_ref(), at);
            }
            Event::RunDispatched { run_id, .. } => self.goes_next(*run_id, at, leader),
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

    /// SCHED-6 for rates: no bucket lacks what the run takes of it. Budgets: it fits into what nobody else has. SCHED-5: no
    /// other had to be dispatched, whatever was heard of workers until then.
    fn goes_next(&self, id: RunId, at: Timestamp, leader: Uuid) {
        let lacking = self.model.lacking(id, at);
        assert_eq!(lacking, None, "SCHED-6: {id} is dispatched, and a bucket lacks what it takes");
        let owner = self.model.unaffordable(id);
        assert_eq!(owner, None, "SCHED-6: {id} is dispatched, and takes of a budget that has not so much left");
        let heard = &self.heard[&(leader, at)];
        let chosen: Vec<_> = heard.iter().map(|workers| self.model.choose(workers, at)).collect();
        assert!(chosen.contains(&Some(id)), "SCHED-5: {id} is dispatched, and it is the turn of {chosen:?}");
    }

    /// The bucket that lacks what a run needs, as of the last frame.
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
