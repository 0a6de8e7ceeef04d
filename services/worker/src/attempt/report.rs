//! The report: what the model produced and how the attempt ended, in one request.

use std::time::Duration;

use laneway_contract::{
    AttemptResult, ClaimReply, Endpoint, ErrorCode, MessageId, MessageRole, MicroUsd, Outcome, ProducedMessage,
    ReportAttempt, ReportReply, Usage,
};

use super::ending::Ending;
use super::transcript::Transcript;
use crate::clock;
use crate::run::Worker;

/// A report that nobody takes for this long is given up: the run was given to another long ago.
const GIVE_UP_MS: u64 = 10 * 60 * 1_000;
/// One round of tries.
const ROUND: Duration = Duration::from_secs(2);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// The final report of an attempt; none when nobody would take it.
pub(crate) fn build(
    claim: &ClaimReply,
    ending: &Ending,
    transcript: &Transcript,
    price: impl Fn(&Usage) -> Option<MicroUsd>,
) -> Option<ReportAttempt> {
    let result = ending.result()?;
    let completed = matches!(result, AttemptResult::Completed { .. });
    let usage = transcript.usage();
    let message = ProducedMessage {
        message_id: MessageId::generate(),
        role: MessageRole::Assistant,
        content: transcript.text().to_owned(),
        token_count: completed.then_some(usage.output_tokens.saturating_sub(usage.reasoning_tokens)),
        tool_call_id: None,
        finish: Some(ending.finish()),
    };
    // An empty answer is an answer; an empty part of one is nothing.
    let said = completed || !transcript.text().is_empty();
    let issues = match ending {
        Ending::Completed { issues, .. } => issues.clone(),
        Ending::Failed(_) | Ending::Halted(_) | Ending::HandedBack => Vec::new(),
    };
    let outcome = Outcome {
        result,
        usage,
        cost_usd: price(&usage),
        first_token_after_ms: transcript.first_token_after_ms(),
        issues,
    };
    Some(ReportAttempt {
        run_id: claim.run_id,
        epoch: claim.epoch,
        report_no: 0,
        messages: said.then_some(message).into_iter().collect(),
        outcome: Some(outcome),
    })
}

/// Sends the report, under the same number, until it is answered. None when it was refused or given up.
pub(crate) async fn deliver(worker: &Worker, report: &ReportAttempt) -> Option<ReportReply> {
    let give_up_at = clock::boot_ms().saturating_add(GIVE_UP_MS);
    loop {
        match worker.bus.request_within(Endpoint::AttemptsReport, report, ROUND, ROUND).await {
            Ok(reply) => return Some(reply),
            Err(error) if is_passing(error.code) && !is_too_late(worker, give_up_at) => {
                tracing::warn!(%error, "report not answered; trying again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(code = %error.code, "report dropped");
                return None;
            }
        }
    }
}

/// After the time to drain, one round of tries has to do.
fn is_too_late(worker: &Worker, give_up_at: u64) -> bool {
    worker.cut_off.is_requested() || clock::boot_ms() >= give_up_at
}

/// Whether the same report may be taken later.
const fn is_passing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::Internal)
}
