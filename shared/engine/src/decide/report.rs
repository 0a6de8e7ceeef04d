//! Report: what an attempt produced and how it ended, in one turn.

use laneway_contract::{
    ApiError, AttemptResult, ErrorClass, ErrorCode, Event, Finish, JobState, MessageDraft, MessageRole, Outcome,
    Output, ReturnCause, RunError, Stop, StopCause, Timestamp,
};

use super::thread::appended;
use super::{budget_error, end_or_retry, returned, settle_with, stalled};
use crate::command::Report;
use crate::run::{Phase, Run};
use crate::schedule::{deadline_error, timeout_error};
use crate::state::State;

impl State {
    pub(super) fn report(&self, command: &Report, now: Timestamp) -> Result<Vec<Event>, ApiError> {
        let id = command.run_id;
        let Some(run) = self.runs.get(&id) else {
            return match self.ended.get(&id) {
                Some(ended) if ended.reports_of(command.epoch).is_some_and(|taken| command.report_no < taken) => {
                    Ok(Vec::new())
                }
                Some(_) => Err(ApiError::new(ErrorCode::RunTerminal, format!("run {id} has ended"))),
                None => Err(ApiError::new(ErrorCode::NotFound, format!("no run {id}"))),
            };
        };
        let stale = || ApiError::new(ErrorCode::StaleEpoch, format!("epoch {} is over", command.epoch));
        if run.reports_of(command.epoch).is_some_and(|taken| command.report_no < taken) {
            return Ok(Vec::new());
        }
        if run.record.status.epoch != command.epoch {
            return Err(stale());
        }
        if !matches!(run.phase, Phase::Running { .. }) && !is_complete_answer(command) {
            return Err(stale());
        }
        if command.report_no > run.reports {
            return Err(ApiError::new(
                ErrorCode::BadRequest,
                format!("report_no is {} and the next is {}: reports are dense", command.report_no, run.reports),
            ));
        }
        if let Some(wrong) = command.messages.iter().find(|message| !produced_by_model(message.role)) {
            let text = format!("an attempt reports ASSISTANT, TOOL_CALL and TOOL_RESULT, not {}", wrong.role);
            return Err(ApiError::new(ErrorCode::RoleForbidden, text));
        }
        Ok(self.taken(command, run, now))
    }

    fn taken(&self, command: &Report, run: &Run, now: Timestamp) -> Vec<Event> {
        let (run_id, session_id) = (command.run_id, run.record.session_id);
        let tail = self.sessions.get(&session_id).map_or(0, |session| session.tail);
        let by = Some((run_id, run.record.status.attempt));
        let mut events: Vec<Event> = command.artifacts.iter().cloned().map(Event::ArtifactStored).collect();
        events.extend(appended(session_id, tail, &command.messages, by, now));
        match &command.outcome {
            None => {
                let (epoch, report_no) = (command.epoch, command.report_no);
                events.push(Event::ReportTaken { run_id, session_id, epoch, report_no });
            }
            Some(outcome) => {
                if !matches!(run.phase, Phase::Running { .. }) {
                    let (attempt, epoch) = (run.record.status.attempt, command.epoch);
                    events.push(Event::LateAnswerTaken { run_id, session_id, attempt, epoch });
                }
                events.extend(concluded(run, outcome, &command.messages, now));
                events.extend(self.cool_down(run, outcome, now));
            }
        }
        events
    }
}

fn is_complete_answer(command: &Report) -> bool {
    command.outcome.as_ref().is_some_and(|outcome| matches!(outcome.result, AttemptResult::Completed { .. }))
}

fn produced_by_model(role: MessageRole) -> bool {
    matches!(role, MessageRole::Assistant | MessageRole::ToolCall | MessageRole::ToolResult)
}

/// What the final report comes to.
fn concluded(run: &Run, outcome: &Outcome, messages: &[MessageDraft], now: Timestamp) -> Vec<Event> {
    let (run, output) = with_outcome(run, outcome, messages, now);
    let stop = match &run.phase {
        Phase::Running { stop, .. } => stop.as_deref(),
        Phase::Delayed { .. }
        | Phase::Queued
        | Phase::Dispatched { .. }
        | Phase::Backoff { .. }
        | Phase::Stalled
        | Phase::AwaitingUser => None,
    };
    if matches!(stop, Some(StopCause::Cancel { .. })) {
        return vec![settle_with(run, JobState::Cancelled, now, output)];
    }
    match &outcome.result {
        AttemptResult::Completed { finish: Finish::Budget } => {
            let mut cut = run;
            cut.record.status.error = Some(Box::new(budget_error()));
            vec![settle_with(cut, JobState::Failed, now, output)]
        }
        AttemptResult::Completed { finish } => {
            let clean = outcome.issues.is_empty() && matches!(finish, Finish::Stop | Finish::ToolUse);
            let state = if clean { JobState::Completed } else { JobState::CompletedWithIssues };
            vec![settle_with(run, state, now, output)]
        }
        AttemptResult::Failed { error } if error.class == ErrorClass::WorkerLost && run.called_tool => {
            // As when it is lost: what its tools have done is not known.
            vec![stalled(&run)]
        }
        AttemptResult::Failed { error } => end_or_retry(run, error.clone(), now),
        AttemptResult::Stopped { stop: Stop::Timeout } => {
            // The worker's clock began before ours, so it may stop before anybody has asked it to.
            let late = match stop {
                Some(cause) => matches!(cause, StopCause::Deadline),
                None => bounded_by_deadline(&run),
            };
            end_or_retry(run, if late { deadline_error() } else { timeout_error() }, now)
        }
        // Nobody asked for it, so it is the worker's fault and no cancel.
        AttemptResult::Stopped { stop: Stop::Cancel } => end_or_retry(run, stopped_error(), now),
        AttemptResult::AwaitingApproval { approval_id } => vec![Event::RunParked {
            run_id: run.record.run_id,
            session_id: run.record.session_id,
            attempt: run.record.status.attempt,
            approval_id: approval_id.clone(),
            usage: run.record.status.usage,
            cost_usd: run.record.status.cost_usd,
            reports: run.reports,
        }],
        AttemptResult::HandedBack => {
            vec![returned(&run, ReturnCause::HandedBack)]
        }
    }
}

/// Whether the time of the attempt ends with that of the run.
fn bounded_by_deadline(run: &Run) -> bool {
    match run.phase {
        Phase::Running { stop_at, .. } => run.record.fields.deadline.is_some_and(|deadline| deadline <= stop_at),
        Phase::Delayed { .. }
        | Phase::Queued
        | Phase::Dispatched { .. }
        | Phase::Backoff { .. }
        | Phase::Stalled
        | Phase::AwaitingUser => false,
    }
}

/// The run with what the outcome adds to its record.
fn with_outcome(run: &Run, outcome: &Outcome, messages: &[MessageDraft], now: Timestamp) -> (Run, Option<Output>) {
    let mut run = run.clone();
    run.reports += 1;
    for message in messages {
        run.produced(message.message_id, message.role, message.tool_call_id.as_deref());
    }
    let status = &mut run.record.status;
    status.usage = status.usage.plus(&outcome.usage);
    if let Some(cost) = outcome.cost_usd {
        status.cost_usd.get_or_insert_default().0 += cost.0;
    }
    let answer = messages.iter().rev().find(|message| message.role == MessageRole::Assistant);
    let output = answer.map(|message| Output { message_id: message.message_id, artifact_id: message.content });
    status.output_artifact_id = output.as_ref().map(|output| output.artifact_id);
    status.finish = match &outcome.result {
        AttemptResult::Completed { finish } => Some(*finish),
        AttemptResult::Failed { .. }
        | AttemptResult::Stopped { .. }
        | AttemptResult::AwaitingApproval { .. }
        | AttemptResult::HandedBack => answer.and_then(|message| message.finish),
    };
    // The attempt began when its time did; a late report finds no such time any more.
    if let Phase::Running { stop_at, .. } = &run.phase {
        let began = stop_at.plus_millis(-(run.record.fields.timeout_ms as i64));
        let at = |after: Option<u64>| after.map(|after| began.plus_millis(after as i64).min(now));
        status.first_token_at = at(outcome.first_token_after_ms);
        if let Some(cancel) = &mut status.cancel {
            let at = |after| at(after).map(|at: Timestamp| at.max(cancel.requested_at));
            (cancel.worker_told_at, cancel.provider_closed_at) = match outcome.told_after_ms {
                // Its answer was there before it heard of the cancel.
                None => (None, None),
                told => (at(told), at(outcome.closed_after_ms)),
            };
        }
    }
    status.issues.extend(outcome.issues.iter().cloned());
    if outcome.result == (AttemptResult::Completed { finish: Finish::Length }) {
        status.issues.push("truncated at the output limit".to_owned());
    }
    if matches!(outcome.result, AttemptResult::Completed { .. }) {
        status.error = None;
    }
    (run, output)
}

fn stopped_error() -> RunError {
    RunError {
        code: "worker_stopped".to_owned(),
        message: "the worker stopped although nobody asked it to".to_owned(),
        class: ErrorClass::Internal,
        retryable: true,
        retry_after_ms: None,
    }
}
