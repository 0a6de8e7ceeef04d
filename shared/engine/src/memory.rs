//! Bounded memory: what is given up and when, how it comes back, and when a command needs a store replica's word.
//!
//! Sessions without a live run, keys of appends and ended runs are given up by events, so every fold holds the same. A
//! read of a store is good for what memory lacks when the store had applied every eviction that is folded here: then what
//! it says of that session is its last record, or that there never was one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use laneway_contract::{
    Event, EvictedSession, KeySaid, MemoryLimits, RunId, SessionId, SessionSaid, StoreSaid, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::budget::Account;
use crate::command::{CancelTarget, Command, NewSession};
use crate::digest::{Hashed, Key};
use crate::session::Session;
use crate::state::State;

/// Sessions of one event: with their weight, below the bytes of a step.
const SESSIONS_AT_A_TIME: usize = 128;
/// Keys or runs that one event gives up: each is hashed once more, and whoever waits for an answer waits for all.
const OTHERS_AT_A_TIME: usize = 1_000;
/// What is past its time is given up so much later, so that it goes together with what is past it by then.
const TOGETHER_MS: i64 = 1_000;

/// What was given up, as counts and numbers. Part of the digest.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Forgotten {
    /// Evictions of sessions and keys.
    pub(crate) evictions: u64,
    /// Sessions that are not held and have not ended.
    pub(crate) live_sessions: u64,
    /// Append keys that were taken: the number of the last.
    pub(crate) keys_taken: u64,
    /// Runs that ended: the number of the last.
    pub(crate) runs_ended: u64,
    /// When the last of the ended runs that are forgotten ended.
    pub(crate) runs_until: Option<Timestamp>,
}

/// What may be given up, in the order in which it is. Worked out from the records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Givable {
    /// Sessions without a live run, by their last change.
    pub(crate) sessions: BTreeSet<(Timestamp, SessionId)>,
    /// Append keys, as they were taken.
    pub(crate) keys: BTreeMap<u64, (SessionId, String)>,
    /// Ended runs, as they ended.
    pub(crate) runs: VecDeque<RunId>,
}

/// What a command needs to know of a store replica before it can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The session that memory lacks, or that has keys which memory lacks.
    pub session_id: SessionId,
    /// The key of an append.
    pub key: Option<String>,
}

impl State {
    /// What a store replica has to be asked before this command can be decided, given what was `said`.
    #[must_use]
    pub fn needs_read(&self, command: &Command, said: &[StoreSaid]) -> Option<Question> {
        if self.forgotten.evictions == 0 {
            return None;
        }
        match command {
            Command::Create(create) => self.needs_new(&create.session, true, said),
            Command::Append(append) => {
                let question = Question { session_id: append.session_id, key: Some(append.key.clone()) };
                let lacks = match self.sessions.get(&append.session_id) {
                    Some(session) => {
                        session.lost_keys
                            && !session.keys.contains_key(&append.key)
                            && self.key_said(append.session_id, said) == KeySaid::NotAsked
                    }
                    None => self.lacks(append.session_id, said),
                };
                lacks.then_some(question)
            }
            Command::Submit(submit) => {
                if self.runs.contains_key(&submit.run_id) || self.ended.contains_key(&submit.run_id) {
                    return None;
                }
                match (submit.session_id, &submit.new_session) {
                    (Some(id), _) => self.needs_session(id, said),
                    // Only the session of a run that tries another again is named after it; any other is made up here.
                    (None, Some(new)) => self.needs_new(new, submit.retry_of.is_some(), said),
                    (None, None) => None,
                }
            }
            Command::Cancel(cancel) => match cancel.target {
                CancelTarget::Session(id) => self.needs_session(id, said),
                CancelTarget::Run(_) | CancelTarget::Token(_) => None,
            },
            Command::Pause(pause) => self.needs_session(pause.session_id, said),
            Command::End(end) => self.needs_session(end.session_id, said),
            Command::SetBudget(budget) => match budget.owner {
                laneway_contract::BudgetOwner::Session(id) => self.needs_session(id, said),
                laneway_contract::BudgetOwner::WorkPacket(_) => None,
            },
            // Sessions of live runs are held.
            Command::CreateHashKey(_)
            | Command::SetLimits(_)
            | Command::Put(_)
            | Command::Note(_)
            | Command::Claim(_)
            | Command::Decide(_)
            | Command::Report(_)
            | Command::Load(_) => None,
        }
    }

    /// What a store replica has to be asked before anything can be said of a session.
    #[must_use]
    pub fn needs_session(&self, session_id: SessionId, said: &[StoreSaid]) -> Option<Question> {
        self.lacks(session_id, said).then_some(Question { session_id, key: None })
    }

    fn needs_new(&self, new: &NewSession, may_exist: bool, said: &[StoreSaid]) -> Option<Question> {
        let parent = new.fields.parent_session_id.and_then(|parent| self.needs_session(parent, said));
        parent.or_else(|| self.needs_session(new.session_id, said).filter(|_| may_exist))
    }

    /// Whether memory lacks a session that may have been.
    fn lacks(&self, id: SessionId, said: &[StoreSaid]) -> bool {
        let never_was = |said: &StoreSaid| said.session_id == id && said.session == SessionSaid::Absent;
        self.forgotten.evictions > 0
            && !self.sessions.contains_key(&id)
            && !said.iter().any(|said| never_was(said) && self.is_good(said.read_at))
    }

    /// Whether a store that had applied so many evictions says how it is with what memory lacks.
    pub(crate) fn is_good(&self, read_at: u64) -> bool {
        read_at >= self.forgotten.evictions
    }

    /// What was said of the one key that a command brings, in time.
    pub(crate) fn key_said(&self, id: SessionId, said: &[StoreSaid]) -> KeySaid {
        let said = said.iter().filter(|said| said.session_id == id && self.is_good(said.read_at));
        said.map(|said| said.key).find(|key| *key != KeySaid::NotAsked).unwrap_or(KeySaid::NotAsked)
    }

    /// What is to be given up now, a step of it.
    pub(crate) fn give_up(&self, limits: &MemoryLimits, now: Timestamp) -> Vec<Event> {
        let event = self.evict_sessions(limits, now).or_else(|| self.evict_keys(limits, now));
        event.or_else(|| self.forget_runs(limits, now)).into_iter().collect()
    }

    /// When there is something to be given up.
    pub(crate) fn next_giving_up(&self, limits: &MemoryLimits, now: Timestamp) -> Option<Timestamp> {
        let Givable { sessions, keys, runs } = &self.givable;
        if sessions.len() > limits.sessions || keys.len() > limits.keys || runs.len() > limits.ended_runs {
            return Some(now);
        }
        let at = |from: Option<Timestamp>, ms: u64| from.map(|from| from.plus_millis(ms as i64 + TOGETHER_MS));
        let sessions = at(sessions.first().map(|(at, _)| *at), limits.session_ms);
        let keys = at(self.oldest_key(), limits.key_ms);
        let runs = at(self.oldest_ended(), limits.ended_run_ms);
        [sessions, keys, runs].into_iter().flatten().min()
    }

    fn oldest_key(&self) -> Option<Timestamp> {
        let (id, key) = self.givable.keys.first_key_value()?.1;
        Some(self.sessions.get(id)?.keys.get(key)?.taken_at)
    }

    fn oldest_ended(&self) -> Option<Timestamp> {
        Some(self.ended.get(self.givable.runs.front()?)?.ended_at)
    }

    fn evict_sessions(&self, limits: &MemoryLimits, now: Timestamp) -> Option<Event> {
        let sessions = &self.givable.sessions;
        let oldest = sessions.first().map(|(at, _)| *at);
        let due = due(sessions.len(), limits.sessions, SESSIONS_AT_A_TIME, oldest, limits.session_ms, now)?;
        let old = |at: &Timestamp| is_past(*at, limits.session_ms, now);
        let given = sessions.iter().enumerate().take_while(|(place, (at, _))| *place < due || old(at));
        let given = given.take(SESSIONS_AT_A_TIME).filter_map(|(_, (_, id))| self.sessions.get(id));
        let sessions = given.map(Session::evicted).collect();
        Some(Event::SessionsEvicted { number: self.forgotten.evictions + 1, sessions })
    }

    fn evict_keys(&self, limits: &MemoryLimits, now: Timestamp) -> Option<Event> {
        let keys = &self.givable.keys;
        let due = due(keys.len(), limits.keys, OTHERS_AT_A_TIME, self.oldest_key(), limits.key_ms, now)?;
        let old = |id: &SessionId, key: &str| {
            let taken = self.sessions.get(id).and_then(|session| session.keys.get(key));
            taken.is_some_and(|taken| is_past(taken.taken_at, limits.key_ms, now))
        };
        let given = keys.iter().enumerate().take_while(|(place, (_, (id, key)))| *place < due || old(id, key));
        let last = given.take(OTHERS_AT_A_TIME).last().map(|(_, (number, _))| *number)?;
        Some(Event::KeysEvicted { number: self.forgotten.evictions + 1, before: last + 1 })
    }

    fn forget_runs(&self, limits: &MemoryLimits, now: Timestamp) -> Option<Event> {
        let runs = &self.givable.runs;
        let oldest = self.oldest_ended();
        let due = due(runs.len(), limits.ended_runs, OTHERS_AT_A_TIME, oldest, limits.ended_run_ms, now)?;
        let old = |id: &RunId| self.ended.get(id).is_some_and(|run| is_past(run.ended_at, limits.ended_run_ms, now));
        let given = runs.iter().enumerate().take_while(|(place, id)| *place < due || old(id));
        let last = given.take(OTHERS_AT_A_TIME).last().and_then(|(_, id)| self.ended.get(id))?;
        Some(Event::RunsForgotten { before: last.number + 1 })
    }

    /// Holds a session: a new one, or one that was given up.
    pub(crate) fn hold(&mut self, mut session: Session) {
        let id = session.creation.session_id;
        session.touched_at = self.at;
        session.hashed = Hashed::default();
        self.digests.touch(&mut session.hashed, || Key::Session(id));
        self.givable.sessions.insert((self.at, id));
        if !session.status.state.is_terminal() {
            self.live_sessions.insert(id);
            if let Some(parent) = session.creation.fields.parent_session_id {
                self.children.entry(parent).or_default().insert(id);
            }
        }
        self.sessions.insert(id, session);
    }

    /// A session is no live one any more, or not held.
    pub(crate) fn unlist(&mut self, id: SessionId, parent: Option<SessionId>) {
        self.live_sessions.remove(&id);
        let Some(parent) = parent else { return };
        if let Some(children) = self.children.get_mut(&parent) {
            children.remove(&id);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    pub(crate) fn evict(&mut self, number: u64, sessions: &[EvictedSession]) {
        self.forgotten.evictions = number;
        for evicted in sessions {
            let id = evicted.session_id;
            let Some(mut session) = self.sessions.remove(&id) else { continue };
            debug_assert!(!session.has_runs(), "{id} has a live run");
            self.digests.touch(&mut session.hashed, || Key::Session(id));
            self.givable.sessions.remove(&(session.touched_at, id));
            for taken in session.keys.values() {
                self.givable.keys.remove(&taken.number);
            }
            if !session.status.state.is_terminal() {
                self.forgotten.live_sessions += 1;
                self.unlist(id, session.creation.fields.parent_session_id);
            }
        }
    }

    pub(crate) fn load(&mut self, creation: &laneway_contract::SessionCreation, record: &EvictedSession) {
        let session = Session::loaded(creation.clone(), record);
        if !session.status.state.is_terminal() {
            self.forgotten.live_sessions -= 1;
        }
        self.hold(session);
    }

    pub(crate) fn drop_keys(&mut self, number: u64, before: u64) {
        self.forgotten.evictions = number;
        let kept = self.givable.keys.split_off(&before);
        let dropped = std::mem::replace(&mut self.givable.keys, kept);
        for (id, key) in dropped.into_values() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.keys.remove(&key);
            session.lost_keys = true;
            self.digests.touch(&mut session.hashed, || Key::Session(id));
        }
    }

    pub(crate) fn drop_runs(&mut self, before: u64) {
        // An ended run keeps no hash beside it: once all are in the sum, each is taken out again.
        self.digest();
        while let Some(id) = self.givable.runs.front().copied() {
            let Some(run) = self.ended.get(&id).filter(|run| run.number < before) else { return };
            self.forgotten.runs_until = Some(run.ended_at);
            let hash = self.hash_record(&Key::Run(id)).unwrap_or(0);
            self.digests.take_out(hash);
            self.givable.runs.pop_front();
            self.ended.remove(&id);
        }
    }
}

fn is_past(at: Timestamp, kept_ms: u64, now: Timestamp) -> bool {
    at.plus_millis(kept_ms as i64) <= now
}

/// How many of so many go in any case, the oldest first; none when nothing does. What is over the limit goes together
/// with an eighth of it, so that the next does not follow at once, but no more than one event takes at a time.
fn due(
    held: usize,
    limit: usize,
    at_a_time: usize,
    oldest: Option<Timestamp>,
    kept_ms: u64,
    now: Timestamp,
) -> Option<usize> {
    if held > limit {
        return Some(held - (limit - (limit / 8).min(at_a_time)));
    }
    oldest.filter(|at| is_past(at.plus_millis(TOGETHER_MS), kept_ms, now)).map(|_| 0)
}

impl Session {
    /// What is kept of it elsewhere, besides how it was made.
    pub(crate) fn evicted(&self) -> EvictedSession {
        EvictedSession {
            session_id: self.creation.session_id,
            fingerprint: self.fingerprint,
            root: self.root,
            status: self.status.clone(),
            paused: self.paused.clone(),
            ending: self.ending.clone(),
            tail: self.tail,
            last_message_at: self.last_message_at,
            took_keys: self.lost_keys || !self.keys.is_empty(),
            ever_claimed: self.ever_claimed,
            ever_queued: self.ever_queued,
            total_tokens: self.total_tokens,
            total_cost: self.total_cost,
            window_tokens: self.window_tokens,
            budget: self.budget.evicted(),
        }
    }

    /// A session as it was when it was given up.
    fn loaded(creation: laneway_contract::SessionCreation, record: &EvictedSession) -> Self {
        Self {
            status: record.status.clone(),
            paused: record.paused.clone(),
            ending: record.ending.clone(),
            tail: record.tail,
            last_message_at: record.last_message_at,
            lost_keys: record.took_keys,
            ever_claimed: record.ever_claimed,
            ever_queued: record.ever_queued,
            total_tokens: record.total_tokens,
            total_cost: record.total_cost,
            window_tokens: record.window_tokens,
            budget: Account::of_evicted(&record.budget),
            ..Self::new(creation, record.fingerprint, record.root)
        }
    }
}
