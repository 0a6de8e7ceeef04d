//! The spans of an attempt.

use laneway_contract::{AttemptResult, JobState, ReportAttempt, Timestamp};
use laneway_providers::Attempt;
use laneway_runtime::telemetry::{AttemptTrace, CallTrace, record_attempt};

use super::transcript::Transcript;

/// Exports them, where an exporter is configured. The run's own span comes from the flight recorder.
pub(crate) fn record(
    attempt: &Attempt,
    transcript: &Transcript,
    report: &ReportAttempt,
    outcome: JobState,
    claimed_at: Timestamp,
    ended_at: Timestamp,
) {
    let lease = attempt.lease();
    let error_code = report.outcome.as_ref().and_then(|outcome| match &outcome.result {
        AttemptResult::Failed { error } => Some(error.code.as_str()),
        AttemptResult::Completed { .. }
        | AttemptResult::Stopped { .. }
        | AttemptResult::AwaitingApproval { .. }
        | AttemptResult::HandedBack => None,
    });
    let call = transcript.call().map(|call| CallTrace {
        started_at: call.started_at,
        ended_at,
        first_token_at: call.first_token_at,
        usage: transcript.usage(),
        finish: report.messages.last().and_then(|message| message.finish),
    });
    record_attempt(&AttemptTrace {
        session_id: lease.session_id,
        run_id: lease.run_id,
        attempt: lease.attempt,
        epoch: lease.epoch,
        model_id: &lease.model_id,
        // A later attempt waited since its retry was decided; its dispatch is the nearest that a worker knows.
        queued_at: if lease.attempt == 1 { lease.submitted_at } else { lease.dispatched_at },
        claimed_at,
        call,
        outcome,
        error_code,
    });
}
