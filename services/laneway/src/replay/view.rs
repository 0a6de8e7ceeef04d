//! The state as it is shown: ids and numbers. The state holds no content, so nothing here does.

use std::collections::BTreeMap;

use laneway_contract::{
    BudgetLine, BudgetOwner, CoolDown, JobState, Lane, MicroUsd, RateKind, RunId, SessionId, SessionState, Timestamp,
    WaitReason,
};
use laneway_engine::{Run, reserve};
use serde::Serialize;

use super::past::Past;
use super::pools::Pool;
use crate::output;

/// Waiting heads that the tables show.
const SHOWN_HEADS: usize = 20;

/// The state at a time.
#[derive(Debug, Serialize)]
pub(crate) struct StateView {
    journal: JournalView,
    sessions: BTreeMap<SessionState, u64>,
    runs: BTreeMap<Lane, BTreeMap<JobState, u64>>,
    limits: Vec<LimitView>,
    buckets: Vec<BucketView>,
    budgets: Vec<BudgetView>,
    cool_downs: BTreeMap<String, CoolDown>,
    holders: Vec<HolderView>,
    heads: Vec<HeadView>,
    pools: BTreeMap<String, Pool>,
}

#[derive(Debug, Serialize)]
struct JournalView {
    id: Option<String>,
    /// The last frame of which something was folded.
    frame: u64,
    hash: String,
    epoch: u64,
    /// None after it has gone in good order.
    leader: Option<String>,
    began: Option<Timestamp>,
    time: Timestamp,
    events: u64,
}

/// A limit of concurrency, a rate or a weight.
#[derive(Debug, Serialize)]
struct LimitView {
    name: String,
    value: Option<u64>,
    /// Runs that hold a slot of it.
    used: Option<u32>,
    /// Slots that only PRIMARY may take.
    reserve: Option<u32>,
}

#[derive(Debug, Serialize)]
struct BucketView {
    name: String,
    per_minute: u64,
    capacity: u64,
    level: i64,
}

#[derive(Debug, Serialize)]
struct BudgetView {
    owner: String,
    tokens: BudgetLine<u64>,
    usd: BudgetLine<MicroUsd>,
}

/// A run that holds its limits.
#[derive(Debug, Serialize)]
struct HolderView {
    run_id: RunId,
    session_id: SessionId,
    state: JobState,
    lane: Lane,
    model_id: String,
    dispatched_at: Option<Timestamp>,
}

/// A run that is first in its session, and waits.
#[derive(Debug, Serialize)]
struct HeadView {
    run_id: RunId,
    session_id: SessionId,
    lane: Lane,
    priority: u32,
    fairness_key: String,
    model_id: String,
    reason: WaitReason,
    waited_ms: u64,
}

impl StateView {
    pub(crate) fn of(past: &Past) -> Self {
        Self {
            journal: JournalView {
                id: past.journal_id.clone(),
                frame: past.position.number,
                hash: past.position.hash.to_string(),
                epoch: past.epoch,
                leader: past.leader.clone(),
                began: past.began,
                time: past.time,
                events: past.counts.events,
            },
            sessions: past.counts.sessions.iter().filter(|(_, count)| **count > 0).map(|(s, n)| (*s, *n)).collect(),
            runs: runs(past),
            limits: limits(past),
            buckets: buckets(past),
            budgets: budgets(past),
            cool_downs: past.counts.cool_downs.iter().map(|(scope, cool)| (scope.to_string(), *cool)).collect(),
            holders: past.state.holding().map(holder).collect(),
            heads: heads(past),
            pools: past.pools.known().into_iter().map(|(id, pool)| (id.to_string(), pool)).collect(),
        }
    }

    /// Every part as a table with its heading.
    pub(crate) fn text(&self) -> String {
        let JournalView { frame, epoch, time, events, .. } = &self.journal;
        let leader = self.journal.leader.as_deref().unwrap_or("nobody");
        let mut parts =
            vec![format!("frame {frame} at {time}, epoch {epoch}, led by {leader}, {events} events folded")];
        let counts = |state: String, count: &u64| [state, count.to_string()];
        let sessions = self.sessions.iter().map(|(state, count)| counts(state.to_string(), count));
        parts.push(output::table(["SESSIONS", "COUNT"], sessions));
        let runs = self.runs.iter().flat_map(|(lane, states)| states.iter().map(move |row| (lane, row)));
        let runs = runs.map(|(lane, (state, count))| [lane.to_string(), state.to_string(), count.to_string()]);
        parts.push(output::table(["RUNS IN", "STATE", "COUNT"], runs));
        let limits = self.limits.iter().map(|limit| {
            let LimitView { name, value, used, reserve } = limit;
            [name.clone(), output::or_dash(*value), output::or_dash(*used), output::or_dash(*reserve)]
        });
        parts.push(output::table(["LIMIT", "VALUE", "TAKEN", "ONLY FOR PRIMARY"], limits));
        parts.extend(self.more_tables());
        parts.push(self.heads_table());
        parts.join("\n\n")
    }

    fn more_tables(&self) -> Vec<String> {
        let mut parts = Vec::new();
        if !self.buckets.is_empty() {
            let rows = self.buckets.iter().map(|bucket| {
                let BucketView { name, per_minute, capacity, level } = bucket;
                [name.clone(), level.to_string(), capacity.to_string(), per_minute.to_string()]
            });
            parts.push(output::table(["BUCKET", "HOLDS", "OF", "BACK IN A MINUTE"], rows));
        }
        if !self.budgets.is_empty() {
            let rows = self.budgets.iter().map(|budget| {
                let (tokens, usd) = (&budget.tokens, &budget.usd);
                let tokens = format!("{} + {} of {}", tokens.used, tokens.reserved, output::or_dash(tokens.limit));
                let usd = format!("{} + {} of {}", usd.used, usd.reserved, output::or_dash(usd.limit));
                [budget.owner.clone(), tokens, usd]
            });
            parts.push(output::table(["BUDGET", "TOKENS USED + RESERVED", "USD"], rows));
        }
        if !self.cool_downs.is_empty() {
            let rows = self.cool_downs.iter().map(|(scope, cool)| {
                [scope.clone(), cool.until.to_string(), output::or_dash(cool.allowed), cool.failures.to_string()]
            });
            parts.push(output::table(["COOL-DOWN", "UNTIL", "AT A TIME", "FAILURES"], rows));
        }
        if !self.holders.is_empty() {
            let rows = self.holders.iter().map(|run| {
                let since = output::or_dash(run.dispatched_at);
                [run.run_id.to_string(), run.state.to_string(), run.lane.to_string(), run.model_id.clone(), since]
            });
            parts.push(output::table(["HOLDS A SLOT", "STATE", "LANE", "MODEL", "SINCE"], rows));
        }
        parts
    }

    /// The heads that have waited longest.
    fn heads_table(&self) -> String {
        let rows = self.heads.iter().take(SHOWN_HEADS).map(|head| {
            [
                head.run_id.to_string(),
                head.lane.to_string(),
                head.priority.to_string(),
                head.fairness_key.clone(),
                head.model_id.clone(),
                output::span(head.waited_ms),
                head.reason.to_string(),
            ]
        });
        let table = output::table(["WAITS FIRST", "LANE", "PRIORITY", "KEY", "MODEL", "FOR", "WHY"], rows);
        match self.heads.len().saturating_sub(SHOWN_HEADS) {
            0 => table,
            more => format!("{table}\nand {more} more, which --json shows"),
        }
    }
}

/// Runs by lane and state, those that have ended included.
fn runs(past: &Past) -> BTreeMap<Lane, BTreeMap<JobState, u64>> {
    let mut runs: BTreeMap<Lane, BTreeMap<JobState, u64>> = BTreeMap::new();
    let mut add = |lane, state, count| *runs.entry(lane).or_default().entry(state).or_default() += count;
    past.counts.ended.iter().for_each(|((lane, state), count)| add(*lane, *state, *count));
    past.state.live_runs(None).for_each(|run| add(run.record.fields.lane, run.state(), 1));
    runs
}

/// Each limit that is set or in use.
fn limits(past: &Past) -> Vec<LimitView> {
    let set = past.state.limits().by_name();
    let mut limits: BTreeMap<String, LimitView> = BTreeMap::new();
    for (name, value) in set {
        let view = LimitView { name: name.to_string(), value: Some(value), used: None, reserve: None };
        limits.insert(view.name.clone(), view);
    }
    for gauge in past.state.slots().all() {
        let name = gauge.what.to_string();
        let (value, used) = (gauge.limit.map(u64::from), Some(gauge.used));
        limits.insert(name.clone(), LimitView { name, value, used, reserve: gauge.limit.map(reserve) });
    }
    limits.into_values().collect()
}

fn buckets(past: &Past) -> Vec<BucketView> {
    let limits = past.state.limits();
    let view = |(kind, scope)| {
        let (rate, level) = (limits.rate(kind, &scope)?, past.state.bucket_level(kind, &scope, past.time)?);
        let kind = match kind {
            RateKind::Requests => "requests_per_minute",
            RateKind::Tokens => "tokens_per_minute",
        };
        Some(BucketView {
            name: format!("{kind}:{scope}"),
            per_minute: rate.per_minute,
            capacity: rate.capacity,
            level,
        })
    };
    limits.rates().filter_map(view).collect()
}

/// Budgets that bound something: of sessions that have not ended, and of work packets.
fn budgets(past: &Past) -> Vec<BudgetView> {
    let sessions = past.state.live_sessions(None).map(|session| {
        let owner = BudgetOwner::Session(session.creation.session_id);
        (owner, session.budget.lines())
    });
    let packets = past.counts.work_packets.iter().map(|id| {
        let account = past.state.work_packet_budget(id);
        (BudgetOwner::WorkPacket(id.clone()), account.lines())
    });
    let bounded = sessions.chain(packets).filter(|(_, (tokens, usd))| tokens.limit.is_some() || usd.limit.is_some());
    bounded.map(|(owner, (tokens, usd))| BudgetView { owner: owner.to_string(), tokens, usd }).collect()
}

fn holder(run: &Run) -> HolderView {
    HolderView {
        run_id: run.record.run_id,
        session_id: run.record.session_id,
        state: run.state(),
        lane: run.record.fields.lane,
        model_id: run.record.fields.model_id.to_string(),
        dispatched_at: run.record.status.dispatched_at,
    }
}

/// The first waiting run of each session that executes none, those that have waited longest first.
fn heads(past: &Past) -> Vec<HeadView> {
    let first = past.state.live_sessions(None).filter(|session| session.current.is_none()).filter_map(|session| {
        let waiting = session.queue.values().chain(session.delayed.values());
        past.state.run(*waiting.into_iter().next()?)
    });
    // A run in backoff is its session's current one, and waits too.
    let backoff = past.state.live_sessions(None).filter_map(|session| past.state.run(session.current?));
    let waiting = first.chain(backoff.filter(|run| run.state() == JobState::Queued));
    let mut heads: Vec<HeadView> = waiting
        .map(|run| HeadView {
            run_id: run.record.run_id,
            session_id: run.record.session_id,
            lane: run.record.fields.lane,
            priority: run.record.fields.priority,
            fairness_key: run.record.fields.fairness_key.clone(),
            model_id: run.record.fields.model_id.to_string(),
            reason: past.state.wait_reason(run, past.pools.hints(), past.time),
            waited_ms: past.time.millis_since(run.record.status.submitted_at),
        })
        .collect();
    heads.sort_by(|a, b| b.waited_ms.cmp(&a.waited_ms).then(a.run_id.cmp(&b.run_id)));
    heads
}
