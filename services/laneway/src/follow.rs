//! Reading a run's token stream: a preview that may begin again, told apart from the answer that stays.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use laneway_contract::{Chunk, Epoch, JobState, MessageId, Piece, RunId, RunReply, Usage};

use crate::client::Client;
use crate::exit::CliError;

/// How long the last pieces may take once the run has ended.
const LAST_PIECES: Duration = Duration::from_secs(1);

/// Follows a run to its end, showing each piece as it comes. The reader that comes back knows what was not shown.
pub async fn to_end(
    client: &Client,
    run_id: RunId,
    mut chunks: BoxStream<'static, Chunk>,
    mut show: impl FnMut(&Chunk, Heard) -> Result<(), CliError>,
) -> Result<(RunReply, StreamReader), CliError> {
    let mut reader = StreamReader::default();
    let mut take = |chunk: Chunk| match reader.take(&chunk) {
        Some(heard) => {
            let last = matches!(&heard, Heard::Ended { outcome, .. } if outcome.is_terminal());
            show(&chunk, heard).map(|()| last)
        }
        None => Ok(false),
    };
    let end = client.wait_to_end(run_id);
    tokio::pin!(end);
    let (mut open, mut whole) = (true, false);
    let reply = loop {
        tokio::select! {
            biased;
            chunk = chunks.next(), if open => match chunk {
                Some(chunk) => whole |= take(chunk)?,
                None => open = false,
            },
            reply = &mut end => break reply?,
        }
    };
    let last = async {
        while !whole && let Some(chunk) = chunks.next().await {
            whole = take(chunk)?;
        }
        Ok::<_, CliError>(())
    };
    if let Ok(taken) = tokio::time::timeout(LAST_PIECES, last).await {
        taken?;
    }
    Ok((reply, reader))
}

/// What a chunk means to the reader of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An attempt has begun; what was read before is void if it is not the first.
    Begun {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// More of the answer.
    Text(String),
    /// More of the model's thinking.
    Thinking(String),
    /// The model asks for a tool.
    ToolCall {
        /// The tool.
        name: String,
    },
    /// The attempt is over and its report is durable.
    Ended {
        /// The state of the run after the report.
        outcome: JobState,
        /// Tokens of the attempt.
        usage: Usage,
        /// The answer's message.
        message_id: Option<MessageId>,
    },
}

/// Puts the chunks of one run in order: drops those of older epochs and repeats, and notices what is missing.
#[derive(Debug, Default)]
pub struct StreamReader {
    epoch: Epoch,
    next: u64,
    text: String,
    gap: bool,
}

impl StreamReader {
    /// Takes the next chunk; none when it belongs to an attempt that is over, or was read before.
    pub fn take(&mut self, chunk: &Chunk) -> Option<Heard> {
        if chunk.epoch < self.epoch || (chunk.epoch == self.epoch && chunk.n < self.next) {
            return None;
        }
        if chunk.epoch > self.epoch {
            *self = Self { epoch: chunk.epoch, ..Self::default() };
        }
        self.gap |= chunk.n > self.next;
        self.next = chunk.n + 1;
        Some(match chunk.piece.clone() {
            Piece::Start { .. } => Heard::Begun { attempt: chunk.attempt },
            Piece::Text(text) => {
                self.text.push_str(&text);
                Heard::Text(text)
            }
            Piece::Thinking(text) => Heard::Thinking(text),
            Piece::ToolCall { name, .. } => Heard::ToolCall { name },
            Piece::End { outcome, usage, message_id } => Heard::Ended { outcome, usage, message_id },
        })
    }

    /// What is still to be shown so that a reader of this stream has the whole answer.
    #[must_use]
    pub fn rest<'a>(&self, output: &'a str) -> Rest<'a> {
        match output.strip_prefix(self.text.as_str()) {
            Some("") => Rest::Nothing,
            // With a gap, equal beginnings would be chance, unless nothing was shown.
            Some(rest) if !self.gap || self.text.is_empty() => Rest::More(rest),
            Some(_) | None => Rest::All(output),
        }
    }
}

/// What the stream did not show of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest<'a> {
    /// All was shown.
    Nothing,
    /// This comes behind what was shown.
    More(&'a str),
    /// Something was lost in between: this is the answer as it is stored.
    All(&'a str),
}

#[cfg(test)]
mod tests;
