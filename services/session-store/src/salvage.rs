//! What a view still holds of a journal that was damaged, as events that can be journaled again.
//!
//! The frames that the journal has kept are folded into a second view. Whatever the first holds beyond that becomes
//! events; they are folded into the second view, too, which then has to hold the same. So nothing is written into a journal
//! that was not seen to give what it is to give back.
//!
//! After a power loss the tables of a view may stand at different frames, and its position at another: what an entry names
//! in another table may be missing there. Such entries are left out, and named.

mod live;
mod news;
mod threads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use laneway_contract::{Event, RunId, SessionId, Timestamp};
use laneway_journal::{Committed, Position};

use crate::view::{Space, View, ViewError, Writer};
use live::Live;
use news::News;

/// Why nothing can be salvaged from a view.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// A view cannot be read or written.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The view was made from another journal.
    #[error("the store was not made from this journal: its {space} differ from what frames of the journal say")]
    OtherJournal {
        /// The keyspace in which it differs.
        space: &'static str,
    },
    /// What was found does not fold into what the view holds: an error of this program.
    #[error("the events of the salvage do not give back what the store holds in {space}: nothing was written")]
    Unfaithful {
        /// The keyspace in which it differs.
        space: &'static str,
    },
}

/// Where a view stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The last frame that it has applied.
    pub applied: Position,
    /// The last of them that was surely on disk.
    pub synced: Position,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Salvaged {
    /// What is to be journaled, in this order.
    pub events: Vec<Event>,
    /// Sessions that come back.
    pub sessions: u64,
    /// Messages that come back.
    pub messages: u64,
    /// Artifacts that come back.
    pub artifacts: u64,
    /// Keys of appends that come back.
    pub append_keys: u64,
    /// Ended runs that come back.
    pub runs: u64,
    /// Runs that the journal has, and of whose claim behind the cut nothing but the claim is known: they go on as if their
    /// worker had been lost.
    pub resumed: Vec<RunId>,
    /// Runs of which only the claim, or messages, are known: they do not come back.
    pub lost: BTreeSet<RunId>,
    /// Those of them whose input is in the thread that comes back: with it once more, it would be there twice.
    pub with_input: BTreeSet<RunId>,
    /// Threads of which a message, its content or its run is missing, with the first: from there on nothing comes back.
    pub broken: Vec<(SessionId, u64)>,
    /// Sessions that are named and not held: nothing of them comes back.
    pub without_session: BTreeSet<SessionId>,
    /// Ended runs of such sessions: they do not come back.
    pub left_runs: BTreeSet<RunId>,
    /// Keys of appends whose messages do not come back, with their sessions: they do not, either.
    pub left_keys: BTreeSet<(SessionId, String)>,
}

/// A view that is left, and what the journal has kept.
pub struct Salvage {
    held: View,
    at: Held,
    kept: Writer,
    live: Live,
}

/// Where the view in a store's folder stands. The store must not run; its folder is opened as its own start does.
pub fn look(folder: &Path) -> Result<Held, ViewError> {
    let (view, synced) = View::open_as_left(folder)?;
    Ok(Held { applied: view.applied(), synced })
}

impl Salvage {
    /// Opens the view in a store's folder. `scratch` is an empty folder, for a view of what the journal has kept.
    pub fn open(folder: &Path, scratch: &Path) -> Result<Self, ViewError> {
        let (held, synced) = View::open_as_left(folder)?;
        let (_, kept) = View::open(scratch)?;
        let at = Held { applied: held.applied(), synced };
        Ok(Self { held, at, kept, live: Live::default() })
    }

    /// Where the view stands.
    #[must_use]
    pub fn held(&self) -> Held {
        self.at
    }

    /// Takes the next frames that the journal has kept, from its first.
    pub fn keep(&mut self, frames: &[Committed<Event>]) -> Result<(), ViewError> {
        for committed in frames {
            self.live.fold(&committed.frame);
        }
        self.kept.apply(frames)
    }

    /// Whatever the view holds beyond the frames that were kept, as events that are decided at `now`.
    pub fn find(mut self, now: Timestamp) -> Result<Salvaged, SalvageError> {
        // Also of a view that says that it is behind: its tables may be ahead of what it says.
        let is_ahead = self.at.applied.number > self.kept.view().applied().number;
        let (held, before) = (self.held.read()?, self.kept.view().read()?);
        if let (Some(held), Some(kept)) = (self.held.hash_key(), self.kept.view().hash_key())
            && held != kept
        {
            return Err(SalvageError::OtherJournal { space: "meta" });
        }
        let hash_key = match self.kept.view().hash_key() {
            Some(_) => None,
            None => self.held.hash_key().cloned(),
        };
        let news = News::between(&held, &before, is_ahead)?;
        let found = news.into_events(hash_key, self.live, now);
        self.kept.rehearse(&found.events)?;
        let after = self.kept.view().read()?;
        for space in [Space::Sessions, Space::Artifacts, Space::Messages, Space::AppendKeys, Space::Runs] {
            for entry in held.all(space) {
                let (key, value) = entry.into_inner().map_err(ViewError::from)?;
                let is_same = after.value(space, &key)?.as_deref() == Some(&*value);
                if !is_same && !found.leaves_out(space, &key) {
                    return Err(SalvageError::Unfaithful { space: space.name() });
                }
            }
        }
        Ok(found)
    }
}

impl Salvaged {
    /// Whether an entry does not come back, because something that it names is missing.
    fn leaves_out(&self, space: Space, key: &[u8]) -> bool {
        match space {
            Space::Messages => {
                let is_of = |session: &SessionId| key.starts_with(session.uuid().as_bytes());
                let is_behind = |first: u64| key.get(16..) >= Some(&first.to_be_bytes());
                self.broken.iter().any(|(session, first)| is_of(session) && is_behind(*first))
                    || self.without_session.iter().any(is_of)
            }
            Space::Runs => self.left_runs.iter().any(|run| key == run.uuid().as_bytes()),
            Space::AppendKeys => {
                self.left_keys.iter().any(|(session, name)| key == crate::view::pair_key(*session, name.as_bytes()))
            }
            Space::Meta
            | Space::Sessions
            | Space::Statuses
            | Space::Pauses
            | Space::Artifacts
            | Space::Evicted
            | Space::Attempts
            | Space::RunIndex
            | Space::SessionIndex => false,
        }
    }
}
