//! The facts of the journal. Each carries all that was decided, so that applying one decides nothing.
//!
//! Stored as compact MessagePack (fields by position): a change of shape is a new format version, never an edit.

use serde::{Deserialize, Serialize};

use crate::ids::{ArtifactId, Epoch, HashKey, MessageId, ModelId, PoolId, RunId, SessionId, WorkerId};
use crate::incident::Incident;
use crate::limits::{LimitChange, Limits, Scope};
use crate::memory::EvictedSession;
use crate::message::{Artifact, MessageRecord};
use crate::money::MicroUsd;
use crate::run::{Estimate, Reservation, RunError, RunRecord, Usage};
use crate::session::{Actor, SessionCreation, SessionStatus};
use crate::snapshot::SnapshotTaken;
use crate::time::Timestamp;
use crate::vocabulary::{BudgetType, Decision, RateCause, SessionState};

/// What a request with a key contained, so that a repeat with other content is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub u128);

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The deployment's hash key was made. The first event of a journal.
    HashKeyCreated {
        /// The key.
        key: HashKey,
    },
    /// Limits differ from now on, all of them together.
    LimitsChanged {
        /// Each that differs, by name.
        changes: Vec<LimitChange>,
        /// Who changed them.
        changed_by: Actor,
    },
    /// The configuration of a process was put into force, so that it is not again before it has changed.
    LimitsConfigured {
        /// What it says.
        limits: Limits,
    },
    /// The budget of a work packet or session is this from now on.
    BudgetSet {
        /// Whose.
        owner: BudgetOwner,
        /// Tokens; null when they are not bounded.
        tokens: Option<u64>,
        /// US dollars; null when they are not bounded.
        usd: Option<MicroUsd>,
        /// What `tokens` was.
        tokens_before: Option<u64>,
        /// What `usd` was.
        usd_before: Option<MicroUsd>,
        /// Who asked.
        changed_by: Actor,
    },
    /// Most of a budget is used. Once, until the budget is set again.
    BudgetWarned {
        /// Whose.
        owner: BudgetOwner,
        /// The session whose run used it.
        session_id: SessionId,
        /// What is counted.
        budget_type: BudgetType,
        /// What is used: tokens, or millionths of a US dollar.
        current_value: u64,
        /// What it warns at.
        threshold_value: u64,
    },
    /// Runs of a provider or model wait, or go on step by step. None: as if nothing had been.
    CoolDownChanged {
        /// Whose runs.
        scope: Scope,
        /// What holds.
        cool_down: Option<CoolDown>,
    },
    /// What a fold of the journal up to here has to look like. Every follower compares it with its own.
    StateDigest {
        /// The digest.
        digest: u128,
    },
    /// Something went wrong beside the journal and was noticed. The engine keeps nothing of it.
    IncidentNoted(Incident),
    /// A fold of the journal was written, read back and found right: a start may begin with it.
    SnapshotTaken(SnapshotTaken),
    /// Bytes were stored. The engine keeps nothing of them.
    ArtifactStored(Artifact),
    /// A session was made.
    SessionCreated {
        /// The session.
        session: Box<SessionCreation>,
        /// What the request contained.
        fingerprint: Fingerprint,
    },
    /// The state of a session is another.
    SessionStateChanged {
        /// The session.
        session_id: SessionId,
        /// The state before.
        from: SessionState,
        /// Why.
        reason: String,
        /// What holds now.
        status: SessionStatus,
        /// From creation to now, for the event of an ended session.
        duration_ms: u64,
    },
    /// Totals and current run of a session are these, while its state is as before.
    SessionTouched {
        /// The session.
        session_id: SessionId,
        /// What holds now.
        status: SessionStatus,
    },
    /// A pause was set or taken back.
    SessionPauseSet {
        /// The session.
        session_id: SessionId,
        /// Whether it is paused.
        paused: bool,
        /// Who asked.
        actor: Actor,
        /// Why.
        reason: String,
    },
    /// The end of a session was asked for: no new submits and appends from here on.
    SessionEndRequested {
        /// The session.
        session_id: SessionId,
        /// The state it will end in.
        end: SessionState,
        /// Who asked.
        actor: Actor,
        /// Why.
        reason: String,
    },
    /// Sessions are held in memory no more. Every store replica keeps their records until they are loaded again.
    SessionsEvicted {
        /// Counts evictions of sessions and keys, from 1.
        number: u64,
        /// The sessions, those first that had changed least recently.
        sessions: Vec<EvictedSession>,
    },
    /// A session is held in memory again, as a store replica had kept it.
    SessionLoaded {
        /// As it was made.
        session: Box<SessionCreation>,
        /// All else.
        record: Box<EvictedSession>,
        /// Evictions that the replica had applied when it was read.
        read_at: u64,
    },
    /// Keys of appends are held in memory no more. Every store replica keeps them as long as their messages.
    KeysEvicted {
        /// Counts evictions of sessions and keys, from 1.
        number: u64,
        /// Keys with a smaller number are given up; they are counted as they are taken, from 1.
        before: u64,
    },
    /// Ended runs are remembered no more: a repeated submit or report is not known as one.
    RunsForgotten {
        /// Runs with a smaller number are forgotten; they are counted as they end, from 1.
        before: u64,
    },
    /// A message has its place in a thread.
    MessageAppended(Box<MessageRecord>),
    /// An append was taken under a key; its messages stand before this event in the same turn.
    AppendKeyTaken {
        /// The session.
        session_id: SessionId,
        /// The caller's key.
        key: String,
        /// What the request contained.
        fingerprint: Fingerprint,
        /// The first of its messages.
        first_seq: u64,
        /// The last of its messages.
        last_seq: u64,
    },
    /// A run waits.
    RunQueued {
        /// The run with state `queued`.
        run: Box<RunRecord>,
        /// What the request contained.
        fingerprint: Fingerprint,
        /// What its reservation is made of.
        estimate: Estimate,
    },
    /// A run holds its limits, and a pool may claim it.
    RunDispatched {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// Counts the run's dispatches, from 1.
        dispatch_no: u32,
        /// Who may claim it.
        pool: PoolId,
        /// When it goes back into the queue unless it was claimed.
        claim_by: Timestamp,
        /// The lane it waited in.
        lane: crate::vocabulary::Lane,
        /// The model.
        model_id: ModelId,
        /// From submit to now.
        queue_wait_ms: u64,
        /// What it takes of buckets and budgets.
        reserved: Reservation,
    },
    /// The run waits in its queue again.
    RunReturned {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// Why.
        cause: ReturnCause,
        /// The dispatch that is over.
        dispatch_no: u32,
        /// The epoch of its last attempt; 0 before the first.
        epoch: Epoch,
        /// Reports of the attempt that were taken, when it was handed back.
        reports: u32,
    },
    /// A worker executes the run.
    RunClaimed {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The attempt, from 1.
        attempt: u32,
        /// The fencing number of its lease.
        epoch: Epoch,
        /// The worker.
        worker_id: WorkerId,
        /// The worker's own number of this claim; a repeat gets the same answer.
        claim_id: u64,
        /// The model.
        model_id: ModelId,
        /// The thread's end that the window reaches, set by the first claim.
        upto_seq: u64,
        /// When the attempt has to have ended.
        stop_at: Timestamp,
    },
    /// An executing run is to stop. Renewals no longer extend its lease.
    RunStopRequested {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// Why.
        cause: StopCause,
    },
    /// A report that is not final was taken; its messages stand before this event in the same turn.
    ReportTaken {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The epoch of the attempt.
        epoch: Epoch,
        /// Its number, from 0.
        report_no: u32,
    },
    /// A worker lost its lease. What becomes of the run stands behind this event in the same turn.
    LeaseExpired {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The attempt.
        attempt: u32,
        /// The epoch that is over.
        epoch: Epoch,
        /// The worker that was lost.
        worker_id: WorkerId,
        /// What is done about it: `retry`, `fail`, `stall`, `cancel` or `poison`.
        action: String,
    },
    /// A complete answer came after its lease had expired and before another attempt was claimed: it counts, so that
    /// nobody pays twice. The settlement stands behind this event in the same turn.
    LateAnswerTaken {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The attempt.
        attempt: u32,
        /// The epoch that was over.
        epoch: Epoch,
    },
    /// The run waits for a rate. Once per run and cause.
    RunRateLimited {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The provider.
        provider: String,
        /// The attempt that was refused, or that waits.
        attempt: u32,
        /// The wait, as far as it is known now.
        backoff_ms: u64,
        /// Why.
        cause: RateCause,
        /// The bucket that has not enough, by its limit's name, and what it holds.
        bucket: Option<(String, i64)>,
    },
    /// The attempt failed and another will be made.
    RunRetryScheduled {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The attempt that failed.
        attempt: u32,
        /// Its epoch.
        epoch: Epoch,
        /// Why it failed.
        error: RunError,
        /// Tokens of all attempts so far.
        usage: Usage,
        /// Cost of all attempts so far, where the price is known.
        cost_usd: Option<MicroUsd>,
        /// Reports of this attempt that were taken; 0 when its worker was lost.
        reports: u32,
        /// The wait before the next.
        backoff_ms: u64,
        /// When the run is queued again.
        not_before: Timestamp,
    },
    /// The run has lost its worker, or was given up by it, after a tool was called: a person has to decide.
    RunStalled {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The attempt.
        attempt: u32,
        /// Tokens of all attempts so far, as far as they are known.
        usage: Usage,
        /// Cost of all attempts so far, where the price is known.
        cost_usd: Option<MicroUsd>,
        /// Reports of this attempt that were taken.
        reports: u32,
        /// The calls that nobody has answered.
        pending_tool_call_ids: Vec<String>,
    },
    /// The run waits for a person's approval.
    RunParked {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// The attempt.
        attempt: u32,
        /// What it waits for.
        approval_id: String,
        /// Tokens of all attempts so far.
        usage: Usage,
        /// Cost of all attempts so far, where the price is known.
        cost_usd: Option<MicroUsd>,
        /// Reports of this attempt that were taken.
        reports: u32,
    },
    /// A person has decided about a run that waited for it. What becomes of the run stands behind this event.
    RunDecided {
        /// The run.
        run_id: RunId,
        /// Its session.
        session_id: SessionId,
        /// What.
        decision: Decision,
        /// Who.
        decided_by: Actor,
        /// Why.
        reason: String,
    },
    /// The run has ended.
    RunSettled {
        /// The run, as it stays.
        run: Box<RunRecord>,
        /// Reports of the last attempt that were taken.
        reports: u32,
        /// From the first claim to the end.
        duration_ms: u64,
        /// The answer's message with its artifact, for those who wait.
        output: Option<Output>,
    },
}

/// The last answer of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The message.
    pub message_id: MessageId,
    /// Its content.
    pub artifact_id: ArtifactId,
}

/// Why a run waits in its queue again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnCause {
    /// Nobody claimed its dispatch in time.
    Unclaimed,
    /// Its session was paused before anybody had claimed it.
    Paused,
    /// Its worker was leaving and had not called the provider.
    HandedBack,
    /// The wait before its next attempt, or before its first, is over.
    Waited,
}

/// Why an executing run is to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// Somebody cancelled it.
    Cancel {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// The attempt's time is over.
    Timeout,
    /// The run's time is over.
    Deadline,
}

/// Whose budget it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BudgetOwner {
    /// A session.
    Session(SessionId),
    /// A work packet: all its sessions together.
    WorkPacket(String),
}

impl std::fmt::Display for BudgetOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session:{id}"),
            Self::WorkPacket(id) => write!(f, "wp:{id}"),
        }
    }
}

/// How the runs of a provider or model are held back after failures: none before `until`, then `allowed` at a time,
/// twice as many after each success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolDown {
    /// Nothing starts before this time.
    pub until: Timestamp,
    /// Runs at a time after it; none while only failures are counted.
    pub allowed: Option<u32>,
    /// Failures in a row.
    pub failures: u32,
}

impl Event {
    /// The session that the event concerns.
    #[must_use]
    pub fn session_id(&self) -> Option<SessionId> {
        match self {
            Self::HashKeyCreated { .. }
            | Self::LimitsChanged { .. }
            | Self::LimitsConfigured { .. }
            | Self::BudgetSet { .. }
            | Self::CoolDownChanged { .. }
            | Self::StateDigest { .. }
            | Self::SessionsEvicted { .. }
            | Self::KeysEvicted { .. }
            | Self::RunsForgotten { .. }
            | Self::SnapshotTaken(_)
            | Self::ArtifactStored(_) => None,
            Self::IncidentNoted(incident) => incident.session_id,
            Self::SessionCreated { session, .. } | Self::SessionLoaded { session, .. } => Some(session.session_id),
            Self::MessageAppended(message) => Some(message.session_id),
            Self::RunQueued { run, .. } | Self::RunSettled { run, .. } => Some(run.session_id),
            Self::SessionStateChanged { session_id, .. }
            | Self::SessionTouched { session_id, .. }
            | Self::BudgetWarned { session_id, .. }
            | Self::RunStalled { session_id, .. }
            | Self::RunParked { session_id, .. }
            | Self::RunDecided { session_id, .. }
            | Self::SessionPauseSet { session_id, .. }
            | Self::SessionEndRequested { session_id, .. }
            | Self::AppendKeyTaken { session_id, .. }
            | Self::RunDispatched { session_id, .. }
            | Self::RunReturned { session_id, .. }
            | Self::RunClaimed { session_id, .. }
            | Self::RunStopRequested { session_id, .. }
            | Self::LateAnswerTaken { session_id, .. }
            | Self::ReportTaken { session_id, .. }
            | Self::LeaseExpired { session_id, .. }
            | Self::RunRateLimited { session_id, .. }
            | Self::RunRetryScheduled { session_id, .. } => Some(*session_id),
        }
    }
}
