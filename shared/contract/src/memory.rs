//! What the engine holds in memory, and how it gives up the rest and gets it back.
//!
//! The engine gives a session up with its whole record in the event, which every store replica keeps. What memory lacks
//! a command brings along: what a replica said of it, and after how many evictions.

use serde::{Deserialize, Serialize};

use crate::event::Fingerprint;
use crate::ids::SessionId;
use crate::money::MicroUsd;
use crate::session::{SessionCreation, SessionStatus};
use crate::time::Timestamp;
use crate::vocabulary::SessionState;

/// How much of what is over the engine holds. Sessions with a run that has not ended are held in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Sessions without such a run.
    pub sessions: usize,
    /// Such a session is held for this long after its last change.
    pub session_ms: u64,
    /// Keys of appends.
    pub keys: usize,
    /// A key is held for this long.
    pub key_ms: u64,
    /// Ended runs whose repeated submits and reports are answered.
    pub ended_runs: usize,
    /// Such a run is remembered for this long after its end.
    pub ended_run_ms: u64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            sessions: 200_000,
            session_ms: 600_000,
            keys: 200_000,
            key_ms: 600_000,
            ended_runs: 2_000_000,
            ended_run_ms: 86_400_000,
        }
    }
}

/// All that the engine knew of a session besides how it was made. Without content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvictedSession {
    /// The session.
    pub session_id: SessionId,
    /// What the request that made it contained.
    pub fingerprint: Fingerprint,
    /// The session that it descends from; itself when it has no parent.
    pub root: SessionId,
    /// What the last change of state said.
    pub status: SessionStatus,
    /// Whether it is paused, and why.
    pub paused: Option<String>,
    /// How it was asked to end, and why.
    pub ending: Option<(SessionState, String)>,
    /// Messages in the thread.
    pub tail: u64,
    /// When the last message came.
    pub last_message_at: Option<Timestamp>,
    /// Whether an append was ever taken, so that only a store replica has all its keys.
    pub took_keys: bool,
    /// Whether a run was ever claimed.
    pub ever_claimed: bool,
    /// Whether a run was ever queued.
    pub ever_queued: bool,
    /// Tokens of its runs.
    pub total_tokens: u64,
    /// Cost of its runs.
    pub total_cost: MicroUsd,
    /// Tokens of its thread as a window.
    pub window_tokens: u64,
    /// Its budget.
    pub budget: EvictedBudget,
}

/// A budget of which nothing is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictedBudget {
    /// The most tokens.
    pub tokens: Option<u64>,
    /// The most US dollars.
    pub usd: Option<MicroUsd>,
    /// Tokens that were used.
    pub used_tokens: u64,
    /// US dollars that were used.
    pub used_usd: MicroUsd,
    /// Whether it has warned about tokens.
    pub warned_tokens: bool,
    /// Whether it has warned about money.
    pub warned_usd: bool,
}

/// What a store replica says of a session at one position of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreSaid {
    /// The session.
    pub session_id: SessionId,
    /// Evictions that the replica had applied. It says nothing about a session that was given up later.
    pub read_at: u64,
    /// What it has of the session.
    pub session: SessionSaid,
    /// What it has of the append key that was asked for.
    pub key: KeySaid,
}

/// What a store replica has of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SessionSaid {
    /// There never was one.
    Absent,
    /// The engine holds it.
    Held,
    /// The engine has given it up.
    Evicted(Box<StoredSession>),
}

/// A session that the engine has given up, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredSession {
    /// As it was made.
    pub creation: SessionCreation,
    /// All else.
    pub record: EvictedSession,
}

/// What a store replica has of an append key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySaid {
    /// Nobody asked.
    NotAsked,
    /// No append was taken under it.
    Absent,
    /// The first answer.
    Taken(KeyAnswer),
}

/// The first answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAnswer {
    /// What the request contained.
    pub fingerprint: Fingerprint,
    /// The first of its messages.
    pub first_seq: u64,
    /// The last of its messages.
    pub last_seq: u64,
}
