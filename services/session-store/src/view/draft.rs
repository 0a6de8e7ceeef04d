//! Events become entries. Every entry is absolute: written twice, or over a later one that is written again, it ends
//! as it should.

use std::collections::HashMap;

use fjall::OwnedWriteBatch;
use laneway_contract::{Event, HashKey, KeyAnswer, RunRecord, SessionCreation, SessionId, SessionState, SessionStatus};
use serde::Serialize;

use super::keys::{self, IndexKey, LiveKey, Moment, RunIndexKey};
use super::record::{Claim, decode, encode};
use super::{Space, Spaces, ViewError};

/// The entries of the frames of one batch. A later entry under a key replaces an earlier one: inside a batch of the
/// database all entries have one age, so a key may stand there only once.
pub(super) struct Draft<'a> {
    spaces: &'a Spaces,
    entries: HashMap<(Space, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
    hash_key: Option<HashKey>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(spaces: &'a Spaces) -> Self {
        Self { spaces, entries: HashMap::new(), bytes: 0, hash_key: None }
    }

    /// Bytes of all entries.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The hash key, when these frames made it.
    pub(super) fn hash_key(&self) -> Option<HashKey> {
        self.hash_key.clone()
    }

    pub(super) fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.entries.insert((space, key), Some(value));
    }

    fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.bytes += key.len();
        self.entries.insert((space, key), None);
    }

    fn put_record<T: Serialize>(&mut self, space: Space, key: Vec<u8>, record: &T) -> Result<(), ViewError> {
        let value = encode(space, record)?;
        self.put(space, key, value);
        Ok(())
    }

    /// Puts the entries into a batch of the database.
    pub(super) fn write(self, mut batch: OwnedWriteBatch) -> OwnedWriteBatch {
        for ((space, key), value) in self.entries {
            match value {
                Some(value) => batch.insert(self.spaces.get(space), key, value),
                None => batch.remove(self.spaces.get(space), key),
            }
        }
        batch
    }

    /// Takes in one event of frame number `frame`.
    pub(super) fn event(&mut self, frame: u64, event: &Event) -> Result<(), ViewError> {
        match event {
            Event::HashKeyCreated { key } => {
                self.put_record(Space::Meta, keys::HASH_KEY.to_vec(), key)?;
                self.hash_key = Some(key.clone());
                Ok(())
            }
            Event::ArtifactStored(artifact) => {
                self.put_record(Space::Artifacts, artifact.id.as_bytes().to_vec(), artifact)
            }
            Event::SessionCreated { session, .. } => self.session_created(session),
            Event::SessionStateChanged { session_id, from, status, .. } => {
                self.state_changed(frame, *session_id, *from, status)
            }
            Event::SessionsEvicted { number, sessions } => {
                self.put_record(Space::Meta, keys::EVICTIONS.to_vec(), number)?;
                sessions.iter().try_for_each(|evicted| {
                    self.put_record(Space::Evicted, keys::session_key(evicted.session_id), evicted)
                })
            }
            Event::KeysEvicted { number, .. } => self.put_record(Space::Meta, keys::EVICTIONS.to_vec(), number),
            Event::SessionLoaded { session, .. } => {
                self.remove(Space::Evicted, keys::session_key(session.session_id));
                Ok(())
            }
            // Totals only: it is listed as before.
            Event::SessionTouched { session_id, status } => {
                self.put_record(Space::Statuses, keys::session_key(*session_id), status)
            }
            Event::SessionPauseSet { session_id, paused, .. } => {
                self.put_record(Space::Pauses, keys::session_key(*session_id), paused)
            }
            Event::MessageAppended(message) => {
                self.put_record(Space::Messages, keys::message_key(message.session_id, message.seq), message)
            }
            Event::AppendKeyTaken { session_id, key, fingerprint, first_seq, last_seq } => {
                let taken = KeyAnswer { fingerprint: *fingerprint, first_seq: *first_seq, last_seq: *last_seq };
                self.put_record(Space::AppendKeys, keys::pair_key(*session_id, key.as_bytes()), &taken)
            }
            Event::RunClaimed { run_id, session_id, attempt, epoch, upto_seq, .. } => {
                let claim = Claim { session_id: *session_id, attempt: *attempt, epoch: *epoch, upto_seq: *upto_seq };
                self.put_record(Space::Attempts, keys::run_key(*run_id), &claim)
            }
            Event::RunSettled { run, .. } => self.run_settled(run),
            // Nothing that anybody asks a store for: the live side of runs and sessions is the leader's.
            Event::LimitsChanged { .. }
            | Event::LimitsConfigured { .. }
            | Event::BudgetSet { .. }
            | Event::BudgetWarned { .. }
            | Event::CoolDownChanged { .. }
            | Event::StateDigest { .. }
            | Event::IncidentNoted(_)
            | Event::RunsForgotten { .. }
            | Event::SnapshotTaken(_)
            | Event::SessionEndRequested { .. }
            | Event::RunQueued { .. }
            | Event::RunDispatched { .. }
            | Event::RunReturned { .. }
            | Event::RunStopRequested { .. }
            | Event::ReportTaken { .. }
            | Event::LeaseExpired { .. }
            | Event::LateAnswerTaken { .. }
            | Event::RunRateLimited { .. }
            | Event::RunRetryScheduled { .. }
            | Event::RunStalled { .. }
            | Event::RunParked { .. }
            | Event::RunDecided { .. } => Ok(()),
        }
    }

    fn session_created(&mut self, session: &SessionCreation) -> Result<(), ViewError> {
        let moment = Moment::new(session.created_at, session.session_id);
        let fields = &session.fields;
        let mut index = vec![IndexKey::All, IndexKey::State(SessionState::Created), IndexKey::Role(&fields.role)];
        index.extend(fields.wp_id.as_deref().map(IndexKey::WorkPacket));
        index.extend(fields.labels.iter().map(|(name, value)| IndexKey::Label(name, value)));
        for key in index {
            self.put(Space::SessionIndex, key.at(moment), Vec::new());
        }
        for key in live_keys(session) {
            self.put(Space::SessionIndex, key, Vec::new());
        }
        self.put_record(Space::Sessions, keys::session_key(session.session_id), session)
    }

    /// Takes the session out of the list of the state before. The chain of states is whole from the synced position on,
    /// so whatever a later batch had left in the index is put right by the change that wrote it, when it comes again.
    fn state_changed(
        &mut self,
        frame: u64,
        session: SessionId,
        from: SessionState,
        status: &SessionStatus,
    ) -> Result<(), ViewError> {
        let creation = self.creation(session)?.ok_or(ViewError::Orphan { frame, what: "session" })?;
        let moment = Moment::new(creation.created_at, session);
        self.remove(Space::SessionIndex, IndexKey::State(from).at(moment));
        self.put(Space::SessionIndex, IndexKey::State(status.state).at(moment), Vec::new());
        if status.state.is_terminal() {
            for key in live_keys(&creation) {
                self.remove(Space::SessionIndex, key);
            }
        }
        self.put_record(Space::Statuses, keys::session_key(session), status)
    }

    /// Reads what never changes once it is there.
    fn creation(&self, session: SessionId) -> Result<Option<SessionCreation>, ViewError> {
        let key = (Space::Sessions, keys::session_key(session));
        if let Some(Some(value)) = self.entries.get(&key) {
            return decode(Space::Sessions, value).map(Some);
        }
        let value = self.spaces.get(Space::Sessions).get(&key.1)?;
        value.map(|value| decode(Space::Sessions, &value)).transpose()
    }

    fn run_settled(&mut self, run: &RunRecord) -> Result<(), ViewError> {
        let id = *run.run_id.uuid().as_bytes();
        self.remove(Space::Attempts, keys::run_key(run.run_id));
        let (session, state) = (run.session_id, run.status.state);
        let index =
            [RunIndexKey::Session(session), RunIndexKey::State(state), RunIndexKey::SessionAndState(session, state)];
        for key in index {
            self.put(Space::RunIndex, key.at(id), Vec::new());
        }
        self.put_record(Space::Runs, keys::run_key(run.run_id), run)
    }
}

/// The entries of a session that has not ended.
fn live_keys(session: &SessionCreation) -> impl Iterator<Item = Vec<u8>> {
    let id = *session.session_id.uuid().as_bytes();
    let under = session.fields.parent_session_id.map(LiveKey::ChildrenOf);
    [Some(LiveKey::All), under].into_iter().flatten().map(move |key| key.at(id))
}
