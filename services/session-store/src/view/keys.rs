//! Keys, all big-endian, so that their order on disk is the order of reading.

use laneway_contract::{JobState, RunId, SessionId, SessionState, Timestamp};
use laneway_journal::{FrameHash, Position};
use uuid::Uuid;

use super::ViewError;

pub(super) const LAYOUT: &[u8] = b"layout";
pub(super) const APPLIED: &[u8] = b"applied";
pub(super) const SYNCED: &[u8] = b"synced";
pub(super) const HASH_KEY: &[u8] = b"hash_key";
pub(super) const EVICTIONS: &[u8] = b"evictions";

/// Bytes of a [`Moment`].
pub(crate) const MOMENT_BYTES: usize = 24;

pub(super) fn position(position: Position) -> [u8; 40] {
    let mut value = [0; 40];
    value[..8].copy_from_slice(&position.number.to_be_bytes());
    value[8..].copy_from_slice(position.hash.as_bytes());
    value
}

pub(super) fn read_position(value: &[u8]) -> Result<Position, ViewError> {
    let unreadable = || ViewError::Unreadable { space: "meta", reason: "a position has 40 bytes".to_owned() };
    let (number, hash) = value.split_first_chunk::<8>().ok_or_else(unreadable)?;
    let hash = <[u8; 32]>::try_from(hash).map_err(|_| unreadable())?;
    Ok(Position { number: u64::from_be_bytes(*number), hash: FrameHash::from_bytes(hash) })
}

/// `session_id ++ seq`.
pub(crate) fn message_key(session: SessionId, seq: u64) -> Vec<u8> {
    pair_key(session, &seq.to_be_bytes())
}

/// `session_id ++ rest`.
pub(crate) fn pair_key(session: SessionId, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + rest.len());
    key.extend_from_slice(session.uuid().as_bytes());
    key.extend_from_slice(rest);
    key
}

pub(crate) fn run_key(run: RunId) -> Vec<u8> {
    run.uuid().as_bytes().to_vec()
}

pub(crate) fn session_key(session: SessionId) -> Vec<u8> {
    session.uuid().as_bytes().to_vec()
}

/// Where a session stands in every list: oldest first, and by id among those of one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment([u8; MOMENT_BYTES]);

impl Moment {
    pub(crate) const FIRST: Self = Self([0; MOMENT_BYTES]);
    pub(crate) const LAST: Self = Self([0xff; MOMENT_BYTES]);

    pub(crate) fn new(created_at: Timestamp, session: SessionId) -> Self {
        let mut moment = [0; MOMENT_BYTES];
        // The sign bit is turned over, so that times before 1970 come first.
        let millis = (created_at.millis() as u64) ^ (1 << 63);
        moment[..8].copy_from_slice(&millis.to_be_bytes());
        moment[8..].copy_from_slice(session.uuid().as_bytes());
        Self(moment)
    }

    pub(crate) const fn from_bytes(bytes: [u8; MOMENT_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; MOMENT_BYTES] {
        &self.0
    }

    /// The moment at the end of an index key.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        key.last_chunk().copied().map(Self)
    }

    pub(crate) fn session(&self) -> SessionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[8..]);
        SessionId::from_uuid(Uuid::from_bytes(id))
    }
}

/// What sessions are listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexKey<'a> {
    All,
    State(SessionState),
    WorkPacket(&'a str),
    Role(&'a str),
    Label(&'a str, &'a str),
}

impl IndexKey<'_> {
    /// The key of one session under this. Lengths stand before texts, so that no value runs into another.
    pub(crate) fn at(&self, moment: Moment) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        let (tag, texts) = match self {
            Self::All => (0, ["", ""]),
            Self::State(state) => (1, [state.as_str(), ""]),
            Self::WorkPacket(id) => (2, [*id, ""]),
            Self::Role(role) => (3, [*role, ""]),
            Self::Label(name, value) => (4, [*name, *value]),
        };
        key.push(tag);
        for text in texts {
            key.extend_from_slice(&(text.len() as u32).to_be_bytes());
            key.extend_from_slice(text.as_bytes());
        }
        key.extend_from_slice(moment.as_bytes());
        key
    }
}

/// What sessions that have not ended are listed by, in the order of their ids. Tags follow those of [`IndexKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveKey {
    All,
    ChildrenOf(SessionId),
}

impl LiveKey {
    /// The key of the session with these 16 bytes under this.
    pub(crate) fn at(self, session: [u8; 16]) -> Vec<u8> {
        let (tag, parent) = match self {
            Self::All => (5, None),
            Self::ChildrenOf(parent) => (6, Some(parent)),
        };
        let mut key = vec![tag];
        key.extend(parent.iter().flat_map(|parent| *parent.uuid().as_bytes()));
        key.extend_from_slice(&session);
        key
    }

    /// The session at the end of a key.
    pub(crate) fn session(key: &[u8]) -> Option<SessionId> {
        key.last_chunk().map(|id| SessionId::from_uuid(Uuid::from_bytes(*id)))
    }
}

/// What ended runs are listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunIndexKey {
    Session(SessionId),
    State(JobState),
    SessionAndState(SessionId, JobState),
}

impl RunIndexKey {
    /// The key of the run with these 16 bytes under this.
    pub(crate) fn at(self, run: [u8; 16]) -> Vec<u8> {
        let (tag, session, state) = match self {
            Self::Session(session) => (0, Some(session), None),
            Self::State(state) => (1, None, Some(state)),
            Self::SessionAndState(session, state) => (2, Some(session), Some(state)),
        };
        let mut key = vec![tag];
        key.extend(session.iter().flat_map(|session| *session.uuid().as_bytes()));
        // No state's word holds a zero, so none runs into the id behind it.
        key.extend_from_slice(state.map_or("", JobState::as_str).as_bytes());
        key.push(0);
        key.extend_from_slice(&run);
        key
    }
}
