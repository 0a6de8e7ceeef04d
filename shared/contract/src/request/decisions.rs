//! Requests of people: what holds a run, what to do with one that waits, and another try.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::ids::{RunId, SessionId};
use crate::session::Actor;
use crate::time::Timestamp;
use crate::vocabulary::{Decision, JobState, Lane, WaitReason};

/// `runs.explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRun {
    /// The run.
    pub run_id: RunId,
}

/// Reply of `runs.explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainReply {
    /// The run.
    pub run_id: RunId,
    /// What holds it.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// Why a run does not start now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its state.
    pub state: JobState,
    /// The lane it waits in.
    pub lane: Lane,
    /// Its place in its lane, from 1: how many of the runs queued there would go before it, and itself. Null when it does not wait there.
    pub place: Option<u64>,
    /// What holds it first.
    pub reason: WaitReason,
    /// All that holds it, in the order of admission.
    pub holds: Vec<Hold>,
    /// It does not start before this time, where that is known. Never later than it does start when nothing else is asked for.
    pub earliest_start: Option<Timestamp>,
    /// A change of limits that would start it now, where there is one.
    pub counterfactual: Option<Counterfactual>,
    /// The same in a sentence.
    pub summary: String,
}

/// One thing that holds a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// What kind of thing.
    pub reason: WaitReason,
    /// Its name: of the limit, the budget, or the session's run before it.
    pub name: String,
    /// The limit's number.
    pub limit: Option<u64>,
    /// How much of it is taken; what a bucket holds or a budget has left, for those.
    pub level: Option<i64>,
    /// How much of it the run needs.
    pub needs: Option<u64>,
    /// When it ends, where that is known.
    pub until: Option<Timestamp>,
    /// Runs that hold it now; at most 20.
    pub holders: Vec<Holder>,
}

/// A run that holds a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Since when it holds it.
    pub since: Option<Timestamp>,
}

/// What would start a run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counterfactual {
    /// The body of `limits.set` that does it.
    pub changes: BTreeMap<String, u64>,
    /// The same in words.
    pub text: String,
}

/// `runs.decide`: about a run that is `stalled` or `awaiting_user`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideRun {
    /// The run.
    pub run_id: RunId,
    /// What.
    pub decision: Decision,
    /// The approval that is meant; another one is refused.
    pub approval_id: Option<String>,
    /// Who.
    pub actor: Actor,
    /// Why, at most 128 bytes.
    #[serde(default)]
    pub reason: String,
}

/// `runs.retry`: either `run_ids`, or a filter. A run that is `failed` or `poisoned` is tried again as a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRuns {
    /// These runs, at most 200.
    pub run_ids: Option<Vec<RunId>>,
    /// Runs of this session.
    pub session_id: Option<SessionId>,
    /// Runs in this state, `failed` or `poisoned`; without it, both.
    pub state: Option<JobState>,
    /// Runs that failed with this code.
    pub error_code: Option<String>,
    /// Runs that ended at this time or later.
    pub ended_after: Option<Timestamp>,
    /// Rows, at most 200. Default 100.
    pub limit: Option<u32>,
    /// The last run of the page before.
    pub cursor: Option<RunId>,
    /// Only say which runs it would be.
    #[serde(default)]
    pub dry_run: bool,
    /// Makes another retry of a run that was retried before; without it, that is a repeat.
    pub key: Option<String>,
    /// Who asks.
    pub actor: Actor,
}

/// Reply of `runs.retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryReply {
    /// A row for each run that was concerned.
    pub runs: Vec<RetriedRun>,
    /// Where the next page of a filter begins; null at the end.
    pub cursor: Option<RunId>,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// A run in the reply of a retry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetriedRun {
    /// The run that had failed.
    pub run_id: RunId,
    /// The run that tries it again.
    pub retried_as: Option<RunId>,
    /// Whether it was retried before under this id.
    pub repeated: bool,
    /// Why it was not.
    pub error: Option<ApiError>,
}
