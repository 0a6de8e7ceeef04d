//! An attempt as a worker carries it out: claim, calls of the provider, calls of tools, reports. As the real worker does it:
//! the bound counts from the sending, reports are numbered and sent until they are answered, nothing is begun when the lease
//! is over.

use laneway_contract::*;
use laneway_journal::testing::Rng;

/// An attempt at a worker. Times are those of the worker's own clock, in milliseconds.
pub(super) struct Attempt {
    pub(super) key: u64,
    pub(super) delivery: u64,
    pub(super) dispatch: DispatchMessage,
    pub(super) claim_id: u64,
    pub(super) claim_sent_at: Option<u64>,
    /// The request under way, and when it was sent.
    pub(super) asked: Option<(u64, Asked, u64)>,
    pub(super) renewal: Option<(u64, u64)>,
    pub(super) held: Option<Held>,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Claim,
    Report,
}

/// A claimed attempt.
pub(super) struct Held {
    pub(super) epoch: Epoch,
    pub(super) session: SessionId,
    pub(super) bound: u64,
    pub(super) stop_at: u64,
    pub(super) renew_at: u64,
    pub(super) doing: Doing,
    /// Calls of tools that are still to come.
    pub(super) tools: u64,
    pub(super) report_no: u32,
    pub(super) open: Option<ReportAttempt>,
    /// What is to be reported after that.
    pub(super) late: Option<(Vec<ProducedMessage>, Option<Outcome>)>,
    pub(super) result: AttemptResult,
}

/// What goes on between reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// The provider answers until then.
    Calling { until: u64 },
    /// A tool works until then.
    Tool { until: u64 },
    /// All is said: the report is to be taken.
    Done,
}

impl Attempt {
    pub(super) fn new(key: u64, delivery: u64, dispatch: DispatchMessage, claim_id: u64) -> Self {
        Self { key, delivery, dispatch, claim_id, claim_sent_at: None, asked: None, renewal: None, held: None }
    }

    /// When it has something to do by itself.
    pub(super) fn wake_at(&self, now: u64) -> u64 {
        let Some(held) = &self.held else { return now + 250 };
        let step = match held.doing {
            Doing::Calling { until } | Doing::Tool { until } => until,
            Doing::Done => now + 250,
        };
        let open = if held.open.is_some() { now + 250 } else { u64::MAX };
        step.min(open).min(held.bound).min(held.stop_at).min(held.renew_at)
    }
}

impl Held {
    pub(super) fn new(claim: &ClaimReply, sent_at: u64, plan: Plan) -> Self {
        Self {
            epoch: claim.epoch,
            session: claim.session_id,
            bound: sent_at + WORKER_BOUND_MS,
            stop_at: sent_at + claim.timeout_ms,
            renew_at: sent_at + RENEW_MS,
            doing: Doing::Calling { until: 0 },
            tools: plan.tools,
            report_no: 0,
            open: None,
            late: None,
            result: plan.result,
        }
    }

    /// Why it may not go on, if so.
    pub(super) fn over(&self, now: u64) -> Option<AttemptResult> {
        if now >= self.stop_at {
            Some(AttemptResult::Stopped { stop: Stop::Timeout })
        } else if now >= self.bound {
            Some(failed("lease_lapsed", ErrorClass::WorkerLost, None))
        } else {
            None
        }
    }

    /// The name of the call of a tool that is next, or under way.
    pub(super) fn call_id(&self) -> String {
        format!("call-{}-{}", self.epoch, self.tools)
    }

    /// Whether it may still be stopped: the last report is not made yet.
    pub(super) fn goes_on(&self) -> bool {
        self.doing != Doing::Done
    }
}

/// How an attempt is to go.
pub(super) struct Plan {
    pub(super) tools: u64,
    pub(super) result: AttemptResult,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng, calm: bool) -> Self {
        if calm {
            return Self { tools: 0, result: AttemptResult::Completed { finish: Finish::Stop } };
        }
        let tools = if rng.per_mille(250) { rng.range(1, 3) } else { 0 };
        let result = match rng.range(0, 20) {
            0 => failed("server", ErrorClass::Server, None),
            1 => failed("rate_limit", ErrorClass::RateLimit, Some(rng.range(100, 4_000))),
            2 => failed("invalid", ErrorClass::InvalidRequest, None),
            3 => AttemptResult::AwaitingApproval { approval_id: "approval".to_owned() },
            // Only what has called nothing.
            4 if tools == 0 => AttemptResult::HandedBack,
            5 => AttemptResult::Completed { finish: Finish::Length },
            _ => AttemptResult::Completed { finish: Finish::Stop },
        };
        Self { tools, result }
    }
}

/// How long a call takes: mostly moments, sometimes longer than a lease.
pub(super) fn duration(rng: &mut Rng, calm: bool) -> u64 {
    let most = [50, 500, 3_000, 40_000][rng.range(0, 4) as usize];
    if calm { rng.range(5, 500) } else { rng.range(5, most) }
}

pub(super) fn failed(code: &str, class: ErrorClass, retry_after_ms: Option<u64>) -> AttemptResult {
    let retryable = class != ErrorClass::InvalidRequest;
    let error = RunError { code: code.to_owned(), message: "it failed".to_owned(), class, retryable, retry_after_ms };
    AttemptResult::Failed { error }
}

/// What a model has said, as it is reported.
pub(super) fn said(message_id: MessageId, finish: Finish) -> ProducedMessage {
    let (role, content, finish) = (MessageRole::Assistant, "text".to_owned(), Some(finish));
    ProducedMessage { message_id, role, content, token_count: Some(2), tool_call_id: None, finish }
}

/// A call of a tool, or its result.
pub(super) fn tool(message_id: MessageId, role: MessageRole, call: String) -> ProducedMessage {
    let (content, tool_call_id) = ("text".to_owned(), Some(call));
    ProducedMessage { message_id, role, content, token_count: Some(2), tool_call_id, finish: None }
}

/// What an attempt comes to. Usage differs from every estimate, at times by a lot.
pub(super) fn outcome(result: AttemptResult, rng: &mut Rng, calm: bool) -> Outcome {
    let more = if !calm && rng.per_mille(150) { 3_000 } else { 10 };
    let input_tokens = rng.range(0, more);
    let usage = Usage { input_tokens, output_tokens: 4, cached_tokens: 0, reasoning_tokens: 0 };
    let cost_usd = rng.per_mille(500).then_some(MicroUsd(input_tokens));
    Outcome {
        result,
        usage,
        cost_usd,
        first_token_after_ms: Some(1),
        told_after_ms: None,
        closed_after_ms: None,
        issues: Vec::new(),
    }
}
