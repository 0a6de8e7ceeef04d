//! `attempts.report`: what a model produced, and how the attempt ended.

use bytes::Bytes;
use laneway_contract::{
    ApiError, AttemptResult, MAX_AMOUNT, MAX_MESSAGES, MAX_TIMEOUT_MS, MessageDraft, Outcome, ProducedMessage,
    ReportAttempt, Source,
};
use laneway_engine::Report;

use super::Edge;
use super::check::{self, bad};
use super::contents::{Contents, KnownArtifacts, TEXT};

/// The most warnings of an attempt.
const MAX_ISSUES: usize = 16;

impl Edge {
    /// Checks a report and makes it a command.
    pub(crate) fn report(&self, request: ReportAttempt) -> Result<Report, ApiError> {
        check::count("messages", request.messages.len(), 0, MAX_MESSAGES)?;
        let known = KnownArtifacts::new();
        let mut contents = Contents::new(&self.key, &known);
        let draft = |(index, message)| draft(&mut contents, index, message);
        let messages = request.messages.into_iter().enumerate().map(draft).collect::<Result<Vec<_>, _>>()?;
        check::distinct("messages", &messages)?;
        Ok(Report {
            run_id: request.run_id,
            epoch: request.epoch,
            report_no: request.report_no,
            messages,
            artifacts: contents.into_new(),
            outcome: request.outcome.map(outcome).transpose()?,
        })
    }
}

fn draft(contents: &mut Contents<'_>, index: usize, message: ProducedMessage) -> Result<MessageDraft, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    check::number(&at("token_count"), message.token_count, 0, MAX_AMOUNT, 0)?;
    if let Some(id) = &message.tool_call_id {
        check::name(&at("tool_call_id"), id)?;
    }
    let stored = contents.add(Bytes::from(message.content), TEXT);
    Ok(MessageDraft {
        message_id: message.message_id,
        role: message.role,
        content: stored.id,
        content_type: stored.content_type,
        size: stored.size,
        token_count: message.token_count,
        tool_call_id: message.tool_call_id,
        attachments: Vec::new(),
        source: Source::Runtime,
        finish: message.finish,
    })
}

/// Numbers within bounds in which every sum of them stays.
fn outcome(mut outcome: Outcome) -> Result<Outcome, ApiError> {
    let usage = &outcome.usage;
    let counts = [usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens];
    let counts = counts.into_iter().chain(outcome.cost_usd.map(|cost| cost.0));
    if counts.into_iter().any(|count| count > MAX_AMOUNT) {
        return Err(bad("outcome.usage", format_args!("has a count over {MAX_AMOUNT}")));
    }
    check::number("outcome.first_token_after_ms", outcome.first_token_after_ms, 0, MAX_TIMEOUT_MS, 0)?;
    check::count("outcome.issues", outcome.issues.len(), 0, MAX_ISSUES)?;
    for issue in &outcome.issues {
        check::name("outcome.issues", issue)?;
    }
    match &mut outcome.result {
        AttemptResult::Failed { error } => {
            check::name("outcome.result.error.code", &error.code)?;
            // A provider that asks for longer than the longest attempt is not waited for any longer.
            error.retry_after_ms = error.retry_after_ms.map(|after| after.min(MAX_TIMEOUT_MS));
        }
        AttemptResult::AwaitingApproval { approval_id } => check::name("outcome.result.approval_id", approval_id)?,
        AttemptResult::Completed { .. } | AttemptResult::Stopped { .. } | AttemptResult::HandedBack => {}
    }
    Ok(outcome)
}
