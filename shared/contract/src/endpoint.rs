//! The table of endpoints: which service answers what.

use std::fmt;

/// A service of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceName {
    /// Keeps sessions, messages, artifacts and ended runs.
    SessionStore,
    /// Queues, limits, leases and settles runs.
    Scheduler,
    /// Calls the providers.
    Worker,
    /// Writes the public events.
    FlightRecorder,
}

impl ServiceName {
    /// Every service.
    pub const ALL: &'static [Self] = &[Self::SessionStore, Self::Scheduler, Self::Worker, Self::FlightRecorder];

    /// The name on the command line and in `nats micro ls`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionStore => "session-store",
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
            Self::FlightRecorder => "flight-recorder",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! endpoints {
    ($($(#[$doc:meta])* $variant:ident = $subject:literal, $service:ident, $about:literal;)*) => {
        /// An endpoint: a subject that one service answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Endpoint {
            $(#[doc = $about] $variant,)*
        }

        impl Endpoint {
            /// Every endpoint.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The subject below the prefix.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $subject),* }
            }

            /// Who answers.
            #[must_use]
            pub const fn service(self) -> ServiceName {
                match self { $(Self::$variant => ServiceName::$service),* }
            }

            /// One line for `nats micro info`.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),* }
            }
        }
    };
}

endpoints! {
    SessionsCreate = "sessions.create", SessionStore, "Creates a session, with instructions and history.";
    SessionsGet = "sessions.get", SessionStore, "Shows one session.";
    SessionsList = "sessions.list", SessionStore, "Lists sessions by state, work packet, role or label.";
    SessionsAppend = "sessions.append", SessionStore, "Appends USER messages to a thread.";
    SessionsMessages = "sessions.messages", SessionStore, "Reads a range of a thread, with content if asked.";
    SessionsWindow = "sessions.window", SessionStore, "Reads the window of a claimed attempt.";
    ArtifactsPut = "artifacts.put", SessionStore, "Stores bytes under their hash.";
    ArtifactsGet = "artifacts.get", SessionStore, "Reads bytes by their hash.";
    RunsSubmit = "runs.submit", Scheduler, "Queues a run, in a session or in one made for it.";
    RunsGet = "runs.get", Scheduler, "Shows one run.";
    RunsList = "runs.list", Scheduler, "Lists runs by session and state.";
    RunsWait = "runs.wait", Scheduler, "Answers when a run has ended, with its output.";
    RunsCancel = "runs.cancel", Scheduler, "Cancels a run, a session's runs, or all runs with a token.";
    RunsExplain = "runs.explain", Scheduler, "Says what holds a run, who holds that, and what would start it.";
    RunsDecide = "runs.decide", Scheduler, "Decides about a run that waits for a person.";
    RunsRetry = "runs.retry", Scheduler, "Tries failed runs again, as new ones.";
    SessionsPause = "sessions.pause", Scheduler, "Keeps a session's queued runs from starting.";
    SessionsResume = "sessions.resume", Scheduler, "Lets a paused session go on.";
    SessionsComplete = "sessions.complete", Scheduler, "Ends a session as COMPLETED.";
    SessionsFail = "sessions.fail", Scheduler, "Ends a session as FAILED, cancelling its runs.";
    SessionsCancel = "sessions.cancel", Scheduler, "Ends a session as CANCELLED, cancelling its runs.";
    SessionsRegistry = "sessions.registry", Scheduler, "Lists the sessions that have not ended, with counts.";
    LimitsGet = "limits.get", Scheduler, "Shows each limit with what is taken of it.";
    LimitsSet = "limits.set", Scheduler, "Changes limits; what runs goes on.";
    BudgetsGet = "budgets.get", Scheduler, "Shows the budget of a session or work packet.";
    BudgetsSet = "budgets.set", Scheduler, "Sets the budget of a session or work packet.";
    Status = "status", Scheduler, "Shows leader, limits, lanes and workers.";
    AttemptsClaim = "attempts.claim", Scheduler, "For workers: takes the lease of a dispatched run.";
    AttemptsRenew = "attempts.renew", Scheduler, "For workers: extends a lease and learns of a cancel.";
    AttemptsReport = "attempts.report", Scheduler, "For workers: hands in messages and outcome of an attempt.";
    LeaderCreate = "leader.create", Scheduler, "Inside: a session made by a store replica's edge.";
    LeaderAppend = "leader.append", Scheduler, "Inside: messages prepared by a store replica's edge.";
    LeaderPut = "leader.put", Scheduler, "Inside: an artifact prepared by a store replica's edge.";
    StoreRecord = "store.record", SessionStore, "Inside: ended runs and sessions for the leader's answers.";
}

impl Endpoint {
    /// Whether the endpoint is not for callers.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::LeaderCreate | Self::LeaderAppend | Self::LeaderPut | Self::StoreRecord)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
