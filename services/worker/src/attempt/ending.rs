//! How an attempt can end, as the worker sees it.

use laneway_contract::{ApiError, AttemptResult, ErrorClass, ErrorCode, Finish, RunError, Stop};

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The model came to an end.
    Completed {
        /// How.
        finish: Finish,
        /// Warnings that are not fatal.
        issues: Vec<String>,
    },
    /// The model asks for what a person has to approve.
    AwaitingApproval(String),
    /// It did not.
    Failed(RunError),
    /// It was not let go on.
    Halted(Halt),
    /// The worker has not called the provider and does not: it is leaving, or its claim was answered too late.
    HandedBack,
}

/// Why an attempt was not let go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It was told to stop.
    Stop(Stop),
    /// No renewal was answered in time.
    Lapsed,
    /// The scheduler says that the lease is over.
    Refused,
    /// The worker is leaving and has waited long enough.
    CutOff,
}

impl Ending {
    /// A fault of this program.
    pub(crate) fn panicked() -> Self {
        Self::Failed(error("internal", "the worker met a fault of its own", ErrorClass::Internal, true))
    }

    /// A run of a model that this worker never announced.
    pub(crate) fn not_served() -> Self {
        let message = "the worker that took the run does not serve its provider: are two pools named alike?";
        Self::Failed(error("not_served", message, ErrorClass::Internal, true))
    }

    /// The tokens that the run may still use do not suffice for the prompt, so nothing was sent.
    pub(crate) fn out_of_budget() -> Self {
        Self::Completed { finish: Finish::Budget, issues: Vec::new() }
    }

    /// A report in the middle of the attempt was not taken.
    pub(crate) fn unreported(refusal: &ApiError) -> Self {
        if matches!(refusal.code, ErrorCode::StaleEpoch | ErrorCode::RunTerminal | ErrorCode::NotFound) {
            return Self::Halted(Halt::Refused);
        }
        let message = format!("the scheduler refused a call of a tool with {}", refusal.code);
        Self::Failed(error("report_refused", &message, ErrorClass::Internal, true))
    }

    /// What cannot be sent to a model.
    pub(crate) fn unsendable(message: &str) -> Self {
        Self::Failed(error("unsupported_content", message, ErrorClass::InvalidRequest, false))
    }

    /// The session store refused the window.
    pub(crate) fn no_window(code: &str) -> Self {
        let message = format!("the session store refused the window of the attempt with {code}");
        Self::Failed(error("window_refused", &message, ErrorClass::Internal, true))
    }

    /// Whether it ended because its lease has: another attempt may be under way.
    pub(crate) const fn has_no_lease(&self) -> bool {
        matches!(self, Self::Halted(Halt::Lapsed | Halt::Refused))
    }

    /// What is reported; nothing when nobody would take it.
    pub(crate) fn result(&self) -> Option<AttemptResult> {
        let lost =
            |code, message| Some(AttemptResult::Failed { error: error(code, message, ErrorClass::WorkerLost, true) });
        match self {
            Self::Completed { finish, .. } => Some(AttemptResult::Completed { finish: *finish }),
            Self::AwaitingApproval(approval_id) => {
                Some(AttemptResult::AwaitingApproval { approval_id: approval_id.clone() })
            }
            Self::Failed(error) => Some(AttemptResult::Failed { error: error.clone() }),
            Self::Halted(Halt::Stop(stop)) => Some(AttemptResult::Stopped { stop: *stop }),
            Self::Halted(Halt::Lapsed) => lost("lease_lapsed", "the worker could not renew its lease and stopped"),
            Self::Halted(Halt::CutOff) => lost("worker_left", "the worker was stopped before the answer ended"),
            Self::Halted(Halt::Refused) => None,
            Self::HandedBack => Some(AttemptResult::HandedBack),
        }
    }

    /// The finish of what the model has said by then; none where it goes on after an approval.
    pub(crate) fn finish(&self) -> Option<Finish> {
        match self {
            Self::Completed { finish, .. } => Some(*finish),
            Self::AwaitingApproval(_) => None,
            Self::Halted(Halt::Stop(Stop::Cancel)) => Some(Finish::Cancelled),
            Self::Failed(_)
            | Self::Halted(Halt::Stop(Stop::Timeout) | Halt::Lapsed | Halt::Refused | Halt::CutOff)
            | Self::HandedBack => Some(Finish::Error),
        }
    }
}

fn error(code: &str, message: &str, class: ErrorClass, retryable: bool) -> RunError {
    RunError { code: code.to_owned(), message: message.to_owned(), class, retryable, retry_after_ms: None }
}
