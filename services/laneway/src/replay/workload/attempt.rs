//! Requests and reports as they must have been, from what the journal says of them.

use laneway_contract::{
    AttemptResult, ErrorClass, Estimate, Fingerprint, Finish, JobState, MessageDraft, MessageRecord, MicroUsd, Outcome,
    RunError, RunRecord, Stop, Timestamp, Usage,
};
use laneway_engine::Submit;

/// A run that has not ended, while frames go by.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) stage: Stage,
    /// When its attempt was told to stop, by a cancel or its deadline.
    pub(super) stop: Option<Timestamp>,
    /// When it began to wait for a person.
    pub(super) asked_at: Option<Timestamp>,
    /// The claim of the attempt whose worker was lost last.
    pub(super) lost_since: Option<Timestamp>,
    usage: Usage,
    cost: MicroUsd,
}

/// Where it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stage {
    /// In its queue, parked, or before another attempt.
    #[default]
    Waiting,
    /// For a worker to take.
    Dispatched { since: Timestamp },
    /// Executing.
    Running { since: Timestamp },
}

impl Live {
    /// What the attempt used: the run's totals less those before it.
    fn outcome(&mut self, result: AttemptResult, usage: Usage, cost_usd: Option<MicroUsd>) -> Outcome {
        let before = std::mem::replace(&mut self.usage, usage);
        let cost = cost_usd.unwrap_or(self.cost);
        let cost_before = std::mem::replace(&mut self.cost, cost);
        let used = Usage {
            input_tokens: usage.input_tokens.saturating_sub(before.input_tokens),
            output_tokens: usage.output_tokens.saturating_sub(before.output_tokens),
            cached_tokens: usage.cached_tokens.saturating_sub(before.cached_tokens),
            reasoning_tokens: usage.reasoning_tokens.saturating_sub(before.reasoning_tokens),
        };
        let cost_usd = cost_usd.map(|cost| MicroUsd(cost.0.saturating_sub(cost_before.0)));
        Outcome {
            result,
            usage: used,
            cost_usd,
            first_token_after_ms: None,
            told_after_ms: None,
            closed_after_ms: None,
            issues: Vec::new(),
        }
    }

    pub(super) fn failed(&mut self, error: &RunError, usage: Usage, cost_usd: Option<MicroUsd>) -> Outcome {
        let result = match error.code.as_str() {
            "timeout" => AttemptResult::Stopped { stop: Stop::Timeout },
            _ => AttemptResult::Failed { error: error.clone() },
        };
        self.outcome(result, usage, cost_usd)
    }

    pub(super) fn parked(&mut self, approval_id: &str, usage: Usage, cost_usd: Option<MicroUsd>) -> Outcome {
        self.outcome(AttemptResult::AwaitingApproval { approval_id: approval_id.to_owned() }, usage, cost_usd)
    }

    pub(super) fn handed_back(&mut self) -> Outcome {
        self.outcome(AttemptResult::HandedBack, self.usage, Some(self.cost))
    }

    /// The last report of a run that has ended in it.
    pub(super) fn settled(&mut self, record: &RunRecord) -> Outcome {
        let status = &record.status;
        let finish = status.finish.unwrap_or(Finish::Stop);
        let result = match (status.state, &status.error) {
            (JobState::Cancelled, _) => AttemptResult::Stopped { stop: Stop::Cancel },
            (JobState::Failed, Some(error)) if error.class == ErrorClass::Timeout => {
                AttemptResult::Stopped { stop: Stop::Timeout }
            }
            (JobState::Failed, Some(error)) if finish != Finish::Budget => {
                AttemptResult::Failed { error: (**error).clone() }
            }
            (
                JobState::Queued
                | JobState::Dispatched
                | JobState::Running
                | JobState::AwaitingUser
                | JobState::Stalled
                | JobState::Completed
                | JobState::CompletedWithIssues
                | JobState::Failed
                | JobState::Poisoned,
                _,
            ) => AttemptResult::Completed { finish },
        };
        let mut outcome = self.outcome(result, status.usage, status.cost_usd);
        let (claimed, first) = (status.started_at, status.first_token_at);
        outcome.first_token_after_ms = claimed.zip(first).map(|(claimed, first)| first.millis_since(claimed));
        outcome.issues.clone_from(&status.issues);
        outcome
    }
}

/// The error of an attempt whose worker gave it up in the middle of tools.
pub(super) fn worker_lost() -> RunError {
    RunError {
        code: "worker_lost".to_owned(),
        message: "the worker gave the attempt up".to_owned(),
        class: ErrorClass::WorkerLost,
        retryable: true,
        retry_after_ms: None,
    }
}

/// A message of an attempt as it was reported.
pub(super) fn draft(message: &MessageRecord) -> MessageDraft {
    MessageDraft {
        message_id: message.message_id,
        role: message.role,
        content: message.content_artifact_id,
        content_type: message.content_type.clone(),
        size: message.size,
        token_count: message.token_count,
        tool_call_id: message.tool_call_id.clone(),
        attachments: message.attachments.clone(),
        source: message.source.clone(),
        finish: message.finish,
    }
}

/// The submit of a run, with every default filled in.
pub(super) fn submit(run: &RunRecord, fingerprint: Fingerprint, estimate: Estimate) -> Submit {
    let fields = run.fields.clone();
    Submit {
        run_id: run.run_id,
        session_id: Some(run.session_id),
        new_session: None,
        input: fields.input,
        artifacts: Vec::new(),
        fingerprint,
        model_id: Some(fields.model_id),
        backend: Some(fields.backend),
        lane: fields.lane,
        priority: fields.priority,
        concurrency_group: fields.concurrency_group,
        fairness_key: Some(fields.fairness_key),
        on_busy: fields.on_busy,
        max_retries: fields.max_retries,
        retry_backoff: fields.retry_backoff,
        timeout_ms: fields.timeout_ms,
        cancellation_token: fields.cancellation_token,
        not_before: fields.not_before,
        deadline: fields.deadline,
        queue_timeout_ms: fields.queue_timeout_ms,
        max_tokens_budget: fields.max_tokens_budget,
        estimated_cost_usd: fields.estimated_cost_usd,
        estimated_tokens: fields.estimated_tokens,
        generation: fields.generation,
        traceparent: fields.traceparent,
        estimate,
        retry_of: run.status.retry_of,
    }
}
