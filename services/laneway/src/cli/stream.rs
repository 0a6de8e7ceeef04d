//! Showing an answer while it comes.

use futures::stream::BoxStream;
use laneway_contract::{Chunk, JobState, RunId, RunReply};

use super::Context;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::follow::{self, Heard, Rest};
use crate::output::{self, Output};

/// Shows the stream of a run to its end, and what the stream did not show of the stored answer.
pub(super) async fn show(
    context: &Context,
    client: &Client,
    run_id: RunId,
    chunks: BoxStream<'static, Chunk>,
) -> Result<RunReply, CliError> {
    let out = context.out;
    if out.is_json() {
        let (reply, _) = follow::to_end(client, run_id, chunks, |chunk, _| Ok(out.value(chunk)?)).await?;
        out.value(&reply)?;
        return Ok(reply);
    }
    let mut screen = Screen { out, run_id, in_line: false };
    let (reply, reader) = follow::to_end(client, run_id, chunks, |_, heard| screen.take(heard)).await?;
    match reader.rest(reply.output.as_deref().unwrap_or_default()) {
        Rest::More(rest) => screen.text(rest)?,
        Rest::All(answer) if !answer.is_empty() => {
            screen.remark("[pieces were lost; the answer as it is stored:]")?;
            screen.text(answer)?;
        }
        Rest::All(_) | Rest::Nothing => {}
    }
    screen.end_line()?;
    Ok(reply)
}

/// A terminal that an answer is written to piece by piece.
struct Screen {
    out: Output,
    run_id: RunId,
    in_line: bool,
}

impl Screen {
    fn take(&mut self, heard: Heard) -> Result<(), CliError> {
        match heard {
            Heard::Ended { outcome: JobState::AwaitingUser, .. } => self.remark(&format!(
                "[waits for a person: laneway run decide {} approve|retry|fail|cancel --reason TEXT]",
                self.run_id
            )),
            Heard::Begun { attempt: 1 } | Heard::Thinking(_) | Heard::Ended { .. } => Ok(()),
            Heard::Begun { attempt } => self.remark(&format!("[attempt {attempt} begins again]")),
            Heard::Text(text) => self.text(&text),
            Heard::ToolCall { name } => self.remark(&format!("[calls {name}]")),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.in_line = !text.ends_with('\n');
        Ok(self.out.piece(text)?)
    }

    fn remark(&mut self, text: &str) -> Result<(), CliError> {
        self.end_line()?;
        Ok(self.out.note(text)?)
    }

    fn end_line(&mut self) -> Result<(), CliError> {
        if std::mem::take(&mut self.in_line) {
            self.out.piece("\n")?;
        }
        Ok(())
    }
}

/// One line about a run that has ended, and the exit code that goes with it.
pub(super) fn summary(context: &Context, reply: &RunReply) -> Result<Exit, CliError> {
    let run = &reply.run;
    let usage = run.status.usage;
    context.out.note(format!(
        "run {} · session {} · {} · {} in, {} out · waited {} · took {}",
        run.run_id,
        run.session_id,
        run.status.state,
        usage.input_tokens,
        usage.output_tokens,
        output::or_dash(run.status.queue_wait_ms.map(output::span)),
        output::or_dash(output::took(run).map(output::span)),
    ))?;
    if let Some(error) = run.status.error.as_ref().filter(|_| run.status.state != JobState::Completed) {
        context.out.note(format!("{}: {}", error.code, error.message))?;
    }
    Ok(exit_of(reply))
}

/// The exit code of a command that waited for a run.
pub(super) fn exit_of(reply: &RunReply) -> Exit {
    match reply.run.status.state {
        JobState::Completed | JobState::CompletedWithIssues => Exit::Done,
        JobState::Failed
        | JobState::Cancelled
        | JobState::Poisoned
        | JobState::Queued
        | JobState::Dispatched
        | JobState::Running
        | JobState::AwaitingUser
        | JobState::Stalled => Exit::RunNotCompleted,
    }
}
