//! The view: what the journal says, laid out for reading.
//!
//! Invariant: the position is in the same batch as the events it covers, and every value is absolute, so that a replay
//! from an older position ends in the same bytes (`tests::a_replay_from_the_synced_position_ends_in_the_same_view`).

mod draft;
mod keys;
mod record;
mod space;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fjall::{Database, Keyspace, PersistMode, Snapshot};
use laneway_contract::{Event, HashKey};
use laneway_journal::{Body, Committed, Position};
use tokio::sync::watch;

use draft::Draft;
pub(crate) use keys::{
    IndexKey, LiveKey, MOMENT_BYTES, Moment, RunIndexKey, message_key, pair_key, run_key, session_key,
};
pub(crate) use record::{Claim, decode};
pub(crate) use space::{Space, Spaces};

/// The layout of the view on disk. Another layout is another number; a view is rebuilt, never converted.
const LAYOUT: u8 = 3;
/// A batch takes no further frame when it holds this many bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Memory for blocks that were read, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Why a view cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The database failed.
    #[error("storage: {0}")]
    Storage(#[from] fjall::Error),
    /// Another process has it open.
    #[error("in_use: {} is open in another process", .0.display())]
    InUse(PathBuf),
    /// There is no view in the folder.
    #[error("no_view: {} holds no view of a session store", .0.display())]
    NoView(PathBuf),
    /// What is on disk is not what was written, as after a power loss that kept later writes and lost earlier ones.
    #[error("damaged: {} cannot be opened: {source}: keep it until `laneway journal check` finds the journal right; then remove it, and it is rebuilt from the journal", .path.display())]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What the database found.
        source: fjall::Error,
    },
    /// It was written by a version with another layout.
    #[error("other_layout: {} has layout {found}, this program has {LAYOUT}: keep it until `laneway journal check` finds the journal right; then remove it, and it is rebuilt from the journal", .path.display())]
    OtherLayout {
        /// Where it is.
        path: PathBuf,
        /// Its layout.
        found: u8,
    },
    /// A value cannot be read back.
    #[error("unreadable: a value of {space} cannot be decoded: {reason}")]
    Unreadable {
        /// The keyspace.
        space: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A value cannot be written.
    #[error("unwritable: a value of {space} cannot be encoded: {reason}")]
    Unwritable {
        /// The keyspace.
        space: &'static str,
        /// What the encoder said.
        reason: String,
    },
    /// A frame does not follow the one that was applied last.
    #[error("gap: frame {found} was handed over where frame {expected} and its predecessor's hash belong")]
    Gap {
        /// The number that belongs here.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An event names something that no event before it made.
    #[error("orphan: an event in frame {frame} names a {what} that was never made")]
    Orphan {
        /// The frame.
        frame: u64,
        /// What is missing.
        what: &'static str,
    },
}

/// A view for readers. Cheap to clone.
#[derive(Clone)]
pub struct View {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    spaces: Spaces,
    hash_key: OnceLock<HashKey>,
    applied: watch::Sender<Position>,
}

/// The one writer of a view.
pub struct Writer {
    view: View,
    synced: Position,
}

/// Everything at one position: no read of it sees a frame half applied.
pub(crate) struct Reading {
    pub(crate) view: View,
    pub(crate) snapshot: Snapshot,
    pub(crate) position: Position,
}

impl View {
    /// Opens the view in the folder `path`, or makes an empty one, at the position up to which it is surely on disk.
    pub fn open(path: &Path) -> Result<(Self, Writer), ViewError> {
        let (database, spaces) = Self::database(path)?;
        let meta = spaces.get(Space::Meta);
        if !Self::has_layout(meta, path)? {
            meta.insert(keys::LAYOUT, [LAYOUT])?;
        }
        // IMPORTANT: not the applied position. After a power loss the keyspaces may stand at different batches, because
        // the database syncs its tables before its log; up to here all of them are complete.
        let synced = meta.get(keys::SYNCED)?.map_or(Ok(Position::START), |value| keys::read_position(&value))?;
        meta.insert(keys::APPLIED, keys::position(synced))?;
        let view = Self::at(database, spaces, synced)?;
        Ok((view.clone(), Writer { view, synced }))
    }

    /// Opens a view as it was left, with the position up to which it is surely on disk. Writes nothing of its own into it,
    /// and makes none.
    pub(crate) fn open_as_left(path: &Path) -> Result<(Self, Position), ViewError> {
        // The database would make itself where there is none.
        if !std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(ViewError::NoView(path.to_owned()));
        }
        let (database, spaces) = Self::database(path)?;
        let meta = spaces.get(Space::Meta);
        if !Self::has_layout(meta, path)? {
            return Err(ViewError::NoView(path.to_owned()));
        }
        let position = |key: &[u8]| -> Result<Position, ViewError> {
            meta.get(key)?.map_or(Ok(Position::START), |value| keys::read_position(&value))
        };
        let (applied, synced) = (position(keys::APPLIED)?, position(keys::SYNCED)?);
        Ok((Self::at(database, spaces, applied)?, synced))
    }

    fn database(path: &Path) -> Result<(Database, Spaces), ViewError> {
        let opened = Database::builder(path).cache_size(CACHE_BYTES).open();
        let database = opened.map_err(|error| cannot_open(path, error))?;
        let spaces = Spaces::open(&database)?;
        Ok((database, spaces))
    }

    /// Whether it is a view with this layout; false of a new one.
    fn has_layout(meta: &Keyspace, path: &Path) -> Result<bool, ViewError> {
        match meta.get(keys::LAYOUT)?.as_deref() {
            None => Ok(false),
            Some([LAYOUT]) => Ok(true),
            Some(found) => {
                let found = found.first().copied().unwrap_or(0);
                Err(ViewError::OtherLayout { path: path.to_owned(), found })
            }
        }
    }

    fn at(database: Database, spaces: Spaces, applied: Position) -> Result<Self, ViewError> {
        let hash_key = OnceLock::new();
        if let Some(key) = spaces.get(Space::Meta).get(keys::HASH_KEY)? {
            let key: HashKey = decode(Space::Meta, &key)?;
            hash_key.get_or_init(|| key);
        }
        let inner = Inner { database, spaces, hash_key, applied: watch::Sender::new(applied) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The last frame that readers see.
    #[must_use]
    pub fn applied(&self) -> Position {
        *self.inner.applied.borrow()
    }

    /// Tells of every change of [`View::applied`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Position> {
        self.inner.applied.subscribe()
    }

    /// The deployment's hash key, once the frame that made it is applied.
    pub(crate) fn hash_key(&self) -> Option<&HashKey> {
        self.inner.hash_key.get()
    }

    /// Hands every entry but the positions to `visit`, as keyspace, key and value, in order: two replicas at the same
    /// position show the same.
    pub fn dump(&self, mut visit: impl FnMut(&'static str, &[u8], &[u8])) -> Result<(), ViewError> {
        let reading = self.read()?;
        for space in Space::ALL.iter().filter(|space| **space != Space::Meta) {
            for entry in reading.all(*space) {
                let (key, value) = entry.into_inner()?;
                visit(space.name(), &key, &value);
            }
        }
        Ok(())
    }

    /// Takes an entry away, as a power loss that has kept other tables.
    #[cfg(test)]
    pub(crate) fn lose(&self, space: Space, key: &[u8]) {
        assert!(self.inner.spaces.get(space).remove(key).is_ok());
    }

    /// A consistent state to read from. Keep it for one request only: it keeps old values from being dropped.
    pub(crate) fn read(&self) -> Result<Reading, ViewError> {
        let snapshot = self.inner.database.snapshot();
        let meta = self.inner.spaces.get(Space::Meta);
        let position = fjall::Readable::get(&snapshot, meta, keys::APPLIED)?
            .map_or(Ok(Position::START), |value| keys::read_position(&value))?;
        Ok(Reading { view: self.clone(), snapshot, position })
    }
}

impl Reading {
    /// Evictions that are applied.
    pub(crate) fn evictions(&self) -> Result<u64, ViewError> {
        let value = self.value(Space::Meta, keys::EVICTIONS)?;
        value.map_or(Ok(0), |value| decode(Space::Meta, &value))
    }
}

fn cannot_open(path: &Path, error: fjall::Error) -> ViewError {
    let path = path.to_owned();
    if matches!(error, fjall::Error::Locked) {
        ViewError::InUse(path)
    } else if matches!(error, fjall::Error::Io(_)) {
        error.into()
    } else {
        ViewError::Damaged { path, source: error }
    }
}

impl Writer {
    /// Applies frames that follow the applied position. On an error nothing of the failing batch is applied.
    pub fn apply(&mut self, frames: &[Committed<Event>]) -> Result<(), ViewError> {
        let mut draft = Draft::new(&self.view.inner.spaces);
        let mut position = self.view.applied();
        for committed in frames {
            let expected = position.number + 1;
            let frame = &committed.frame;
            if committed.position.number != expected || frame.number != expected || frame.prev != position.hash {
                return Err(ViewError::Gap { expected, found: committed.position.number });
            }
            match &frame.body {
                Body::Started { .. } | Body::Stopped | Body::FormatRaised { .. } => {}
                Body::Turns(turns) => {
                    for event in turns.iter().flat_map(|turn| &turn.events) {
                        draft.event(expected, event)?;
                    }
                }
            }
            position = committed.position;
            if draft.bytes() > BATCH_BYTES {
                let full = std::mem::replace(&mut draft, Draft::new(&self.view.inner.spaces));
                self.commit(full, position)?;
            }
        }
        self.commit(draft, position)
    }

    /// Applies events as if the frame behind the applied position held them: to see what would come of them.
    pub(crate) fn rehearse(&mut self, events: &[Event]) -> Result<(), ViewError> {
        let number = self.view.applied().number + 1;
        let mut draft = Draft::new(&self.view.inner.spaces);
        for event in events {
            draft.event(number, event)?;
        }
        self.commit(draft, Position { number, ..Position::START })
    }

    fn commit(&self, mut draft: Draft<'_>, position: Position) -> Result<(), ViewError> {
        let inner = &self.view.inner;
        if position == self.view.applied() {
            return Ok(());
        }
        draft.put(Space::Meta, keys::APPLIED.to_vec(), keys::position(position).to_vec());
        let hash_key = draft.hash_key();
        draft.write(inner.database.batch()).commit()?;
        if let Some(key) = hash_key {
            inner.hash_key.get_or_init(|| key);
        }
        inner.applied.send_replace(position);
        Ok(())
    }

    /// Makes everything applied so far survive a power loss, and remembers that it does.
    pub fn sync(&mut self) -> Result<Position, ViewError> {
        let applied = self.view.applied();
        if applied != self.synced {
            let inner = &self.view.inner;
            inner.database.persist(PersistMode::SyncAll)?;
            // IMPORTANT: only after the persist; this write itself is covered by the next one.
            inner.spaces.get(Space::Meta).insert(keys::SYNCED, keys::position(applied))?;
            self.synced = applied;
        }
        Ok(applied)
    }

    /// Says of the view that it is at an earlier position, as a power loss that has kept later tables.
    #[cfg(test)]
    pub(crate) fn goes_back(&mut self, position: Position) {
        assert!(self.view.inner.spaces.get(Space::Meta).insert(keys::APPLIED, keys::position(position)).is_ok());
        self.view.inner.applied.send_replace(position);
        self.synced = position;
    }

    /// The readers' side.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }
}
