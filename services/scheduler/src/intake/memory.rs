//! What the intake knows of messages that are not done: within one epoch, and of a bounded number.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::doubled;

/// Messages of which something is known at a time. Of others it begins anew.
const MAX_KNOWN: usize = 4_096;

/// By sequence in the stream.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    in_hand: BTreeSet<u64>,
    /// Delivered since the last sweep, and not done.
    seen: BTreeSet<u64>,
    known: BTreeMap<u64, Known>,
    /// The longest time after which something that was delivered since the last sweep comes again.
    longest_wait: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// How often it met a fault of ours.
    faults: u32,
    /// How often its letter was not kept.
    failures: u32,
    /// The frame that has its body.
    body_at: Option<u64>,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is being decided; none when it is already.
    pub(super) fn take(&self, stream_seq: u64) -> Option<InHand<'_>> {
        let mut inner = self.inner();
        inner.seen.insert(stream_seq);
        inner.in_hand.insert(stream_seq).then(|| InHand { memory: self, stream_seq })
    }

    /// Whether it is being decided.
    pub(super) fn is_in_hand(&self, stream_seq: u64) -> bool {
        self.inner().in_hand.contains(&stream_seq)
    }

    /// What was delivered since this was asked last, or is in hand.
    pub(super) fn seen(&self) -> BTreeSet<u64> {
        let mut inner = self.inner();
        let seen = std::mem::take(&mut inner.seen);
        &seen | &inner.in_hand
    }

    /// A message comes again after this time.
    pub(super) fn put_off(&self, after: Duration) {
        let mut inner = self.inner();
        inner.longest_wait = inner.longest_wait.max(after);
    }

    /// The longest such time since this was asked last.
    pub(super) fn longest_wait(&self) -> Duration {
        std::mem::take(&mut self.inner().longest_wait)
    }

    /// The frame that has the body of a message.
    pub(super) fn body_at(&self, stream_seq: u64) -> Option<u64> {
        self.inner().known.get(&stream_seq)?.body_at
    }

    /// The body of a message is in the journal.
    pub(super) fn put(&self, stream_seq: u64, journal_seq: u64) {
        self.change(stream_seq, |known| known.body_at = Some(journal_seq));
    }

    /// It does not come again.
    pub(super) fn forget(&self, stream_seq: u64) {
        let mut inner = self.inner();
        inner.known.remove(&stream_seq);
        inner.seen.remove(&stream_seq);
    }

    fn change<R>(&self, stream_seq: u64, change: impl FnOnce(&mut Known) -> R) -> R {
        let mut inner = self.inner();
        let is_full = inner.known.len() >= MAX_KNOWN;
        match inner.known.entry(stream_seq) {
            Entry::Occupied(known) => change(known.into_mut()),
            Entry::Vacant(new) => {
                let known = change(new.insert(Known::default()));
                if is_full {
                    inner.known.pop_first();
                }
                known
            }
        }
    }
}

/// A message that is being decided, as long as this lives.
pub(super) struct InHand<'a> {
    memory: &'a Memory,
    stream_seq: u64,
}

impl InHand<'_> {
    /// It met a fault of ours. How often it has.
    pub(super) fn fault(&self) -> u32 {
        self.memory.change(self.stream_seq, |known| {
            known.faults += 1;
            known.faults
        })
    }

    /// Its letter was not kept. How long to wait.
    pub(super) fn back_off(&self) -> Duration {
        self.memory.change(self.stream_seq, |known| {
            let wait = doubled(known.failures.into());
            known.failures = known.failures.saturating_add(1);
            wait
        })
    }

    /// It does not come again.
    pub(super) fn forget(&self) {
        self.memory.forget(self.stream_seq);
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.memory.inner().in_hand.remove(&self.stream_seq);
    }
}

#[cfg(test)]
mod tests;
