//! The closed sets of words in requests, records and events.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word of the set.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word as it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(raw: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|word| word.as_str() == raw).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|word| word.as_str()).collect();
                    format!("expected one of {}", words.join(", "))
                })
            }
        }
    };
}

words!(/// How long a session lives.
Mode {
    /// One run, then the session ends with it.
    OneShot = "ONE_SHOT",
    /// Lives until it is ended.
    SessionPersistent = "SESSION_PERSISTENT",
});

words!(/// The state of a session; derived by one function of the engine.
SessionState {
    /// No run was ever claimed.
    Created = "CREATED",
    /// A run executes.
    Active = "ACTIVE",
    /// A run was claimed before and none executes.
    Idle = "IDLE",
    /// Queued runs stay queued.
    Paused = "PAUSED",
    /// The current run waits for a decision.
    Blocked = "BLOCKED",
    /// Ended well.
    Completed = "COMPLETED",
    /// Ended by a failure.
    Failed = "FAILED",
    /// Ended by a cancel.
    Cancelled = "CANCELLED",
});

impl SessionState {
    /// Whether the session has ended, which is sticky.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

words!(/// Where a model runs.
Backend {
    /// On the deployment's own machines.
    Local = "LOCAL",
    /// At a provider.
    Cloud = "CLOUD",
});

words!(/// The size class of a model.
ParameterClass {
    /// About 7 billion parameters.
    P7B = "P7B",
    /// About 13 billion.
    P13B = "P13B",
    /// About 32 billion.
    P32B = "P32B",
    /// About 72 billion.
    P72B = "P72B",
    /// About 110 billion.
    P110B = "P110B",
    /// Not known.
    Unknown = "PUnknown",
});

words!(/// How roles and models divide the work of a session.
ExecutionMode {
    /// One model plays all roles.
    SingleModelMultiRole = "SINGLE_MODEL_MULTI_ROLE",
    /// Several models work in parallel.
    MultiModelParallel = "MULTI_MODEL_PARALLEL",
    /// Policy and planning are split.
    SplitPolicyAndPlanning = "SPLIT_POLICY_AND_PLANNING",
});

words!(/// Who may see a session's thread, and for how long. Never changes.
MemoryPolicy {
    /// Content is erased when the session ends.
    Ephemeral = "EPHEMERAL",
    /// Only the session's own runs see its thread.
    SessionScoped = "SESSION_SCOPED",
    /// Grants and forks are possible.
    WorkspaceScoped = "WORKSPACE_SCOPED",
});

words!(/// Who speaks in a message.
MessageRole {
    /// Instructions, from the runtime only.
    System = "SYSTEM",
    /// A caller.
    User = "USER",
    /// A model.
    Assistant = "ASSISTANT",
    /// A model asks for a tool.
    ToolCall = "TOOL_CALL",
    /// What a tool answered.
    ToolResult = "TOOL_RESULT",
});

words!(/// How a model's message ended.
Finish {
    /// By itself.
    Stop = "stop",
    /// To call a tool.
    ToolUse = "tool_use",
    /// At the output limit.
    Length = "length",
    /// Cut by the provider's filter.
    ContentFilter = "content_filter",
    /// Cut by a cancel.
    Cancelled = "cancelled",
    /// Cut by the budget.
    Budget = "budget",
    /// Cut by a fault.
    Error = "error",
});

impl Finish {
    /// Whether the model itself came to an end, so that its answer is whole.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Stop | Self::ToolUse | Self::Length | Self::ContentFilter)
    }

    /// Whether a message with this finish is part of later windows.
    #[must_use]
    pub const fn in_later_windows(self) -> bool {
        !matches!(self, Self::Error | Self::Budget | Self::ContentFilter)
    }
}

words!(/// The kind of a job.
JobKind {
    /// A call of a model.
    ModelRun = "model_run",
});

words!(/// The queue that a run waits in.
Lane {
    /// A person waits.
    Primary = "PRIMARY",
    /// A child of another session.
    Subagent = "SUBAGENT",
    /// Nobody waits.
    Background = "BACKGROUND",
    /// Checks of other work.
    Validation = "VALIDATION",
});

impl Lane {
    /// The lane's share of capacity relative to the others.
    #[must_use]
    pub const fn weight(self) -> u64 {
        match self {
            Self::Primary => 8,
            Self::Validation => 4,
            Self::Subagent => 3,
            Self::Background => 1,
        }
    }
}

words!(/// What happens to a submit when its session already has a run.
OnBusy {
    /// Wait behind it.
    Enqueue = "ENQUEUE",
    /// Refuse with `busy`.
    Reject = "REJECT",
    /// Cancel the current run, then go first.
    Interrupt = "INTERRUPT",
    /// Cancel the older queued runs, then wait behind the current one.
    ReplaceQueued = "REPLACE_QUEUED",
});

words!(/// How the wait before a retry grows.
RetryBackoff {
    /// 1 s × 2^(n−1), at most 60 s, ± 20 %.
    Exponential = "EXPONENTIAL",
    /// 5 s.
    Fixed = "FIXED",
});

words!(/// The state of a run.
JobState {
    /// Waits; holds no limit.
    Queued = "queued",
    /// Holds its limits, not yet claimed by a worker.
    Dispatched = "dispatched",
    /// A worker executes it.
    Running = "running",
    /// Waits for a person.
    AwaitingUser = "awaiting_user",
    /// Lost its worker after a tool call; waits for a decision.
    Stalled = "stalled",
    /// Answered.
    Completed = "completed",
    /// Answered, with a warning that is not fatal.
    CompletedWithIssues = "completed_with_issues",
    /// Not answered.
    Failed = "failed",
    /// Stopped by a cancel.
    Cancelled = "cancelled",
    /// Killed its worker repeatedly.
    Poisoned = "poisoned",
});

impl JobState {
    /// Whether the run has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::CompletedWithIssues | Self::Failed | Self::Cancelled | Self::Poisoned)
    }
}

words!(/// Why a queued run does not start now.
WaitReason {
    /// It has just been queued, or nothing holds it.
    None = "none",
    /// A run of the same session is before it.
    SessionBusy = "session_busy",
    /// The session is paused.
    Paused = "paused",
    /// The limit on all runs.
    Global = "global",
    /// The provider's limit.
    Provider = "provider",
    /// The model's limit.
    Model = "model",
    /// The concurrency group's limit.
    Group = "group",
    /// Provider calls in a minute.
    RequestsPerMinute = "requests_per_minute",
    /// Tokens in a minute.
    TokensPerMinute = "tokens_per_minute",
    /// The provider asked to wait, or failed too often.
    CoolDown = "cool_down",
    /// The budget of its session or work packet has no room for its estimate.
    Budget = "budget",
    /// Its `not_before` has not come.
    NotBefore = "not_before",
    /// Another run of its class goes first.
    Turn = "turn",
    /// The wait before a retry.
    RetryBackoff = "retry_backoff",
    /// No running worker serves its model.
    NoWorker = "no_worker",
    /// Workers serve its model; all their slots are taken.
    WorkersBusy = "workers_busy",
});

words!(/// The class of an attempt's error.
ErrorClass {
    /// The request is wrong; the same request fails again.
    InvalidRequest = "invalid_request",
    /// The credentials are missing or wrong.
    Authentication = "authentication",
    /// The provider asks to wait.
    RateLimit = "rate_limit",
    /// The provider failed.
    Server = "server",
    /// No connection, or a broken one.
    Network = "network",
    /// No end within the attempt's time, or not within the run's.
    Timeout = "timeout",
    /// The run's token budget is used up.
    Budget = "budget",
    /// A person decided that it has failed.
    Decided = "decided",
    /// The provider's answer cannot be read.
    Protocol = "protocol",
    /// The worker was lost.
    WorkerLost = "worker_lost",
    /// A fault of the worker.
    Internal = "internal",
});

words!(/// What is decided about a run that waits for a person.
Decision {
    /// Go on with the attempt that asked.
    Approve = "approve",
    /// Make another attempt.
    Retry = "retry",
    /// End it as failed.
    Fail = "fail",
    /// End it as cancelled.
    Cancel = "cancel",
});

words!(/// What a run waits for a rate because of.
RateCause {
    /// The bucket of provider calls has not enough.
    RequestsPerMinute = "requests_per_minute",
    /// The bucket of tokens has not enough.
    TokensPerMinute = "tokens_per_minute",
    /// The provider refused the attempt and asked to wait.
    Provider = "provider",
    /// Other runs of the provider or model were refused or failed, so all of them wait.
    CoolDown = "cool_down",
});

words!(/// What a budget counts.
BudgetType {
    /// Input and output tokens.
    Tokens = "tokens",
    /// US dollars.
    Usd = "usd",
});

words!(/// Who an actor is.
ActorKind {
    /// A human being.
    Person = "person",
    /// A program.
    Service = "service",
    /// Laneway itself.
    Runtime = "runtime",
});
