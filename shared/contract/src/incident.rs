//! What went wrong beside the journal and was noticed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, SessionId};

/// Something that was found where messages are delivered, and what is done about it. Nothing of the state changes by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What: `max_deliveries` or `slow_consumer`.
    pub found: String,
    /// Where: a stream with its consumer, as `LANEWAY_INTAKE/scheduler`, or an instance.
    pub place: String,
    /// The message in the stream; the last of them.
    pub stream_seq: Option<u64>,
    /// How many of them.
    pub count: u64,
    /// What is done about it: `dead_letter`, `return_to_queue`, or `none` where nothing of ours is lost.
    pub action: String,
    /// The run of that message, where one is known.
    pub run_id: Option<RunId>,
    /// Its session, where it is known.
    pub session_id: Option<SessionId>,
}

impl Incident {
    /// The most bytes of each of its texts.
    pub const MAX_TEXT_BYTES: usize = 256;
}

impl fmt::Display for Incident {
    /// As `max_deliveries LANEWAY_INTAKE/scheduler message 17, 3 times`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.found, self.place)?;
        if let Some(seq) = self.stream_seq {
            write!(f, " message {seq}")?;
        }
        match self.count {
            0 | 1 => Ok(()),
            count => write!(f, ", {count} times"),
        }
    }
}
