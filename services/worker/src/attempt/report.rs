//! Reports: what the model produced and how the attempt ended, each in one request.

use std::time::Duration;

use laneway_contract::{
    ApiError, ClaimReply, Endpoint, ErrorCode, Finish, MessageId, MessageRole, MicroUsd, Outcome, ProducedMessage,
    ReportAttempt, ReportReply, Usage,
};
use serde::Serialize;
use serde_json::Value;

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

/// Who takes reports.
pub(crate) trait Desk {
    /// Sends a report until it is answered. An error that may pass says that it was given up: then nobody knows whether
    /// it was taken.
    fn deliver(&self, report: &ReportAttempt) -> impl Future<Output = Result<ReportReply, ApiError>> + Send;
}

/// The reports of an attempt: numbered without a gap, and none is sent before the one before it was answered.
#[derive(Debug)]
pub(crate) struct Reports<'a, D> {
    desk: &'a D,
    claim: &'a ClaimReply,
    next: u32,
    /// Not answered so far. It may have been taken, so it keeps its number and its bytes.
    open: Option<ReportAttempt>,
}

impl<'a, D: Desk> Reports<'a, D> {
    /// Nothing reported yet.
    pub(crate) fn new(desk: &'a D, claim: &'a ClaimReply) -> Self {
        Self { desk, claim, next: 0, open: None }
    }

    /// Lets messages wait for [`Self::settle`], while the attempt goes on.
    pub(crate) fn open(&mut self, messages: Vec<ProducedMessage>) {
        let (run_id, epoch, report_no) = (self.claim.run_id, self.claim.epoch, self.next);
        self.open = Some(ReportAttempt { run_id, epoch, report_no, messages, outcome: None });
    }

    /// Sends what is open until it is answered; the text of the transcript is then told. May be dropped, and called again.
    pub(crate) async fn settle(&mut self, transcript: &mut Transcript) -> Result<(), ApiError> {
        let Some(report) = &self.open else { return Ok(()) };
        match self.desk.deliver(report).await {
            Ok(_) => {
                self.open = None;
                self.next += 1;
                transcript.told();
                Ok(())
            }
            Err(error) => {
                // IMPORTANT: a number that may have been taken is given to no other report: it would be answered as the
                // first one's repeat, and dropped.
                if !is_passing(error.code) {
                    self.open = None;
                }
                Err(error)
            }
        }
    }

    /// Reports how the attempt ended, once everything before was answered. None when nobody takes it.
    pub(crate) async fn conclude(
        &mut self,
        ending: &Ending,
        transcript: &mut Transcript,
        price: impl Fn(&Usage) -> Option<MicroUsd>,
    ) -> Option<(ReportAttempt, ReportReply)> {
        ending.result()?;
        if let Err(error) = self.settle(transcript).await {
            tracing::warn!(code = %error.code, "report dropped, and the outcome with it");
            return None;
        }
        let report = build(self.claim, self.next, ending, transcript, price)?;
        match self.desk.deliver(&report).await {
            Ok(reply) => Some((report, reply)),
            Err(error) => {
                tracing::warn!(code = %error.code, "report dropped");
                None
            }
        }
    }
}

/// The final report of an attempt; none when nobody would take it.
pub(crate) fn build(
    claim: &ClaimReply,
    report_no: u32,
    ending: &Ending,
    transcript: &Transcript,
    price: impl Fn(&Usage) -> Option<MicroUsd>,
) -> Option<ReportAttempt> {
    let result = ending.result()?;
    let finish = ending.finish();
    let is_whole = finish.is_some_and(Finish::is_complete);
    let usage = transcript.usage();
    // The tokens of the call are the message's only where all of its text is in it.
    let counted = (is_whole || matches!(ending, Ending::AwaitingApproval(_))) && !transcript.is_split();
    let message = ProducedMessage {
        token_count: counted.then_some(usage.output_tokens.saturating_sub(usage.reasoning_tokens)),
        ..assistant(transcript.text(), finish)
    };
    // An empty answer is an answer; an empty part of one is nothing.
    let said = is_whole || !transcript.text().is_empty();
    let issues = match ending {
        Ending::Completed { issues, .. } => issues.clone(),
        Ending::Failed(_) | Ending::Halted(_) | Ending::AwaitingApproval(_) | Ending::HandedBack => Vec::new(),
    };
    let outcome = Outcome {
        result,
        usage,
        cost_usd: price(&usage),
        first_token_after_ms: transcript.first_token_after_ms(),
        told_after_ms: transcript.told_after_ms(),
        closed_after_ms: transcript.closed_after_ms(),
        issues,
    };
    Some(ReportAttempt {
        run_id: claim.run_id,
        epoch: claim.epoch,
        report_no,
        messages: said.then_some(message).into_iter().collect(),
        outcome: Some(outcome),
    })
}

/// What is reported before a tool may be called: what was said before it, and the call.
pub(crate) fn call_of_tool(said: &str, tool_call_id: String, name: &str, arguments: &Value) -> Vec<ProducedMessage> {
    #[derive(Serialize)]
    struct Call<'a> {
        name: &'a str,
        arguments: &'a Value,
    }
    // Neither a text nor a JSON value can fail to be written.
    let content = serde_json::to_string(&Call { name, arguments }).unwrap_or_default();
    let call = ProducedMessage {
        message_id: MessageId::generate(),
        role: MessageRole::ToolCall,
        content,
        token_count: None,
        tool_call_id: Some(tool_call_id),
        finish: None,
    };
    let before = (!said.is_empty()).then(|| assistant(said, Some(Finish::ToolUse)));
    before.into_iter().chain([call]).collect()
}

fn assistant(text: &str, finish: Option<Finish>) -> ProducedMessage {
    ProducedMessage {
        message_id: MessageId::generate(),
        role: MessageRole::Assistant,
        content: text.to_owned(),
        token_count: None,
        tool_call_id: None,
        finish,
    }
}

impl Desk for Worker {
    async fn deliver(&self, report: &ReportAttempt) -> Result<ReportReply, ApiError> {
        let give_up_at = clock::boot_ms().saturating_add(GIVE_UP_MS);
        loop {
            match self.bus.request_within(Endpoint::AttemptsReport, report, ROUND, ROUND).await {
                Err(error) if is_passing(error.code) && !is_too_late(self, give_up_at) => {
                    tracing::warn!(%error, "report not answered; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
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
