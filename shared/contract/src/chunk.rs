//! What workers publish on `laneway.tokens.<run_id>`, as JSON. The thread is the truth, the stream a preview.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, MessageId, ModelId, RunId, SessionId};
use crate::run::Usage;
use crate::vocabulary::JobState;

/// One piece of an attempt's stream. Readers drop chunks of an epoch below the highest seen and begin again at `start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The run.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The epoch of the attempt's lease.
    pub epoch: Epoch,
    /// Place in the attempt's stream: dense, from 0.
    pub n: u64,
    /// Kind and data.
    #[serde(flatten)]
    pub piece: Piece,
}

/// The kind of a chunk with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum Piece {
    /// The provider is about to be called.
    Start {
        /// The session.
        session_id: SessionId,
        /// The model.
        model_id: ModelId,
    },
    /// Text of the answer.
    Text(String),
    /// Text of the model's thinking.
    Thinking(String),
    /// A tool that the model asks for: its call id and name.
    ToolCall {
        /// The call.
        tool_call_id: String,
        /// The tool.
        name: String,
    },
    /// The report is durable; nothing follows in this attempt.
    End {
        /// The state of the run after the report: `queued` when it will be tried again.
        outcome: JobState,
        /// Tokens of the attempt.
        usage: Usage,
        /// The answer's message.
        message_id: Option<MessageId>,
    },
}
