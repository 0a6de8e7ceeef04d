//! `sessions.window`: what a claimed attempt sends to its provider.
//!
//! The thread up to the run's first claim, and behind it what the run itself has said and done: all of it when the same
//! attempt goes on after an approval, and in a retry only what was brought to an end. Every `TOOL_CALL` is directly followed
//! by its `TOOL_RESULT`, because providers take a conversation in no other shape.

use std::collections::VecDeque;

use laneway_contract::{
    ErrorClass, Finish, Format, JobState, MAX_PAGE, MessageRecord, MessageRole, ReadWindow, RunId, RunRecord,
    WindowMessage, WindowPage,
};

use super::messages::Pages;
use super::{ReadError, first_seq};
use crate::view::{Claim, Reading, Space, decode, run_key};

/// A result is looked for among this many messages behind its call: more than one report can bring.
const LOOK_AHEAD: usize = 1_024;

impl Reading {
    /// The window of a claimed attempt.
    pub(crate) fn read_window(&self, request: &ReadWindow, format: Format) -> Result<WindowPage, ReadError> {
        let first = first_seq(request.from_seq)?;
        let claim = self.live_claim(request)?;
        let in_window = |message: &Result<MessageRecord, ReadError>| match message {
            Ok(message) => belongs(message, request.run_id, &claim),
            Err(_) => true,
        };
        let mut thread =
            Upcoming { rest: self.thread(claim.session_id, first, u64::MAX).filter(in_window), ahead: VecDeque::new() };
        let mut page = Pages::new(format, self.journal_seq());
        while let Some(message) = thread.next()? {
            let seq = message.seq;
            if page.len() >= MAX_PAGE as usize {
                return Ok(page.ends_before(seq));
            }
            let together = match message.role {
                MessageRole::System | MessageRole::User | MessageRole::Assistant => vec![self.shown(message)?],
                MessageRole::ToolCall => self.call_with_result(message, &mut thread, request.run_id, &claim)?,
                // It stands behind its call; without one in the window, no provider takes it.
                MessageRole::ToolResult => continue,
            };
            if !page.add(together)? {
                return Ok(page.ends_before(seq));
            }
        }
        Ok(page.ends())
    }

    /// The claim that the request names, if it is the run's last and the run has not ended.
    fn live_claim(&self, request: &ReadWindow) -> Result<Claim, ReadError> {
        let run = request.run_id;
        if let Some(value) = self.value(Space::Attempts, run_key(run))? {
            let claim: Claim = decode(Space::Attempts, &value)?;
            return if claim.epoch == request.epoch {
                Ok(claim)
            } else {
                Err(ReadError::StaleEpoch { run, held: claim.epoch, asked: request.epoch })
            };
        }
        match self.ended_run(run)? {
            Some(record) => Err(ReadError::RunTerminal { run, state: record.status.state }),
            None => Err(ReadError::NotFound { what: "claimed run", id: run.to_string() }),
        }
    }

    fn shown(&self, message: MessageRecord) -> Result<WindowMessage, ReadError> {
        let content = self.content(&message)?;
        let MessageRecord { role, redacted, tool_call_id, attachments, .. } = message;
        Ok(WindowMessage { role, content, redacted, tool_call_id, attachments })
    }

    fn call_with_result(
        &self,
        call: MessageRecord,
        thread: &mut Upcoming<impl Iterator<Item = Result<MessageRecord, ReadError>>>,
        run: RunId,
        claim: &Claim,
    ) -> Result<Vec<WindowMessage>, ReadError> {
        let result = match thread.result_of(&call)? {
            Some(result) => self.shown(result)?,
            None => self.no_result(&call, run, claim)?,
        };
        Ok(vec![self.shown(call)?, result])
    }

    /// What stands in for the result of a call that never got one.
    fn no_result(&self, call: &MessageRecord, run: RunId, claim: &Claim) -> Result<WindowMessage, ReadError> {
        let ended = call.run_id.map(|run| self.ended_run(run)).transpose()?.flatten();
        // The worker that asked for it has come to its end and waited for a person.
        let same_attempt = call.run_id == Some(run) && call.attempt == Some(claim.attempt);
        let why = if same_attempt { "none was given" } else { why_none(call, ended.as_ref()) };
        Ok(WindowMessage {
            role: MessageRole::ToolResult,
            content: Some(format!("no result: {why}")),
            redacted: false,
            tool_call_id: call.tool_call_id.clone(),
            attachments: Vec::new(),
        })
    }
}

/// Whether a message of the thread is in the window of `run`.
fn belongs(message: &MessageRecord, run: RunId, claim: &Claim) -> bool {
    if message.finish.is_some_and(|finish| !finish.in_later_windows()) {
        return false;
    }
    if message.seq <= claim.upto_seq {
        return true;
    }
    // Behind the first claim: what callers appended meanwhile is for the next run, and a text that this run did not
    // bring to an end is not for its next attempt. The attempt itself goes on behind it.
    let own = message.run_id == Some(run) && message.attempt.is_none_or(|attempt| attempt <= claim.attempt);
    own && match message.role {
        MessageRole::ToolCall | MessageRole::ToolResult => true,
        MessageRole::Assistant => {
            message.attempt == Some(claim.attempt) || message.finish.is_some_and(Finish::is_complete)
        }
        MessageRole::System | MessageRole::User => false,
    }
}

fn why_none(call: &MessageRecord, run: Option<&RunRecord>) -> &'static str {
    let Some(run) = run else {
        // A call of a run that has not ended is unanswered only in the window of a later attempt.
        return if call.run_id.is_some() { "worker lost" } else { "none was given" };
    };
    match (run.status.state, run.status.error.as_ref().map(|error| error.class)) {
        (JobState::Cancelled, _) => "cancelled",
        (_, Some(ErrorClass::WorkerLost)) | (JobState::Poisoned, _) => "worker lost",
        (_, Some(ErrorClass::Timeout)) => "timeout",
        (JobState::Failed, _) => "failed",
        _ => "none was given",
    }
}

/// Messages of a window that are still to come, of which some were read ahead.
struct Upcoming<I> {
    rest: I,
    ahead: VecDeque<MessageRecord>,
}

impl<I: Iterator<Item = Result<MessageRecord, ReadError>>> Upcoming<I> {
    fn next(&mut self) -> Result<Option<MessageRecord>, ReadError> {
        match self.ahead.pop_front() {
            Some(message) => Ok(Some(message)),
            None => self.rest.next().transpose(),
        }
    }

    /// The first result with the call's id before another call takes that id again.
    fn result_of(&mut self, call: &MessageRecord) -> Result<Option<MessageRecord>, ReadError> {
        for at in 0..LOOK_AHEAD {
            if at == self.ahead.len() {
                match self.rest.next().transpose()? {
                    Some(message) => self.ahead.push_back(message),
                    None => return Ok(None),
                }
            }
            let message = &self.ahead[at];
            if message.tool_call_id == call.tool_call_id {
                match message.role {
                    MessageRole::ToolResult => return Ok(Some(message.clone())),
                    MessageRole::ToolCall => return Ok(None),
                    MessageRole::System | MessageRole::User | MessageRole::Assistant => {}
                }
            }
        }
        Ok(None)
    }
}
