//! A session as the engine holds it, and the one function that derives its state.

use std::collections::BTreeMap;

use laneway_contract::{
    Fingerprint, JobState, MicroUsd, Mode, RunId, SessionCreation, SessionId, SessionRecord, SessionState,
    SessionStatus, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::budget::{Account, Amount};
use crate::digest::Hashed;
use crate::queue::Head;
use crate::run::{Phase, Run};

/// An append that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendKey {
    /// What it contained.
    pub fingerprint: Fingerprint,
    /// Its first message.
    pub first_seq: u64,
    /// Its last message.
    pub last_seq: u64,
    /// Its number among all keys.
    pub number: u64,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// A place in the queue of a session: what a person has decided, then who interrupts (the newest first), then submit order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Seat {
    /// Queued again by a decision.
    Decided(u64),
    /// Went to the front; counts down.
    Front(u64),
    /// Behind the others.
    Behind(u64),
}

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// As it was made.
    pub creation: SessionCreation,
    /// What its request contained.
    pub fingerprint: Fingerprint,
    /// The session that it descends from; itself when it has no parent.
    pub root: SessionId,
    /// When it changed last.
    pub touched_at: Timestamp,
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
    /// Appends that were taken and are held.
    pub keys: BTreeMap<String, AppendKey>,
    /// Whether others were taken, which only a store replica has.
    pub lost_keys: bool,
    /// Waiting runs in the order in which they go.
    pub queue: BTreeMap<Seat, RunId>,
    /// Runs whose `not_before` has not come, in submit order.
    pub delayed: BTreeMap<u64, RunId>,
    /// The run that is dispatched, executing, parked or in backoff.
    pub current: Option<RunId>,
    /// Waiting runs submitted before this one are being replaced by it.
    pub replaced_below: u64,
    /// Whether a run was ever claimed.
    pub ever_claimed: bool,
    /// Whether a run was ever queued, which is all that a `ONE_SHOT` session takes.
    pub ever_queued: bool,
    /// Tokens of its runs.
    pub total_tokens: u64,
    /// Cost of its runs.
    pub total_cost: MicroUsd,
    /// Tokens of its thread as a window, counted or estimated.
    pub window_tokens: u64,
    /// Its budget.
    pub budget: Account,
    /// Its head in the queues. Worked out.
    #[serde(skip)]
    pub(crate) seated: Option<(Head, RunId)>,
    /// Its head's estimate in its work packet's index. Worked out.
    #[serde(skip)]
    pub(crate) indexed: Option<Amount>,
    #[serde(skip)]
    pub(crate) hashed: Hashed,
}

/// Where in its session a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In the queue.
    Queue(Seat),
    /// Behind its `not_before`, by submit order.
    Delayed(u64),
    /// It is the current one.
    Current,
}

impl Session {
    /// A session that was just made.
    #[must_use]
    pub fn new(creation: SessionCreation, fingerprint: Fingerprint, root: SessionId) -> Self {
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
            budget: Account::new(creation.fields.budget_tokens, creation.fields.budget_usd),
            touched_at: creation.created_at,
            creation,
            fingerprint,
            root,
            status,
            paused: None,
            ending: None,
            tail: 0,
            last_message_at: None,
            keys: BTreeMap::new(),
            lost_keys: false,
            queue: BTreeMap::new(),
            delayed: BTreeMap::new(),
            current: None,
            replaced_below: 0,
            ever_claimed: false,
            ever_queued: false,
            total_tokens: 0,
            total_cost: MicroUsd(0),
            window_tokens: 0,
            seated: None,
            indexed: None,
            hashed: Hashed::default(),
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
        self.current.is_some() || !self.queue.is_empty() || !self.delayed.is_empty()
    }

    /// Since when nothing of it goes on, so that memory can do without it.
    pub(crate) fn idle_since(&self) -> Option<Timestamp> {
        let ends = self.ending.is_some() && !self.status.state.is_terminal();
        (!self.has_runs() && !ends).then_some(self.touched_at)
    }

    /// Runs that wait.
    #[must_use]
    pub fn queued(&self) -> u64 {
        (self.queue.len() + self.delayed.len()) as u64
    }

    pub(crate) fn move_run(&mut self, id: RunId, from: Option<Spot>, to: Option<Spot>) {
        match from {
            Some(Spot::Queue(seat)) => drop(self.queue.remove(&seat)),
            Some(Spot::Delayed(order)) => drop(self.delayed.remove(&order)),
            Some(Spot::Current) => self.current = self.current.filter(|current| *current != id),
            None => {}
        }
        match to {
            Some(Spot::Queue(seat)) => drop(self.queue.insert(seat, id)),
            Some(Spot::Delayed(order)) => drop(self.delayed.insert(order, id)),
            Some(Spot::Current) => self.current = Some(id),
            None => {}
        }
    }

    /// The run that may be dispatched next, unless something of the session holds it. Budgets aside.
    #[must_use]
    pub fn head(&self) -> Option<RunId> {
        if self.current.is_some() || self.paused.is_some() || self.is_closed() || self.replaced_below > 0 {
            return None;
        }
        self.queue.values().next().copied()
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
        match current.map(|run| &run.phase) {
            Some(Phase::Stalled | Phase::AwaitingUser) => return SessionState::Blocked,
            Some(Phase::Running { .. }) => return SessionState::Active,
            Some(Phase::Delayed { .. } | Phase::Queued | Phase::Dispatched { .. } | Phase::Backoff { .. }) | None => {}
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

    /// What holds now, with the state of the last change.
    #[must_use]
    pub fn current_status(&self) -> SessionStatus {
        let mut status = self.status.clone();
        status.messages_count = self.tail;
        status.paused = self.paused.is_some();
        status.current_run_id = self.current;
        status.total_tokens = self.total_tokens;
        status.total_cost_usd = self.total_cost;
        status.context_window_used = (self.tail > 0).then_some(self.window_tokens);
        status
    }

    /// The session as callers see it.
    #[must_use]
    pub fn record(&self) -> SessionRecord {
        let status = self.current_status();
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
