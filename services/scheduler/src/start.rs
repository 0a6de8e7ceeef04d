//! A start: the state from the newest snapshot that can be used, or from nothing, and how far the reading has come.

use std::io::BufReader;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use laneway_bus::Bus;
use laneway_contract::{Event, SnapshotTaken, Timestamp};
use laneway_engine::{SnapshotError, State};
use laneway_journal::snapshot::{ObjectError, SnapshotHead, SnapshotReader, Unfit};
use laneway_journal::{Base, Body, Fault, Frame, Snapshots};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};

/// How often a start that takes long says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Of so many snapshots the objects are kept.
const KEPT: usize = 2;

/// Where to go on.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// What is folded already.
    pub(crate) state: State,
    /// The frame up to which it is; none before the first.
    pub(crate) base: Option<Base>,
    /// The snapshot that it comes from, and when the journal took that in.
    pub(crate) from: Option<(SnapshotTaken, Timestamp)>,
    /// Whether a newer one could not be used.
    pub(crate) is_behind: bool,
    /// The last frame that the server knew of.
    pub(crate) end: u64,
    /// The last frame that a snapshot knows of.
    pub(crate) had: u64,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Its bytes are not there, or others.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Its head cannot be read.
    #[error(transparent)]
    Head(#[from] Unfit),
    /// Its state cannot be read.
    #[error(transparent)]
    State(#[from] SnapshotError),
    /// It is folded up to another frame than the journal says, or of another journal.
    #[error("the snapshot is not of this journal up to frame {number}")]
    Other {
        /// The frame that the journal says.
        number: u64,
    },
    /// Reading it panicked.
    #[error("reading the snapshot broke: {0}")]
    Broke(#[from] JoinError),
    /// The frame that it is folded up to is not in the journal any more. No other way to read it would mend that.
    #[error(transparent)]
    Journal(Fault),
}

/// Finds the newest snapshot through the journal and reads it. One that cannot be used is left with a warning for the one
/// before it, then for the first frame; only a fault of the journal itself is an error.
pub(crate) async fn load(bus: &Bus) -> Result<Start, Fault> {
    let snapshots = Snapshots::new(bus.client().clone(), bus.prefix());
    let end = snapshots.end_hint().await;
    let had = highest(&snapshots).await;
    let (mut up_to, mut tried) = (end, 0);
    while tried < KEPT
        && let Some(frame) = snapshots.frame_up_to::<Event>(up_to).await
    {
        let Some(taken) = taken_in(&frame) else { break };
        match read(&snapshots, taken).await {
            Ok((state, base)) => {
                let from = Some((taken.clone(), frame.time));
                return Ok(Start { state, base: Some(base), from, is_behind: tried > 0, end, had });
            }
            Err(Unusable::Journal(fault)) => return Err(fault),
            Err(error) => tracing::warn!(%error, object = %taken.object, "a snapshot cannot be used"),
        }
        tried += 1;
        up_to = frame.number - 1;
    }
    if tried > 0 {
        tracing::warn!(tried, frames = end, "no snapshot can be used: the journal is read from its first frame");
    }
    Ok(Start { is_behind: tried > 0, end, had, ..Start::default() })
}

/// The last frame that a snapshot knows of. Asks the server, as long as it takes: without it a journal that was cut short would be
/// taken for a whole one.
async fn highest(snapshots: &Snapshots) -> u64 {
    loop {
        match snapshots.highest().await {
            Ok(number) => return number,
            Err(error) => tracing::warn!(error, "the snapshots cannot be listed yet"),
        }
        sleep(SAY_EVERY).await;
    }
}

/// The snapshot that a frame says of.
pub(crate) fn taken_in(frame: &Frame<Event>) -> Option<&SnapshotTaken> {
    let Body::Turns(turns) = &frame.body else { return None };
    turns.iter().flat_map(|turn| &turn.events).rev().find_map(as_taken)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "one event says of snapshots")]
fn as_taken(event: &Event) -> Option<&SnapshotTaken> {
    match event {
        Event::SnapshotTaken(taken) => Some(taken),
        _ => None,
    }
}

/// Reads a snapshot, and compares the frame that it is folded up to with the journal's.
pub(crate) async fn read(snapshots: &Snapshots, taken: &SnapshotTaken) -> Result<(State, Base), Unusable> {
    let loading = Arc::new(Loading::new(taken));
    let bytes = |bytes| loading.bytes.store(bytes, Ordering::Relaxed);
    let reader = loading.watch(snapshots.read(taken, bytes)).await?;
    let (head, state) = {
        let counted = Arc::clone(&loading);
        let decode = move || decode(reader, &|records| counted.records.store(records, Ordering::Relaxed));
        loading.watch(tokio::task::spawn_blocking(decode)).await??
    };
    let other = Unusable::Other { number: taken.sequence };
    if head.position.number != taken.sequence {
        return Err(other);
    }
    let base = snapshots.base::<Event>(head.position).await.map_err(Unusable::Journal)?;
    if base.journal() != Some(head.journal_id) {
        return Err(other);
    }
    Ok((state, base))
}

/// The state in a snapshot, and up to where it is folded. `read` hears how many records have come.
pub(crate) fn decode(reader: SnapshotReader, read: &dyn Fn(u64)) -> Result<(SnapshotHead, State), Unusable> {
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let head = SnapshotHead::read(&mut reader)?;
    Ok((head, State::read_snapshot(reader, |done, _| read(done))?))
}

/// How far the reading of a snapshot has come.
#[derive(Debug)]
struct Loading {
    snapshot: u64,
    began: Instant,
    bytes: AtomicU64,
    of_bytes: u64,
    records: AtomicU64,
    of_records: u64,
}

impl Loading {
    fn new(taken: &SnapshotTaken) -> Self {
        let (bytes, records) = (AtomicU64::new(0), AtomicU64::new(0));
        let SnapshotTaken { sequence: snapshot, bytes: of_bytes, records: of_records, .. } = *taken;
        Self { snapshot, began: Instant::now(), bytes, of_bytes, records, of_records }
    }

    /// Says every second how far it is, until the work is done.
    async fn watch<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(SAY_EVERY) => self.say(),
            }
        }
    }

    fn say(&self) {
        let (bytes, records) = (self.bytes.load(Ordering::Relaxed), self.records.load(Ordering::Relaxed));
        let Self { snapshot, of_bytes, of_records, .. } = *self;
        let seconds = self.began.elapsed().as_secs_f64();
        tracing::info!(snapshot, bytes, of_bytes, records, of_records, seconds, "reads a snapshot");
    }
}

/// How far the reading of the frames behind it has come.
#[derive(Debug)]
pub(crate) struct Replay {
    first: Option<u64>,
    end: u64,
    began: Instant,
    said: Instant,
}

impl Replay {
    /// Reads up to `end` at least.
    pub(crate) fn up_to(end: u64) -> Self {
        let now = Instant::now();
        Self { first: None, end, began: now, said: now }
    }

    /// A frame was folded. Says every second how far it is, and at the end how long it took.
    pub(crate) fn followed(&mut self, number: u64) {
        if number > self.end {
            return;
        }
        let first = *self.first.get_or_insert(number);
        let (frames, of_frames) = (number + 1 - first, self.end + 1 - first);
        if number == self.end {
            let seconds = self.began.elapsed().as_secs_f64();
            tracing::info!(frames, seconds, "the journal was read");
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let seconds = self.began.elapsed().as_secs_f64();
            tracing::info!(frames, of_frames, seconds, "reads the journal");
        }
    }
}
