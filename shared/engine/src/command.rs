//! What the leader is asked to do, after the edge has parsed, checked and hashed it.

use laneway_contract::{
    Actor, Artifact, Backend, BudgetOwner, Decision, Epoch, Estimate, Fingerprint, GenerationSettings, HashKey,
    Incident, Lane, LimitName, Limits, MessageDraft, MicroUsd, ModelId, OnBusy, Outcome, RetryBackoff, RunId,
    SessionFields, SessionId, SessionState, StoredSession, Timestamp, WorkerId,
};

/// A command. One variant for each kind of decision.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make the deployment's hash key. Refused when there is one.
    CreateHashKey(HashKey),
    /// Change limits.
    SetLimits(Box<SetLimits>),
    /// Set a budget.
    SetBudget(SetBudget),
    /// Note what went wrong beside the journal.
    Note(Incident),
    /// Store bytes.
    Put(Box<Artifact>),
    /// Make a session.
    Create(Box<Create>),
    /// Append to a thread.
    Append(Box<Append>),
    /// Queue a run.
    Submit(Box<Submit>),
    /// Cancel runs. Takes at most [`Cancel::BATCH`] at a time: repeat until no event comes.
    Cancel(Cancel),
    /// Pause or resume a session.
    Pause(PauseSession),
    /// End a session.
    End(EndSession),
    /// Take the lease of a dispatched run.
    Claim(Claim),
    /// Decide about a run that waits for a person.
    Decide(Decide),
    /// Take in what an attempt produced.
    Report(Box<Report>),
    /// Hold a session again that was given up.
    Load(Box<Load>),
}

/// See [`Command::SetLimits`].
#[derive(Clone, Debug)]
pub struct SetLimits {
    /// What is to change.
    pub change: LimitsChange,
    /// Who asks.
    pub actor: Actor,
}

/// A change of limits.
#[derive(Clone, Debug)]
pub enum LimitsChange {
    /// What a configuration says, in place of everything that holds. Once: the same again changes nothing, so that what
    /// was changed while running stays until the configuration itself is another.
    Configured(Box<Limits>),
    /// Single limits; none takes one away.
    Single(Vec<(LimitName, Option<u64>)>),
}

/// See [`Command::Load`].
#[derive(Clone, Debug)]
pub struct Load {
    /// The session, as a store replica has it.
    pub session: StoredSession,
    /// Evictions that the replica had applied.
    pub read_at: u64,
}

/// See [`Command::SetBudget`].
#[derive(Clone, Debug)]
pub struct SetBudget {
    /// Whose.
    pub owner: BudgetOwner,
    /// Tokens; none does not bound them.
    pub tokens: Option<u64>,
    /// US dollars; none does not bound them.
    pub usd: Option<MicroUsd>,
    /// Who asks.
    pub actor: Actor,
}

/// See [`Command::Decide`].
#[derive(Clone, Debug)]
pub struct Decide {
    /// The run.
    pub run_id: RunId,
    /// What.
    pub decision: Decision,
    /// The approval that is meant.
    pub approval_id: Option<String>,
    /// Who.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

/// See [`Command::Create`].
#[derive(Clone, Debug)]
pub struct Create {
    /// The session.
    pub session: NewSession,
    /// The contents of its messages.
    pub artifacts: Vec<Artifact>,
    /// What the request contained.
    pub fingerprint: Fingerprint,
}

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub session_id: SessionId,
    /// Its fields; the depth is worked out from the parent.
    pub fields: SessionFields,
    /// SYSTEM from the instructions, then history.
    pub messages: Vec<MessageDraft>,
}

/// See [`Command::Append`].
#[derive(Clone, Debug)]
pub struct Append {
    /// The session.
    pub session_id: SessionId,
    /// One or more USER messages.
    pub messages: Vec<MessageDraft>,
    /// Their contents.
    pub artifacts: Vec<Artifact>,
    /// The idempotency key.
    pub key: String,
    /// What the request contained.
    pub fingerprint: Fingerprint,
    /// The last seq that the caller knows.
    pub expected_tail: Option<u64>,
}

/// See [`Command::Submit`]. What is not given comes from the session.
#[derive(Clone, Debug)]
pub struct Submit {
    /// The run, which is also the idempotency key.
    pub run_id: RunId,
    /// An existing session.
    pub session_id: Option<SessionId>,
    /// The session to be made when there is none.
    pub new_session: Option<NewSession>,
    /// USER messages that enter the thread at the first claim.
    pub input: Vec<MessageDraft>,
    /// All contents that the run brings.
    pub artifacts: Vec<Artifact>,
    /// What the request contained.
    pub fingerprint: Fingerprint,
    /// Default: the session's.
    pub model_id: Option<ModelId>,
    /// Default: the session's.
    pub backend: Option<Backend>,
    /// The queue.
    pub lane: Lane,
    /// 0 is the most urgent.
    pub priority: u32,
    /// A shared limit.
    pub concurrency_group: Option<String>,
    /// Default: the session's `wp_id`, else its root session.
    pub fairness_key: Option<String>,
    /// When the session already has a run.
    pub on_busy: OnBusy,
    /// Attempts are one more.
    pub max_retries: u32,
    /// How the wait before a retry grows.
    pub retry_backoff: RetryBackoff,
    /// Of one attempt.
    pub timeout_ms: u64,
    /// Cancelling by it cancels every run that carries it.
    pub cancellation_token: Option<String>,
    /// Not started before this time.
    pub not_before: Option<Timestamp>,
    /// Given up at this time.
    pub deadline: Option<Timestamp>,
    /// Given up when not dispatched within this time.
    pub queue_timeout_ms: Option<u64>,
    /// The most tokens of all its calls.
    pub max_tokens_budget: Option<u64>,
    /// The caller's estimate.
    pub estimated_cost_usd: Option<MicroUsd>,
    /// The caller's estimate.
    pub estimated_tokens: Option<u64>,
    /// Settings for the provider.
    pub generation: GenerationSettings,
    /// The caller's trace.
    pub traceparent: Option<String>,
    /// What its reservation is made of, by the catalog and its model: its own, else the session's.
    pub estimate: Estimate,
    /// The run that it tries again.
    pub retry_of: Option<RunId>,
}

impl Submit {
    /// A run that brings nothing, with the defaults of the specification.
    #[must_use]
    pub fn of(run_id: RunId, session_id: Option<SessionId>, fingerprint: Fingerprint) -> Self {
        Self {
            run_id,
            session_id,
            new_session: None,
            input: Vec::new(),
            artifacts: Vec::new(),
            fingerprint,
            model_id: None,
            backend: None,
            lane: Lane::Primary,
            priority: 50,
            concurrency_group: None,
            fairness_key: None,
            on_busy: OnBusy::Enqueue,
            max_retries: 3,
            retry_backoff: RetryBackoff::Exponential,
            timeout_ms: 120_000,
            cancellation_token: None,
            not_before: None,
            deadline: None,
            queue_timeout_ms: None,
            max_tokens_budget: None,
            estimated_cost_usd: None,
            estimated_tokens: None,
            generation: GenerationSettings::default(),
            traceparent: None,
            estimate: Estimate::default(),
            retry_of: None,
        }
    }
}

/// See [`Command::Cancel`].
#[derive(Clone, Debug)]
pub struct Cancel {
    /// Which runs.
    pub target: CancelTarget,
    /// Of those only the ones that were submitted before.
    pub submitted_before: Option<Timestamp>,
    /// Who asks.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

impl Cancel {
    /// Runs that one turn cancels at most, so that a turn stays below its bound.
    pub const BATCH: usize = 200;

    /// Whether a run of its target was submitted early enough.
    #[must_use]
    pub fn reaches(&self, submitted_at: Timestamp) -> bool {
        self.submitted_before.is_none_or(|before| submitted_at < before)
    }
}

/// Which runs a cancel concerns.
#[derive(Clone, Debug)]
pub enum CancelTarget {
    /// One.
    Run(RunId),
    /// All of a session.
    Session(SessionId),
    /// All that carry a token.
    Token(String),
}

/// See [`Command::Pause`].
#[derive(Clone, Debug)]
pub struct PauseSession {
    /// The session.
    pub session_id: SessionId,
    /// True pauses, false resumes.
    pub paused: bool,
    /// Cancel the executing run too.
    pub interrupt: bool,
    /// Who asks.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

/// See [`Command::End`].
#[derive(Clone, Debug)]
pub struct EndSession {
    /// The session.
    pub session_id: SessionId,
    /// COMPLETED, FAILED or CANCELLED.
    pub end: SessionState,
    /// Cancel its runs instead of refusing.
    pub cancel_runs: bool,
    /// Who asks.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

/// See [`Command::Claim`].
#[derive(Clone, Debug)]
pub struct Claim {
    /// The run.
    pub run_id: RunId,
    /// The dispatch that the worker took.
    pub dispatch_no: u32,
    /// The worker.
    pub worker_id: WorkerId,
    /// The worker's own number of this claim.
    pub claim_id: u64,
}

/// See [`Command::Report`].
#[derive(Clone, Debug)]
pub struct Report {
    /// The run.
    pub run_id: RunId,
    /// The lease.
    pub epoch: Epoch,
    /// Place of this report in the attempt.
    pub report_no: u32,
    /// ASSISTANT, `TOOL_CALL` and `TOOL_RESULT` messages.
    pub messages: Vec<MessageDraft>,
    /// Their contents.
    pub artifacts: Vec<Artifact>,
    /// In the final report.
    pub outcome: Option<Outcome>,
}
