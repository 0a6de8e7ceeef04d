//! The workload of a journal: what came from outside, and how long what was started took.
//!
//! Arrivals, appends, cancels, pauses, ends of sessions and changes of limits keep their times. What the scheduler decided
//! (dispatches, retries, timeouts) is left out: the model decides it again. Of each dispatch stays how long it took to be
//! claimed, of each attempt how long it took and what it came to, of each person's decision how long it was waited for.

mod attempt;
mod recorder;

use std::collections::{BTreeMap, HashMap};

use laneway_contract::{
    Actor, Decision, Event, Lane, MessageDraft, ModelId, Outcome, PoolId, RunId, SessionId, Timestamp,
};
use laneway_engine::{EndSession, PauseSession, Submit};

pub(crate) use recorder::Recorder;

/// Where in the journal something stood: counts turns. What is due in the same millisecond goes in this order.
pub(crate) type Order = u64;

/// What the model is made of.
#[derive(Debug, Default)]
pub(crate) struct Workload {
    /// What came from outside, in the order of the journal.
    pub(crate) inputs: Vec<Input>,
    /// Every run that was submitted, in the order of the journal.
    pub(crate) runs: Vec<RecordedRun>,
    /// Where in `runs` a run is.
    pub(crate) index: HashMap<RunId, usize>,
    /// Times without a leader, in which nothing was decided.
    pub(crate) silences: Vec<Silence>,
    /// What an attempt takes of which no more is known than its model.
    pub(crate) typical: Typical,
    /// The time of the first turn.
    pub(crate) began: Timestamp,
    /// The time of the last turn.
    pub(crate) ended: Timestamp,
}

/// Something that came from outside.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) at: Timestamp,
    pub(crate) order: Order,
    pub(crate) what: Asked,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Facts that no schedule changes: sessions, messages of callers, budgets.
    Facts(Vec<Event>),
    /// Limits were changed.
    Limits(Vec<Event>),
    /// A run was submitted.
    Submit(Box<Submit>),
    /// Somebody cancelled a run.
    Cancel { run_id: RunId, actor: Actor, reason: String },
    /// Somebody paused or resumed a session.
    Pause(PauseSession),
    /// Somebody ended a session that had runs.
    End(EndSession),
    /// The first dispatch to a pool: it was there from now on.
    Pool(PoolId),
    /// A leader began after this long without one.
    Leader { gap_ms: u64 },
}

/// A time without a leader: after `from`, before `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// The order of the leader's beginning.
    pub(crate) order: Order,
}

/// A run as the journal shows it.
#[derive(Debug)]
pub(crate) struct RecordedRun {
    pub(crate) lane: Lane,
    pub(crate) fairness_key: String,
    pub(crate) model_id: ModelId,
    pub(crate) submitted_at: Timestamp,
    /// From submit to the first dispatch; none when it was never dispatched.
    pub(crate) wait_ms: Option<u64>,
    /// Its dispatches in order.
    pub(crate) dispatches: Vec<Dispatch>,
    /// What persons decided about it, in order.
    pub(crate) decisions: Vec<Decided>,
}

/// What became of a dispatch.
#[derive(Debug)]
pub(crate) enum Dispatch {
    /// A worker took it.
    Claimed { after_ms: u64, order: Order, attempt: Box<Attempt> },
    /// Nobody took it in time.
    Ignored,
    /// Nobody had taken it after this long, when something else ended it, or the journal did.
    Open { unclaimed_ms: u64 },
}

/// An attempt, from its claim on.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Reports before the last.
    pub(crate) parts: Vec<Part>,
    pub(crate) end: AttemptEnd,
}

/// A report that was not final.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) after_ms: u64,
    pub(crate) order: Order,
    pub(crate) messages: Vec<MessageDraft>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// By itself.
    Finished { after_ms: u64, order: Order, messages: Vec<MessageDraft>, outcome: Outcome },
    /// Because it was told to, so that nobody knows how long it would have taken: longer than it ran.
    Stopped { ran_ms: u64, after_stop_ms: u64, order: Order, messages: Vec<MessageDraft>, outcome: Outcome },
    /// Its worker was lost, and the lease ended.
    Lost { after_ms: u64 },
    /// It still executes at the end of the journal.
    Open { ran_ms: u64 },
}

/// What a person decided, and how long after the run began to wait for it.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) after_ms: u64,
    pub(crate) order: Order,
    pub(crate) decision: Decision,
    pub(crate) actor: Actor,
    pub(crate) reason: String,
}

/// The middle of what was recorded.
#[derive(Debug, Default)]
pub(crate) struct Typical {
    claim_ms: u64,
    by_model: BTreeMap<ModelId, (u64, u64)>,
    all: (u64, u64),
}

/// What an attempt takes when the journal shows none that has finished.
const UNKNOWN_ATTEMPT_MS: u64 = 1_000;

impl Typical {
    fn of(runs: &[RecordedRun]) -> Self {
        let (mut claims, mut all_took, mut all_tokens) = (Vec::new(), Vec::new(), Vec::new());
        let mut by_model: BTreeMap<ModelId, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
        for run in runs {
            for dispatch in &run.dispatches {
                let Dispatch::Claimed { after_ms, attempt, .. } = dispatch else { continue };
                claims.push(*after_ms);
                if let AttemptEnd::Finished { after_ms, outcome, .. } = &attempt.end {
                    let (took, tokens) = by_model.entry(run.model_id.clone()).or_default();
                    took.push(*after_ms);
                    tokens.push(outcome.usage.total());
                    all_took.push(*after_ms);
                    all_tokens.push(outcome.usage.total());
                }
            }
        }
        let all = (median(all_took).unwrap_or(UNKNOWN_ATTEMPT_MS), median(all_tokens).unwrap_or(0));
        let of_model = |(took, tokens)| (median(took).unwrap_or(all.0), median(tokens).unwrap_or(all.1));
        let by_model = by_model.into_iter().map(|(model, values)| (model, of_model(values))).collect();
        Self { claim_ms: median(claims).unwrap_or(0), by_model, all }
    }

    /// From a dispatch to its claim, in milliseconds.
    pub(crate) const fn claim_ms(&self) -> u64 {
        self.claim_ms
    }

    /// Milliseconds and tokens of an attempt.
    pub(crate) fn attempt(&self, model: &ModelId) -> (u64, u64) {
        self.by_model.get(model).copied().unwrap_or(self.all)
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Live runs of each session, to tell an end that cancels some from one that meets none.
type LiveRuns = HashMap<SessionId, u32>;

#[cfg(test)]
mod tests;
