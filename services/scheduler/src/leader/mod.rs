//! The task that owns state, hints and journal. Everything that is decided is decided here, one turn after the other.
//!
//! What it does is [`core`]; the task itself is the way in and out: journal, orders, announcements, streams, time.

pub(crate) mod core;
mod hear;
mod role;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use laneway_bus::async_nats::{Message, Subscriber};
use laneway_bus::{Bus, BusError, ensure_streams};
use laneway_contract::{Catalog, Event, Family, HashKey, LEADER_LEASE_MS, SnapshotTaken, Stream, Subject};
use laneway_journal::node;
use laneway_journal::{Journal, JournalConfig, Progress};
use laneway_runtime::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::desk::{Desk, Order};
use crate::lease::Lease;
use crate::office::Office;
use crate::publisher::Publisher;
use crate::raising::Raising;
use crate::recorded::Recorded;
use crate::snapshots::{NotTaken, Taking};
use crate::start::Replay;
use crate::{SchedulerConfig, SchedulerError};

use self::core::{Core, Effects, LOOK_AGAIN, Settings};

/// How much longer than a lease a standby waits for a frame, in milliseconds: for clocks that do not run alike, and so that a
/// client whose leader was killed is answered within the lease plus 1 s, with the time to take office and to be asked again.
const TAKEOVER_MARGIN_MS: u64 = 500;
/// A digest of the state is journaled every so many frames.
const DIGEST_EVERY_FRAMES: u64 = 1_000;
/// Orders that are taken in one go, before the journal is looked at again.
const ORDERS_AT_A_TIME: usize = 512;
/// How long a stop waits for the handlers that wait for others, as a store replica. Then the journal is left all the same: they
/// end silent, and their callers ask the next leader.
pub(crate) const HAND_OVER: Duration = Duration::from_millis(100);
/// Time for the last frames, when a stop is requested.
const LEAVE: Duration = Duration::from_secs(8);

/// Runs until `shutdown` is requested and everything has drained, or something ends it.
pub(crate) async fn run(bus: Bus, config: SchedulerConfig, shutdown: Shutdown) -> Result<(), SchedulerError> {
    let Some(prepared) = shutdown.unless_requested(prepare(&bus, &config)).await else { return Ok(()) };
    let (journal, announcements) = prepared?;
    let SchedulerConfig { instance, limits, catalog, memory, snapshots, formats } = config;
    let settings = Settings { limits, memory, new_hash_key: new_hash_key()?, digest_every_frames: DIGEST_EVERY_FRAMES };
    let lease = Arc::default();
    let publisher = Publisher::start(&bus, &lease);
    let mut connections = bus.connections();
    connections.mark_unchanged();
    let mut leader = Leader {
        connections,
        snapshots: Taking::new(bus.clone(), snapshots),
        raising: Raising::new(bus.clone(), formats),
        replay: Replay::up_to(0),
        unread: true,
        bus,
        instance: Arc::from(instance),
        catalog: Arc::new(catalog),
        core: Core::new(journal, settings),
        announcements,
        publisher,
        lease,
        reception: None,
        ending: Ending::No,
        said_ready: false,
    };
    let ended = leader.run(&shutdown).await;
    leader.lease.close();
    leader.snapshots.give_up();
    leader.publisher.finish().await;
    ended
}

async fn prepare(bus: &Bus, config: &SchedulerConfig) -> Result<(Journal<Event, Effects>, Subscriber), SchedulerError> {
    ensure_streams(bus).await?;
    let recorded = Recorded::read(bus).await;
    let settings = node::Settings {
        instance: config.instance.clone(),
        process: Uuid::from_bytes(laneway_runtime::random::bytes::<16>()?),
        // Where public events or snapshots are left, an empty journal is lost data and not a new deployment.
        new_journal: (recorded.is_nothing() && !snapshots_are_left(bus).await).then(Uuid::now_v7),
        lease_ms: LEADER_LEASE_MS,
        margin_ms: TAKEOVER_MARGIN_MS,
        formats: config.formats,
    };
    let stream = bus.prefix().stream(Stream::Journal);
    let subject = bus.prefix().subject(&Subject::Journal);
    let mut journal = Journal::new(bus.client().clone(), JournalConfig { stream, subject, settings });
    if let Some(position) = recorded.position() {
        journal.expect(position);
    }
    let announcements = bus.subscribe(bus.prefix().all(Family::Workers)).await?;
    Ok((journal, announcements))
}

/// Whether there ever was a snapshot. Asks the server, as long as it takes.
async fn snapshots_are_left(bus: &Bus) -> bool {
    let name = bus.prefix().stream(Stream::Snapshots);
    loop {
        match bus.jetstream().get_stream(&name).await {
            Ok(stream) => return stream.cached_info().state.last_sequence > 0,
            Err(error) => tracing::warn!(%error, stream = name, "waiting for the stream of snapshots"),
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The scheduler's one task.
struct Leader {
    bus: Bus,
    instance: Arc<str>,
    catalog: Arc<Catalog>,
    core: Core<Journal<Event, Effects>>,
    announcements: Subscriber,
    connections: watch::Receiver<u64>,
    snapshots: Taking,
    raising: Raising,
    replay: Replay,
    /// Nothing of the journal was read since the state is an empty one.
    unread: bool,
    publisher: Publisher,
    lease: Arc<Lease>,
    reception: Option<Reception>,
    ending: Ending,
    said_ready: bool,
}

/// Where requests come in, while this process leads.
struct Reception {
    desk: Desk,
    orders: mpsc::Receiver<Order>,
    office: Option<Office>,
}

/// The way to the end.
enum Ending {
    /// No stop was requested.
    No,
    /// Requests are drained.
    Draining(JoinHandle<()>, Instant),
    /// The journal is left.
    Leaving(Instant),
}

/// What wakes the task.
enum Wake {
    Journal(Box<Progress<Event, Effects>>),
    Orders(Vec<Order>),
    Heard(Option<Message>),
    Snapshot((Result<SnapshotTaken, NotTaken>, Duration)),
    ReadByAll(u16),
    Reconnected,
    Time,
    Stop,
    Drained,
    TooLate,
}

impl Leader {
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), SchedulerError> {
        loop {
            self.begin_reading(shutdown).await?;
            // IMPORTANT: before anything is sent, which is said under the lease.
            self.look_at_lease();
            if self.core.journal.may_answer() {
                self.act()?;
            }
            match self.wake(shutdown).await {
                Wake::Journal(progress) => {
                    if self.progressed(*progress)? {
                        return Ok(());
                    }
                }
                Wake::Orders(orders) => self.core.take(orders),
                Wake::Heard(Some(message)) => self.heard(&message),
                Wake::Heard(None) => return Err(BusError::Closed.into()),
                Wake::Snapshot(ended) => self.snapshots.took(ended, self.core.journal.read_bytes())?,
                Wake::ReadByAll(format) => self.core.journal.raise_format(format),
                Wake::Reconnected => self.core.reconnected(|message| self.publisher.send(message)),
                Wake::Time => {}
                Wake::Stop => self.begin_to_end(),
                Wake::Drained => self.leave(),
                Wake::TooLate => match self.ending {
                    Ending::Draining(..) => self.leave(),
                    Ending::No | Ending::Leaving(_) => {
                        tracing::warn!("the journal was not left in good order: a standby takes over after a lease");
                        return Ok(());
                    }
                },
            }
        }
    }

    /// All that can be done now without waiting.
    fn act(&mut self) -> Result<(), SchedulerError> {
        if let Some(begun) = self.core.take_office(|message| self.publisher.send(message)) {
            self.open(begun);
        }
        self.core.act()?;
        self.snapshot_if_due();
        Ok(())
    }

    async fn wake(&mut self, shutdown: &Shutdown) -> Wake {
        let (pause, room) = (self.core.pause(), self.core.has_room());
        let in_force = self.core.leads().then(|| self.core.journal.format());
        let Self { core, announcements, connections, reception, ending, snapshots, raising, .. } = self;
        let orders = reception.as_mut().map(|reception| &mut reception.orders);
        let (stopping, end) = match ending {
            Ending::No => (false, None),
            Ending::Draining(_, end) | Ending::Leaving(end) => (true, Some(*end)),
        };
        tokio::select! {
            biased;
            () = shutdown.requested(), if !stopping => Wake::Stop,
            // First among those that come again and again: a frame acknowledged is answers that may leave.
            progress = core.journal.next() => Wake::Journal(Box::new(progress)),
            // Before the orders: under full load there are always some, and workers must not fall silent for that.
            message = announcements.next() => Wake::Heard(message),
            orders = take(orders), if room => Wake::Orders(orders),
            ended = snapshots.ended() => Wake::Snapshot(ended),
            format = raising.read_by_all(in_force.unwrap_or_default()), if in_force.is_some() => Wake::ReadByAll(format),
            Ok(()) = connections.changed() => Wake::Reconnected,
            () = drained(ending) => Wake::Drained,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => Wake::TooLate,
            () = sleep(pause) => Wake::Time,
        }
    }

    /// Tells the handlers until when their replies may leave.
    fn look_at_lease(&mut self) {
        match self.core.journal.answers_until() {
            Some(until) => self.lease.open(self.core.journal.epoch(), until),
            None => self.lease.close(),
        }
    }
}

/// The orders that are there, at least one.
async fn take(orders: Option<&mut mpsc::Receiver<Order>>) -> Vec<Order> {
    let mut taken = Vec::new();
    match orders {
        // The desk of this leadership keeps the channel open.
        Some(orders) => drop(orders.recv_many(&mut taken, ORDERS_AT_A_TIME).await),
        None => std::future::pending().await,
    }
    taken
}

async fn drained(ending: &mut Ending) {
    match ending {
        // A handler that panicked has been logged where it did.
        Ending::Draining(task, _) => drop(task.await),
        Ending::No | Ending::Leaving(_) => std::future::pending().await,
    }
}

/// The key that makes hashes of this deployment unguessable.
fn new_hash_key() -> Result<HashKey, SchedulerError> {
    Ok(HashKey::from_bytes(laneway_runtime::random::bytes::<32>()?))
}
