//! What is on the screen, as plain data. Time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use laneway_contract::{
    Epoch, Explanation, Lane, LimitName, LimitRow, LimitsReply, ModelId, RunId, RunView, Scope, StatusReply, Timestamp,
    WaitReason, WorkerView,
};
use serde::Serialize;

use crate::output;

/// Seconds that a curve shows.
const CURVE: usize = 60;

/// One look at the deployment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When, counted from the start.
    pub(super) at: Duration,
    /// The scheduler's own view.
    pub(super) status: StatusReply,
    /// Each limit with its level.
    pub(super) limits: LimitsReply,
    /// The runs that have waited longest, with what holds them, where it was asked.
    pub(super) oldest: Vec<(RunView, Option<Explanation>)>,
    /// Chunks of text that were heard since the start.
    pub(super) chunks: u64,
}

/// What is on the screen.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Model {
    /// The leading scheduler; nothing before the first look.
    pub(super) head: Option<Head>,
    /// All lanes, in the order of their weights.
    pub(super) lanes: Vec<LaneRow>,
    /// Limits on how many runs hold a slot: the global one, then the fullest first.
    pub(super) slots: Vec<SlotRow>,
    /// Limits on how much goes in a minute, the emptiest bucket first.
    pub(super) buckets: Vec<BucketRow>,
    /// The busiest first.
    pub(super) workers: Vec<WorkerRow>,
    /// The longest first.
    pub(super) waits: Vec<WaitRow>,
    /// Chunks of text in a second: one token each, unless a worker had to join some.
    pub(super) tokens: Curve,
    /// Runs that ended in a second.
    pub(super) ended: Curve,
    /// Why the last look failed; what is shown is older.
    pub(super) trouble: Option<String>,
    #[serde(skip)]
    before: Option<Before>,
}

/// The leading scheduler.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Head {
    pub(super) leader: String,
    pub(super) epoch: Epoch,
    pub(super) journal_seq: u64,
    pub(super) time: Timestamp,
    pub(super) sessions: u64,
    pub(super) queued: u64,
    pub(super) executing: u64,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LaneRow {
    pub(super) lane: Lane,
    pub(super) queued: u64,
    pub(super) weight: u64,
}

/// A limit on runs at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SlotRow {
    pub(super) name: String,
    pub(super) used: u64,
    pub(super) limit: u64,
    /// Of it, only for PRIMARY.
    pub(super) reserve: u64,
}

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct BucketRow {
    /// As `openai tokens` or `openai/gpt-5 requests`.
    pub(super) name: String,
    /// Below zero after a call that used more than it had reserved.
    pub(super) level: i64,
    pub(super) capacity: u64,
    pub(super) per_minute: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WorkerRow {
    pub(super) name: String,
    pub(super) executing: u32,
    pub(super) slots: u32,
    pub(super) models: String,
}

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WaitRow {
    pub(super) run_id: RunId,
    pub(super) waited_ms: u64,
    pub(super) lane: Lane,
    pub(super) model_id: ModelId,
    pub(super) why: String,
    /// Its place in its lane.
    pub(super) place: Option<u64>,
}

/// Values of the last seconds, the newest last.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Curve(VecDeque<f64>);

impl Curve {
    /// The newest value.
    pub(super) fn now(&self) -> Option<f64> {
        self.0.back().copied()
    }

    /// The last `count` values, the newest last.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = f64> {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }

    fn push(&mut self, value: f64) {
        if self.0.len() == CURVE {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }
}

/// What speeds are worked out from.
#[derive(Clone, Copy, Debug)]
struct Before {
    at: Duration,
    chunks: u64,
    ended: u64,
}

impl Model {
    /// Takes what was seen.
    pub(super) fn take(&mut self, look: Look) {
        let Look { at, status, limits, oldest, chunks } = look;
        let now = Before { at, chunks, ended: status.ended_runs };
        if let Some(before) = self.before.replace(now) {
            let seconds = at.saturating_sub(before.at).as_secs_f64().max(0.001);
            let speed = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            self.tokens.push(speed(now.chunks, before.chunks));
            // Runs that are forgotten hide as many that ended.
            self.ended.push(speed(now.ended, before.ended));
        }
        self.lanes = lanes(&status);
        self.slots = slots(&limits.limits);
        self.buckets = buckets(&limits.limits);
        self.waits = waits(oldest, status.time);
        self.head = Some(Head {
            leader: status.leader,
            epoch: status.epoch,
            journal_seq: status.journal_seq,
            time: status.time,
            sessions: status.sessions,
            queued: status.queued.values().sum(),
            executing: status.in_use.get("global").copied().unwrap_or_default().into(),
        });
        self.workers = workers(status.workers);
        self.trouble = None;
    }

    /// Takes that nothing could be seen.
    pub(super) fn miss(&mut self, why: String) {
        self.trouble = Some(why);
    }
}

fn lanes(status: &StatusReply) -> Vec<LaneRow> {
    let row = |lane: &Lane| LaneRow {
        lane: *lane,
        queued: status.queued.get(lane).copied().unwrap_or_default(),
        weight: status.limits.weight(*lane),
    };
    let mut rows: Vec<_> = Lane::ALL.iter().map(row).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.weight), row.lane));
    rows
}

fn slots(limits: &[LimitRow]) -> Vec<SlotRow> {
    let mut rows: Vec<_> = limits
        .iter()
        .filter_map(|row| {
            let (name, reserve) = (row.name.clone(), row.reserve.unwrap_or_default());
            Some(SlotRow { name, used: row.used?, limit: row.value?, reserve })
        })
        .collect();
    let full = |row: &SlotRow| row.used as f64 / row.limit.max(1) as f64;
    rows.sort_by(|a, b| {
        let global_first = (b.name == "global").cmp(&(a.name == "global"));
        global_first.then(full(b).total_cmp(&full(a))).then_with(|| a.name.cmp(&b.name))
    });
    rows
}

fn buckets(limits: &[LimitRow]) -> Vec<BucketRow> {
    let row = |row: &LimitRow| {
        let name = LimitName::parse(&row.name).ok()?;
        let (kind, scope) = if let LimitName::RequestsPerMinute(scope) = name {
            ("requests", scope)
        } else if let LimitName::TokensPerMinute(scope) = name {
            ("tokens", scope)
        } else {
            return None;
        };
        let burst = format!("{kind}_burst:{scope}");
        let per_minute = row.value?;
        let capacity = limits.iter().find(|row| row.name == burst).and_then(|row| row.value).unwrap_or(per_minute);
        let level = row.level.unwrap_or(capacity as i64);
        let owner = match &scope {
            Scope::Provider(name) => name.as_str(),
            Scope::Model(id) => id.as_str(),
        };
        Some(BucketRow { name: format!("{owner} {kind}"), level, capacity, per_minute })
    };
    let mut rows: Vec<_> = limits.iter().filter_map(row).collect();
    let full = |row: &BucketRow| row.level as f64 / row.capacity.max(1) as f64;
    rows.sort_by(|a, b| full(a).total_cmp(&full(b)).then_with(|| a.name.cmp(&b.name)));
    rows
}

fn workers(workers: Vec<WorkerView>) -> Vec<WorkerRow> {
    let row = |worker: WorkerView| WorkerRow {
        name: worker.worker_id.to_string(),
        executing: worker.executing,
        slots: worker.slots,
        models: worker.models.join(" "),
    };
    let mut rows: Vec<_> = workers.into_iter().map(row).collect();
    let full = |row: &WorkerRow| f64::from(row.executing) / f64::from(row.slots.max(1));
    rows.sort_by(|a, b| full(b).total_cmp(&full(a)).then_with(|| a.name.cmp(&b.name)));
    rows
}

fn waits(oldest: Vec<(RunView, Option<Explanation>)>, now: Timestamp) -> Vec<WaitRow> {
    let row = |(run, explanation): (RunView, Option<Explanation>)| {
        let since = run.status.submitted_at.max(run.fields.not_before.unwrap_or(Timestamp::ZERO));
        WaitRow {
            run_id: run.run_id,
            waited_ms: now.millis_since(since),
            lane: run.fields.lane,
            why: why(&run, explanation.as_ref(), now),
            model_id: run.fields.model_id,
            place: explanation.and_then(|explanation| explanation.place),
        }
    };
    let mut rows: Vec<_> = oldest.into_iter().map(row).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.waited_ms), row.run_id));
    rows
}

/// What holds a run, shortly: the level with its limit, or the reason with its end; and how many more there are.
fn why(run: &RunView, explanation: Option<&Explanation>, now: Timestamp) -> String {
    let Some(hold) = explanation.and_then(|explanation| explanation.holds.first()) else {
        return run.status.reason.to_string();
    };
    let is_amount =
        matches!(hold.reason, WaitReason::RequestsPerMinute | WaitReason::TokensPerMinute | WaitReason::Budget);
    let mut text = match (hold.level, hold.limit) {
        (Some(level), Some(_)) if is_amount => format!("{} {level} left", hold.reason),
        (Some(level), Some(limit)) => format!("{level}/{limit} {}", hold.name),
        (Some(_) | None, _) => hold.reason.to_string(),
    };
    if let Some(until) = hold.until {
        text = format!("{text} {}", output::span(until.millis_since(now)));
    }
    match explanation.map_or(0, |explanation| explanation.holds.len() - 1) {
        0 => text,
        more => format!("{text} +{more}"),
    }
}

#[cfg(test)]
pub(super) mod tests;
