//! A session as the engine holds it, and the one function that derives its state.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{
    Fingerprint, JobState, MicroUsd, Mode, RunId, SessionCreation, SessionId, SessionRecord, SessionState,
    SessionStatus, Timestamp,
};
use serde::Serialize;

use crate::run::{Phase, Run};

/// An append that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AppendKey {
    /// What it contained.
    pub fingerprint: Fingerprint,
    /// Its first message.
    pub first_seq: u64,
    /// Its last message.
    pub last_seq: u64,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Session {
    /// As it was made.
    pub creation: SessionCreation,
    /// What its request contained.
    pub fingerprint: Fingerprint,
    /// What the last change of state said.
    pub status: SessionStatus,
    /// Whether it is paused, and why.
    pub paused: Option<String>,
    /// The end that was asked for, and why.
    pub ending: Option<(SessionState, String)>,
    /// Messages in the thread.
    pub tail: u64,
    /// When the last message came.
    pub last_message_at: Option<Timestamp>,
    /// Appends that were taken.
    pub keys: BTreeMap<String, AppendKey>,
    /// Waiting runs in submit order.
    pub queue: BTreeMap<u64, RunId>,
    /// The run that is dispatched, executing or in backoff.
    pub current: Option<RunId>,
    /// Whether a run was ever claimed.
    pub ever_claimed: bool,
    /// Whether a run was ever queued, which is all that a `ONE_SHOT` session takes.
    pub ever_queued: bool,
    /// Tokens of its runs.
    pub total_tokens: u64,
    /// Cost of its runs.
    pub total_cost: MicroUsd,
    /// Its children.
    pub children: BTreeSet<SessionId>,
}

impl Session {
    /// A session that was just made.
    #[must_use]
    pub fn new(creation: SessionCreation, fingerprint: Fingerprint) -> Self {
        let status = SessionStatus {
            state: SessionState::Created,
            since: creation.created_at,
            current_run_id: None,
            paused: false,
            total_tokens: 0,
            total_cost_usd: MicroUsd(0),
            messages_count: 0,
            context_window_used: None,
        };
        Self {
            creation,
            fingerprint,
            status,
            paused: None,
            ending: None,
            tail: 0,
            last_message_at: None,
            keys: BTreeMap::new(),
            queue: BTreeMap::new(),
            current: None,
            ever_claimed: false,
            ever_queued: false,
            total_tokens: 0,
            total_cost: MicroUsd(0),
            children: BTreeSet::new(),
        }
    }

    /// Whether it takes no more submits and appends.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.status.state.is_terminal() || self.ending.is_some()
    }

    /// Whether it has a run that has not ended.
    #[must_use]
    pub fn has_runs(&self) -> bool {
        self.current.is_some() || !self.queue.is_empty()
    }

    /// The run that may be dispatched next, unless something of the session holds it.
    #[must_use]
    pub fn head(&self) -> Option<(u64, RunId)> {
        if self.current.is_some() || self.paused.is_some() || self.is_closed() {
            return None;
        }
        self.queue.iter().next().map(|(order, run)| (*order, *run))
    }

    /// The state that holds now. `current` is the session's current run.
    ///
    /// This is the only place where states of sessions come from; the first line that holds decides.
    #[must_use]
    pub fn derive_state(&self, current: Option<&Run>) -> SessionState {
        if self.status.state.is_terminal() {
            return self.status.state;
        }
        if let Some((end, _)) = &self.ending
            && !self.has_runs()
        {
            return *end;
        }
        if let Some(run) = current
            && matches!(run.phase, Phase::Running { .. })
        {
            return SessionState::Active;
        }
        if self.paused.is_some() {
            return SessionState::Paused;
        }
        if self.ever_claimed { SessionState::Idle } else { SessionState::Created }
    }

    /// The end of a `ONE_SHOT` session whose run has ended like this.
    #[must_use]
    pub fn end_after(&self, run: JobState) -> Option<SessionState> {
        if self.creation.fields.mode != Mode::OneShot || self.ending.is_some() {
            return None;
        }
        match run {
            JobState::Completed | JobState::CompletedWithIssues => Some(SessionState::Completed),
            JobState::Failed | JobState::Poisoned => Some(SessionState::Failed),
            JobState::Cancelled => Some(SessionState::Cancelled),
            JobState::Queued
            | JobState::Dispatched
            | JobState::Running
            | JobState::AwaitingUser
            | JobState::Stalled => None,
        }
    }

    /// The session as callers see it.
    #[must_use]
    pub fn record(&self) -> SessionRecord {
        let mut status = self.status.clone();
        status.messages_count = self.tail;
        status.paused = self.paused.is_some();
        status.current_run_id = self.current;
        status.total_tokens = self.total_tokens;
        status.total_cost_usd = self.total_cost;
        SessionRecord {
            session_id: self.creation.session_id,
            fields: self.creation.fields.clone(),
            updated_at: self.last_message_at.map_or(status.since, |at| at.max(status.since)),
            status,
            checkpoint_artifact_id: None,
            last_checkpoint_at: None,
            created_at: self.creation.created_at,
        }
    }
}
