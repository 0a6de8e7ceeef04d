//! The keyspaces of the view.

use fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, Readable, Slice};

use super::{Reading, ViewError};

/// Memory that a keyspace gathers writes in, in bytes.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;

macro_rules! spaces {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A keyspace.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Space {
            $($(#[$doc])* $variant,)*
        }

        impl Space {
            /// Every keyspace, in the order of the variants.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name on disk.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

spaces! {
    /// Layout, positions and the hash key.
    Meta = "meta",
    /// `session_id` → `SessionCreation`.
    Sessions = "sessions",
    /// `session_id` → `SessionStatus`.
    Statuses = "statuses",
    /// `session_id` → whether it is paused, once somebody paused it.
    Pauses = "pauses",
    /// `session_id ++ seq` → `MessageRecord`.
    Messages = "messages",
    /// Hash → `Artifact`, its bytes apart from the keys.
    Artifacts = "artifacts",
    /// `session_id` → `EvictedSession` of a session that the leader does not hold.
    Evicted = "evicted",
    /// `session_id ++ key` → `KeyAnswer`.
    AppendKeys = "append_keys",
    /// `run_id` → the `Claim` of a run that has not ended.
    Attempts = "attempts",
    /// `run_id` → `RunRecord` of an ended run.
    Runs = "runs",
    /// `RunIndexKey ++ run_id` of ended runs.
    RunIndex = "run_index",
    /// `IndexKey ++ Moment` of sessions, and `LiveKey` of those that have not ended.
    SessionIndex = "session_index",
}

/// The open keyspaces.
pub(crate) struct Spaces(Vec<Keyspace>);

impl Spaces {
    pub(super) fn open(database: &Database) -> Result<Self, ViewError> {
        let open = |space: &Space| {
            database.keyspace(space.name(), || {
                let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
                match space {
                    Space::Artifacts => options.with_kv_separation(Some(KvSeparationOptions::default())),
                    Space::Meta
                    | Space::Sessions
                    | Space::Statuses
                    | Space::Pauses
                    | Space::Messages
                    | Space::Evicted
                    | Space::AppendKeys
                    | Space::Attempts
                    | Space::Runs
                    | Space::RunIndex
                    | Space::SessionIndex => options,
                }
            })
        };
        Ok(Self(Space::ALL.iter().map(open).collect::<Result<_, _>>()?))
    }

    pub(crate) fn get(&self, space: Space) -> &Keyspace {
        &self.0[space as usize]
    }
}

impl Reading {
    fn keyspace(&self, space: Space) -> &Keyspace {
        self.view.inner.spaces.get(space)
    }

    /// The value under a key.
    pub(crate) fn value(&self, space: Space, key: impl AsRef<[u8]>) -> Result<Option<Slice>, ViewError> {
        Ok(self.snapshot.get(self.keyspace(space), key)?)
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, space: Space, key: impl AsRef<[u8]>) -> Result<bool, ViewError> {
        Ok(self.snapshot.contains_key(self.keyspace(space), key)?)
    }

    /// The entries from `first` to `last`, both included.
    pub(crate) fn range(&self, space: Space, first: Vec<u8>, last: Vec<u8>) -> Iter {
        self.snapshot.range(self.keyspace(space), first..=last)
    }

    /// Every entry, in the order of the keys.
    pub(crate) fn all(&self, space: Space) -> Iter {
        self.snapshot.iter(self.keyspace(space))
    }
}
