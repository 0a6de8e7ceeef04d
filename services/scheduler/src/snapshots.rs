//! Snapshots: a fold of committed frames that the leader's process begins from the newest snapshot, writes, reads back
//! and drops. Never the memory that decides: what that holds may not be in the journal yet.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use laneway_bus::Bus;
use laneway_contract::{Event, SnapshotHash, SnapshotName, SnapshotTaken, SnapshotView, Stream, Timestamp};
use laneway_engine::State;
use laneway_journal::snapshot::{ObjectError, SnapshotHead, SnapshotWriter};
use laneway_journal::{Committed, Fault, Follower, Position, Snapshots};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use uuid::Uuid;

use crate::start::{self, Start};
use crate::{SchedulerError, SnapshotSchedule, fold};

/// Frames that are folded in one go.
const FRAMES_AT_A_TIME: usize = 64;
/// Messages that wait to be stored.
const CHUNKS_AHEAD: usize = 4;
/// How long to wait after one that failed.
const RETRY: Duration = Duration::from_mins(1);
/// The wait is doubled with each further failure, so often at most.
const MAX_DOUBLINGS: u32 = 6;
/// After the longest time one is only taken when at least this part of the bytes was written: an idle deployment takes none.
const IDLE_PART: u64 = 64;

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Frames cannot be followed from where the last one is.
    #[error("the journal cannot be folded: {0}")]
    Journal(Fault),
    /// The fold differs from what the leader had.
    #[error("the fold differs from its leader's at frame {number}")]
    Diverged {
        /// The frame.
        number: u64,
    },
    /// It was not stored, or what was read back is not what was written.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// It was not written.
    #[error("not written: {0}")]
    Written(#[from] io::Error),
    /// A part of it panicked.
    #[error("broke: {0}")]
    Broke(#[from] JoinError),
}

type Outcome = Result<SnapshotTaken, NotTaken>;

/// When the next is due, the one that is being taken, and the newest.
#[derive(Debug)]
pub(crate) struct Taking {
    bus: Bus,
    schedule: SnapshotSchedule,
    newest: Option<SnapshotTaken>,
    /// Where the bytes of frames and the time are counted from: the end of the last.
    from: (u64, Instant),
    /// The newest could not be used: the next is due at once.
    is_behind: bool,
    /// Snapshots in frames up to here were tried at the start, and could not be used.
    tried_up_to: u64,
    not_before: Option<Instant>,
    /// In a row.
    failures: u32,
    task: Option<(JoinHandle<Outcome>, Instant)>,
    /// Taken, and to be journaled.
    taken: Option<SnapshotTaken>,
    view: watch::Sender<Option<SnapshotView>>,
}

impl Taking {
    pub(crate) fn new(bus: Bus, schedule: SnapshotSchedule) -> Self {
        Self {
            bus,
            schedule,
            newest: None,
            from: (0, Instant::now()),
            is_behind: false,
            tried_up_to: 0,
            not_before: None,
            failures: 0,
            task: None,
            taken: None,
            view: watch::Sender::default(),
        }
    }

    /// What `status` shows.
    pub(crate) fn view(&self) -> watch::Receiver<Option<SnapshotView>> {
        self.view.subscribe()
    }

    /// The journal is read from here.
    pub(crate) fn started(&mut self, start: &Start) {
        self.give_up();
        self.newest = start.from.as_ref().map(|(taken, _)| taken.clone());
        self.from = (0, Instant::now());
        self.is_behind = start.is_behind;
        self.tried_up_to = if start.is_behind { start.end } else { 0 };
        self.view.send_replace(start.from.as_ref().map(|(taken, at)| shown(taken, *at)));
    }

    /// The frame `number` of another leader says of one. `bytes` is how much was read of the journal up to there.
    pub(crate) fn followed(&mut self, number: u64, taken: &SnapshotTaken, at: Timestamp, bytes: u64) {
        if number <= self.tried_up_to {
            return;
        }
        self.newest = Some(taken.clone());
        self.from = (bytes, Instant::now());
        self.is_behind = false;
        self.view.send_replace(Some(shown(taken, at)));
    }

    /// Begins one up to the frame `number` when it is time. `bytes` is how much was read or written of the journal so far.
    pub(crate) fn begin_if_due(&mut self, number: u64, bytes: u64) {
        let now = Instant::now();
        let busy = self.task.is_some() || self.taken.is_some() || self.not_before.is_some_and(|at| now < at);
        if !busy && (self.is_behind || self.is_due(bytes, now)) {
            self.is_behind = false;
            let named = self.newest.as_ref().map_or(0, |newest| newest.sequence).max(self.tried_up_to);
            self.task = Some((laneway_runtime::spawn("snapshot", take(self.bus.clone(), named, number)), now));
        }
    }

    fn is_due(&self, bytes: u64, now: Instant) -> bool {
        let newest = self.newest.as_ref().map_or(0, |taken| taken.bytes);
        self.schedule.is_due(newest, bytes.saturating_sub(self.from.0), now - self.from.1)
    }

    /// Waits for the end of the one that is being taken.
    pub(crate) async fn ended(&mut self) -> (Outcome, Duration) {
        let Some((task, began)) = &mut self.task else { return std::future::pending().await };
        let outcome = task.await;
        let took = began.elapsed();
        self.task = None;
        (outcome.unwrap_or_else(|error| Err(error.into())), took)
    }

    /// One has ended: it is to be journaled, or tried again. `bytes` is how much was read or written of the journal so far.
    ///
    /// An error ends the process: the fold is the one reader of all that this leader has written, and it has found that
    /// the journal is damaged, or that the memory which decides is not what the journal says.
    pub(crate) fn took(&mut self, (outcome, took): (Outcome, Duration), bytes: u64) -> Result<(), SchedulerError> {
        let now = Instant::now();
        self.from = (bytes, now);
        match outcome {
            Ok(taken) => {
                self.taken = Some(taken);
                self.failures = 0;
                self.not_before = Some(now + self.schedule.rest_after(took));
            }
            Err(NotTaken::Journal(fault)) if fault.is_damage() => return Err(SchedulerError::Journal(fault)),
            Err(NotTaken::Diverged { number }) => return Err(SchedulerError::Diverged { number }),
            Err(error) => {
                tracing::warn!(%error, "no snapshot was taken; it is tried again");
                self.is_behind = true;
                self.not_before = Some(now + self.retry_after().max(self.schedule.rest_after(took)));
                self.failures = self.failures.saturating_add(1);
            }
        }
        Ok(())
    }

    /// One that does not fit takes from frames, each time, what is left of the disk.
    fn retry_after(&self) -> Duration {
        RETRY * 2_u32.pow(self.failures.min(MAX_DOUBLINGS))
    }

    /// The one that is to be journaled.
    pub(crate) fn to_journal(&self) -> Option<&SnapshotTaken> {
        self.taken.as_ref()
    }

    /// It was handed to the journal. What is to be done once it is durable, at this time of the journal: from then on the
    /// objects before the one before it are nobody's.
    pub(crate) fn journaled(&mut self, at: Timestamp) -> impl FnOnce() + Send + use<> {
        let taken = self.taken.take();
        let before = std::mem::replace(&mut self.newest, taken.clone());
        let (view, bus) = (self.view.clone(), self.bus.clone());
        move || {
            let Some(taken) = taken else { return };
            let (number, bytes, records) = (taken.sequence, taken.bytes, taken.records);
            tracing::info!(snapshot = number, bytes, records, "a snapshot is in the journal");
            view.send_replace(Some(shown(&taken, at)));
            if let Some(before) = before {
                laneway_runtime::spawn("old snapshots", delete_before(bus, before.sequence));
            }
        }
    }

    /// This process does not lead any more: what was being taken is dropped.
    pub(crate) fn give_up(&mut self) {
        if let Some((task, _)) = self.task.take() {
            task.abort();
        }
        self.taken = None;
    }
}

impl SnapshotSchedule {
    /// Whether the next is due, by the bytes of the newest, and the bytes of frames and the time since its end.
    fn is_due(&self, newest: u64, bytes: u64, time: Duration) -> bool {
        // What is read at a start grows with the snapshot anyway.
        bytes >= self.every_bytes.max(newest.saturating_mul(2))
            || (time >= self.every && bytes >= self.every_bytes / IDLE_PART)
    }

    /// How long to wait after one that took so long: most of the time none is taken, however heavy the load.
    fn rest_after(&self, took: Duration) -> Duration {
        self.pause.max(took.saturating_mul(self.rest))
    }
}

fn shown(taken: &SnapshotTaken, taken_at: Timestamp) -> SnapshotView {
    SnapshotView { journal_seq: taken.sequence, taken_at, bytes: taken.bytes }
}

async fn delete_before(bus: Bus, number: u64) {
    match store_of(&bus).delete(|object| object.number < number).await {
        Ok(0) => {}
        Ok(deleted) => tracing::info!(deleted, before = number, "older snapshots were deleted"),
        Err(error) => tracing::warn!(error, "older snapshots were not deleted; the next one sees to it"),
    }
}

fn store_of(bus: &Bus) -> Snapshots {
    Snapshots::new(bus.client().clone(), bus.prefix())
}

/// A fold up to `number` at least: from the newest snapshot, written, read back, and dropped. Of the objects behind frame
/// `named` the journal names none.
async fn take(bus: Bus, named: u64, number: u64) -> Outcome {
    let began = Instant::now();
    let snapshots = store_of(&bus);
    // Before the disk is asked for more: what is there of those that did not come to their end. What another leader writes is
    // of its own frames, which come behind this one.
    match snapshots.delete(|object| (named + 1..=number).contains(&object.number)).await {
        Ok(0) => {}
        Ok(deleted) => tracing::info!(deleted, "snapshots that did not come to their end were deleted"),
        Err(error) => tracing::warn!(error, "snapshots that did not come to their end were not looked for"),
    }
    let folded = fold_up_to(&bus, number).await?;
    let nonce = u32::from_le_bytes(laneway_runtime::random::bytes::<4>()?);
    let object = SnapshotName { number: folded.position.number, nonce };
    let taken = store(&snapshots, object, folded).await;
    match &taken {
        Ok(SnapshotTaken { bytes, records, .. }) => {
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!(snapshot = object.number, bytes, records, seconds, "a snapshot was taken");
        }
        Err(_) => {
            if let Err(error) = snapshots.delete(|left| *left == object).await {
                tracing::warn!(error, "what is there of a snapshot was not deleted; the next one sees to it");
            }
        }
    }
    taken
}

/// Writes an object and reads it back.
async fn store(snapshots: &Snapshots, object: SnapshotName, folded: Folded) -> Outcome {
    let Folded { state, journal_id, position } = folded;
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    // The state goes with it: two of them at a time are enough.
    let writing = tokio::task::spawn_blocking(move || write(&state, SnapshotHead { journal_id, position }, sender));
    let stored = snapshots.write(object, receiver).await;
    let written = writing.await?;
    // Where storing fails, writing does as well, for want of a reader: the reason is the former.
    let chunks = stored?;
    let (hash, bytes, records) = written?;
    let taken = SnapshotTaken { sequence: position.number, hash, object, bytes, chunks, records };
    // Its hash is compared. Whether it can be decoded is seen by the next one, which begins with it.
    drop(snapshots.read(&taken, |_| ()).await?);
    Ok(taken)
}

/// Hands the messages of an object to `chunks`: its hash, and how many bytes and records it has. Not for async code.
pub(crate) fn write(
    state: &State,
    head: SnapshotHead,
    chunks: mpsc::Sender<Bytes>,
) -> io::Result<(SnapshotHash, u64, u64)> {
    let mut writer = SnapshotWriter::new(chunks);
    head.write(&mut writer)?;
    let records = state.write_snapshot(&mut writer)?.total();
    let (hash, bytes) = writer.finish()?;
    Ok((hash, bytes, records))
}

struct Folded {
    state: State,
    journal_id: Uuid,
    position: Position,
}

async fn fold_up_to(bus: &Bus, number: u64) -> Result<Folded, NotTaken> {
    let Start { mut state, base, .. } = start::load(bus).await.map_err(NotTaken::Journal)?;
    let mut journal_id = base.as_ref().and_then(laneway_journal::Base::journal).unwrap_or_default();
    let mut position = base.as_ref().map_or(Position::START, laneway_journal::Base::position);
    let stream = bus.prefix().stream(Stream::Journal);
    let mut follower = Follower::<Event>::new(bus.client().clone(), &stream, position);
    while position.number < number {
        let frames = follower.next_batch(FRAMES_AT_A_TIME).await.map_err(NotTaken::Journal)?;
        if let Some(last) = frames.last() {
            (journal_id, position) = (last.frame.journal_id, last.position);
        }
        // Beside the task that leads, not in its way.
        state = tokio::task::spawn_blocking(move || fold_all(state, &frames)).await??;
    }
    Ok(Folded { state, journal_id, position })
}

pub(crate) fn fold_all(mut state: State, frames: &[Committed<Event>]) -> Result<State, NotTaken> {
    for committed in frames {
        if !fold(&mut state, committed) {
            return Err(NotTaken::Diverged { number: committed.position.number });
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
