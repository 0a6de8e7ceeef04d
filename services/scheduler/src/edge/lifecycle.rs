//! Cancel, and the lifecycle of sessions.

use laneway_contract::{ApiError, CancelRuns, ChangeSession, DEFAULT_WAIT_MS, ErrorCode, MAX_WAIT_MS, SessionState};
use laneway_engine::{Cancel, CancelTarget, Command, EndSession, PauseSession};

use super::check::{self, bad};

/// `runs.cancel`: exactly one target, and for how many milliseconds to wait for the end of its runs.
pub(crate) fn cancel(request: CancelRuns) -> Result<(Cancel, Option<u64>), ApiError> {
    let CancelRuns { run_id, session_id, cancellation_token, submitted_before, actor, reason, wait, wait_ms } = request;
    check::actor(&actor, &reason)?;
    if wait_ms.is_some() && !wait {
        return Err(bad("wait_ms", "is for a request with wait: true"));
    }
    let wait_ms = check::number("wait_ms", wait_ms, 0, MAX_WAIT_MS, DEFAULT_WAIT_MS)?;
    if submitted_before.is_some() && run_id.is_some() {
        return Err(bad("submitted_before", "is for the runs of a session or a token"));
    }
    let target = match (run_id, session_id, cancellation_token) {
        (Some(run), None, None) => CancelTarget::Run(run),
        (None, Some(session), None) => CancelTarget::Session(session),
        (None, None, Some(token)) => {
            check::name("cancellation_token", &token)?;
            CancelTarget::Token(token)
        }
        _ => {
            let message = "send exactly one of run_id, session_id and cancellation_token";
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
    };
    Ok((Cancel { target, submitted_before, actor, reason }, wait.then_some(wait_ms)))
}

/// What is to become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Queued runs stay queued.
    Pause,
    /// They go on.
    Resume,
    /// It ends as COMPLETED.
    Complete,
    /// It ends as FAILED.
    Fail,
    /// It ends as CANCELLED.
    Cancel,
}

/// `sessions.pause`, `resume`, `complete`, `fail` and `cancel`.
pub(crate) fn change(request: ChangeSession, change: Change) -> Result<Command, ApiError> {
    let ChangeSession { session_id, actor, reason, cancel_runs, interrupt } = request;
    check::actor(&actor, &reason)?;
    if interrupt && change != Change::Pause {
        return Err(bad("interrupt", "belongs to sessions.pause"));
    }
    let paused = match change {
        Change::Pause => true,
        Change::Resume => false,
        Change::Complete | Change::Fail | Change::Cancel => {
            let (end, cancel_runs) = match change {
                Change::Fail => (SessionState::Failed, true),
                Change::Cancel => (SessionState::Cancelled, true),
                Change::Complete | Change::Pause | Change::Resume => (SessionState::Completed, cancel_runs),
            };
            return Ok(Command::End(EndSession { session_id, end, cancel_runs, actor, reason }));
        }
    };
    if cancel_runs {
        return Err(bad(
            "cancel_runs",
            "belongs to sessions.complete: a pause cancels the executing run with interrupt, and none that waits",
        ));
    }
    Ok(Command::Pause(PauseSession { session_id, paused, interrupt, actor, reason }))
}
