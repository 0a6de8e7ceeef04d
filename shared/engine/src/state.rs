//! The state that events fold into, with the indexes that decisions read.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{
    CoolDown, Epoch, HashKey, Lane, Limits, ModelId, RateKind, RunId, Scope, SessionId, Timestamp, WaitReason,
};

use crate::admit::Admission;
use crate::budget::{Account, Amount, WorkPackets};
use crate::digest::Digests;
use crate::hints::Hints;
use crate::memory::{Forgotten, Givable};
use crate::queue::Queues;
use crate::rates::Rates;
use crate::run::{EndedRun, Phase, Run};
use crate::session::Session;
use crate::slots::Slots;
use crate::table::Table;
use crate::turns::Turns;

/// Sessions, runs and limits. Changed by [`State::apply`] and [`State::stood_still`] alone.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) hash_key: Option<HashKey>,
    pub(crate) limits: Limits,
    pub(crate) configured: Option<Limits>,
    pub(crate) sessions: Table<SessionId, Session>,
    pub(crate) runs: Table<RunId, Run>,
    pub(crate) ended: Table<RunId, EndedRun>,
    pub(crate) work_packets: WorkPackets,
    pub(crate) rates: Rates,
    pub(crate) cool_downs: BTreeMap<Scope, CoolDown>,
    /// Whose turn it is: part of the digest, like the lanes' shares in `queues`, since only history says.
    pub(crate) turns: Turns,
    pub(crate) last_epoch: Epoch,
    pub(crate) last_order: u64,
    pub(crate) forgotten: Forgotten,
    /// The time of the event that is folded.
    pub(crate) at: Timestamp,
    // Indexes: worked out from the above, so no part of the digest.
    pub(crate) live_sessions: BTreeSet<SessionId>,
    /// The children that are held and have not ended.
    pub(crate) children: BTreeMap<SessionId, BTreeSet<SessionId>>,
    pub(crate) givable: Givable,
    pub(crate) live_runs: BTreeSet<RunId>,
    pub(crate) ending_sessions: BTreeSet<SessionId>,
    pub(crate) replacing_sessions: BTreeSet<SessionId>,
    pub(crate) by_token: BTreeMap<String, BTreeSet<RunId>>,
    pub(crate) due: BTreeSet<(Timestamp, RunId)>,
    pub(crate) holding: BTreeSet<RunId>,
    /// Runs with a lost attempt whose usage nobody knows.
    pub(crate) charged: BTreeSet<RunId>,
    pub(crate) queues: Queues,
    pub(crate) slots: Slots,
    pub(crate) digests: Digests,
    /// Nothing can be dispatched before something of this memory changes, or a worker is heard.
    pub(crate) quiet: bool,
}

impl State {
    /// The deployment's hash key, once it is made.
    #[must_use]
    pub fn hash_key(&self) -> Option<&HashKey> {
        self.hash_key.as_ref()
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits of a configuration that were put into force last.
    #[must_use]
    pub fn configured(&self) -> Option<&Limits> {
        self.configured.as_ref()
    }

    /// A session.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Sessions that are held and have not ended, by id, from the one after `after`.
    pub fn live_sessions(&self, after: Option<SessionId>) -> impl Iterator<Item = &Session> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.live_sessions.range((from, Bound::Unbounded)).filter_map(|id| self.sessions.get(id))
    }

    /// How many sessions have not ended.
    #[must_use]
    pub fn live_session_count(&self) -> u64 {
        self.live_sessions.len() as u64 + self.forgotten.live_sessions
    }

    /// How many sessions are held.
    #[must_use]
    pub fn held_session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// Evictions so far, of sessions and of append keys: with none, memory has everything.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.forgotten.evictions
    }

    /// The children of a session that are held and have not ended.
    pub fn children(&self, id: SessionId) -> impl Iterator<Item = SessionId> {
        self.children.get(&id).into_iter().flatten().copied()
    }

    /// A run that has not ended.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// Runs that have not ended, by falling id, from the one before `before`.
    pub fn live_runs(&self, before: Option<RunId>) -> impl Iterator<Item = &Run> {
        use std::ops::Bound;
        let to = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.live_runs.range((Bound::Unbounded, to)).rev().filter_map(|id| self.runs.get(id))
    }

    /// What is remembered of an ended run.
    #[must_use]
    pub fn ended_run(&self, id: RunId) -> Option<&EndedRun> {
        self.ended.get(&id)
    }

    /// How many ended runs are remembered.
    #[must_use]
    pub fn ended_run_count(&self) -> usize {
        self.ended.len()
    }

    /// When the last of the ended runs that are forgotten ended.
    #[must_use]
    pub fn forgotten_until(&self) -> Option<Timestamp> {
        self.forgotten.runs_until
    }

    /// What is in use.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Runs that wait, per lane.
    #[must_use]
    pub fn queued(&self) -> &BTreeMap<Lane, u64> {
        self.queues.queued()
    }

    /// Runs that hold a slot.
    pub fn holding(&self) -> impl Iterator<Item = &Run> {
        self.holding.iter().filter_map(|id| self.runs.get(id))
    }

    /// Runs that a worker executes. A new leader gives each a full lease.
    pub fn executing(&self) -> impl Iterator<Item = &Run> {
        self.holding().filter(|run| matches!(run.phase, Phase::Running { .. }))
    }

    /// Runs that nobody has claimed yet. A new leader sends their dispatches again.
    pub fn dispatched(&self) -> impl Iterator<Item = &Run> {
        self.holding().filter(|run| matches!(run.phase, Phase::Dispatched { .. }))
    }

    /// The live runs of a session, newest first and the current one last: cancelled in this order in several turns, none of
    /// them starts between two.
    #[must_use]
    pub fn runs_of_session(&self, session: &Session) -> Vec<RunId> {
        let waiting = session.delayed.values().rev().chain(session.queue.values().rev());
        waiting.chain(&session.current).copied().collect()
    }

    /// Why a queued run does not start now.
    #[must_use]
    pub fn wait_reason(&self, run: &Run, hints: &Hints, now: Timestamp) -> WaitReason {
        Admission::new(self, hints, now).holds(run).first().map_or(WaitReason::None, |hold| hold.reason)
    }

    /// The budget of a session.
    #[must_use]
    pub fn session_budget(&self, id: SessionId) -> Option<&Account> {
        self.sessions.get(&id).map(|session| &session.budget)
    }

    /// The budget of a work packet, which is unbounded where nobody has set it.
    #[must_use]
    pub fn work_packet_budget(&self, id: &str) -> Account {
        self.work_packets.get(id).map(|packet| packet.account).unwrap_or_default()
    }

    /// Whole requests or tokens that a bucket holds; none without a rate.
    #[must_use]
    pub fn bucket_level(&self, kind: RateKind, scope: &Scope, now: Timestamp) -> Option<i64> {
        self.rates.level(&self.limits, kind, scope, now)
    }

    /// What the next attempt of a run is expected to use: what the caller says, else its window and its answer.
    #[must_use]
    pub fn estimate(&self, run: &Run, session: &Session) -> Amount {
        let fields = &run.record.fields;
        let input: u64 = match run.upto_seq {
            Some(_) => 0,
            None => fields.input.iter().map(|message| tokens_of(message.token_count, message.size)).sum(),
        };
        let window = session.window_tokens.saturating_add(input);
        let tokens = fields.estimated_tokens.unwrap_or_else(|| window.saturating_add(run.estimate.output_tokens));
        let usd = fields.estimated_cost_usd.unwrap_or_else(|| run.estimate.cost(window)).0;
        Amount { tokens, usd }
    }

    /// Whether the budgets of a session and of its work packet have room for an estimate.
    pub(crate) fn affords(&self, session: &Session, estimate: Amount) -> bool {
        let packet = session.creation.fields.wp_id.as_ref().and_then(|id| self.work_packets.get(id));
        session.budget.fits(estimate) && packet.is_none_or(|packet| packet.account.fits(estimate))
    }

    /// The next time at which [`State::schedule`] has something to do by itself.
    #[must_use]
    pub fn next_deadline(&self, hints: &Hints, now: Timestamp) -> Option<Timestamp> {
        let due = self.due.first().map(|(at, _)| *at);
        let giving_up = self.next_giving_up(&hints.memory, now);
        let wake = if self.is_timed() { self.wake(hints, now) } else { None };
        [due, hints.next_lease_end(), wake, giving_up].into_iter().flatten().min()
    }

    /// When a head that waits for a bucket or a cool-down can go on: now, when it already can.
    fn wake(&self, hints: &Hints, now: Timestamp) -> Option<Timestamp> {
        let choice = Admission::new(self, hints, now).choose();
        if choice.next.is_some() || choice.record.is_some() { Some(now) } else { choice.wake }
    }

    /// Whether something other than events can let a run start: a bucket that fills, a cool-down that ends. Failures that are
    /// too few for one hold nobody.
    pub(crate) fn is_timed(&self) -> bool {
        self.limits.has_rates() || self.cool_downs.values().any(|cool| cool.allowed.is_some())
    }

    /// The model that a run of this session has when its submit names none.
    #[must_use]
    pub fn model_of(&self, session: SessionId) -> Option<&ModelId> {
        self.sessions.get(&session).map(|session| &session.creation.fields.model_id)
    }

    /// No leader could write for this long, by the times of two frames next to each other: in it, nothing came back into
    /// a bucket. Part of the fold.
    pub fn stood_still(&mut self, gap_ms: u64) {
        self.rates.stand_still(gap_ms);
    }
}

/// Tokens of a content: as they were counted, else a quarter of its bytes.
pub(crate) fn tokens_of(counted: Option<u64>, bytes: u64) -> u64 {
    counted.unwrap_or_else(|| bytes.div_ceil(4))
}
