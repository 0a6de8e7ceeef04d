//! The task that owns state, hints and journal. Everything that is decided is decided here, one turn after the other.

mod effects;
mod follow;
mod role;
mod turns;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use laneway_bus::async_nats::{Message, Subscriber};
use laneway_bus::{Bus, BusError, ensure_streams};
use laneway_contract::{Catalog, Epoch, Event, Family, HashKey, LEADER_LEASE_MS, Stream, Subject, Timestamp};
use laneway_engine::{Hints, State};
use laneway_journal::node::Settings;
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
use crate::waiters::Waiters;
use crate::{SchedulerConfig, SchedulerError};

use effects::Effects;
use turns::Breaks;

/// How much longer than a lease a standby waits for a frame, in milliseconds: for clocks that do not run alike, and so that a
/// client whose leader was killed is answered within the lease plus 1 s, with the time to take office and to be asked again.
const TAKEOVER_MARGIN_MS: u64 = 500;
/// Orders that are taken in one go, before the journal is looked at again.
const ORDERS_AT_A_TIME: usize = 512;
/// No further orders are taken while so many bytes of turns wait for the frame in flight.
const MAX_BACKLOG_BYTES: usize = 16 * 1024 * 1024;
/// The lease is looked at this often, also when nothing happens.
const LOOK_AGAIN: Duration = Duration::from_millis(LEADER_LEASE_MS / 6);
/// A due time that has passed already is looked at again after this time, unless there is more to do.
const SOON: Duration = Duration::from_millis(1);
/// Time for the requests under way, and for the last frame, when a stop is requested.
const DRAIN: Duration = Duration::from_secs(8);

/// Runs until `shutdown` is requested and everything has drained, or something ends it.
pub(crate) async fn run(bus: Bus, config: SchedulerConfig, shutdown: Shutdown) -> Result<(), SchedulerError> {
    let Some(prepared) = shutdown.unless_requested(prepare(&bus, &config)).await else { return Ok(()) };
    let (journal, announcements) = prepared?;
    let SchedulerConfig { instance, limits, catalog } = config;
    let publisher = Publisher::start(&bus);
    let mut connections = bus.connections();
    connections.mark_unchanged();
    let mut leader = Leader {
        connections,
        bus,
        instance: Arc::from(instance),
        limits,
        catalog: Arc::new(catalog),
        journal,
        announcements,
        state: State::default(),
        hints: Hints::default(),
        scheduled_at: Timestamp::ZERO,
        publisher,
        lease: Arc::default(),
        elected: None,
        leadership: None,
        breaks: Breaks::default(),
        ending: Ending::No,
        said_ready: false,
    };
    let ended = leader.run(&shutdown).await;
    leader.lease.close();
    leader.publisher.finish().await;
    ended
}

async fn prepare(bus: &Bus, config: &SchedulerConfig) -> Result<(Journal<Event, Effects>, Subscriber), SchedulerError> {
    ensure_streams(bus).await?;
    let settings = Settings {
        instance: config.instance.clone(),
        process: Uuid::from_bytes(laneway_runtime::random::bytes::<16>()?),
        // Where public events are left, an empty journal is lost data and not a new deployment.
        new_journal: (public_events(bus).await? == 0).then(Uuid::now_v7),
        lease_ms: LEADER_LEASE_MS,
        margin_ms: TAKEOVER_MARGIN_MS,
    };
    let stream = bus.prefix().stream(Stream::Journal);
    let subject = bus.prefix().subject(&Subject::Journal);
    let journal = Journal::new(bus.client().clone(), JournalConfig { stream, subject, settings });
    let announcements = bus.subscribe(bus.prefix().all(Family::Workers)).await?;
    Ok((journal, announcements))
}

/// The number of the last public event; 0 when there never was one. Waits for the server as long as it takes.
async fn public_events(bus: &Bus) -> Result<u64, SchedulerError> {
    let name = bus.prefix().stream(Stream::Flight);
    loop {
        match bus.jetstream().get_stream(&name).await {
            Ok(stream) => return Ok(stream.cached_info().state.last_sequence),
            Err(error) => tracing::warn!(%error, stream = name, "waiting for the stream of public events"),
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The scheduler's one task.
struct Leader {
    bus: Bus,
    instance: Arc<str>,
    limits: Option<laneway_contract::Limits>,
    catalog: Arc<Catalog>,
    journal: Journal<Event, Effects>,
    announcements: Subscriber,
    connections: watch::Receiver<u64>,
    state: State,
    hints: Hints,
    /// When nothing more was due: what waits for a rate is due at a time that only a look from then on shows.
    scheduled_at: Timestamp,
    publisher: Publisher,
    lease: Arc<Lease>,
    /// The epoch in which this process leads, until the leadership is set up.
    elected: Option<Epoch>,
    leadership: Option<Leadership>,
    breaks: Breaks,
    ending: Ending,
    said_ready: bool,
}

/// What exists only while this process leads.
struct Leadership {
    desk: Desk,
    orders: mpsc::Receiver<Order>,
    /// Orders that were taken and not carried out yet.
    inbox: VecDeque<Order>,
    waiters: Waiters,
    office: Option<Office>,
    /// Whether the schedule has more to do at once.
    more: bool,
    /// The frame at which the last digest was journaled.
    digested_at: u64,
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
    Reconnected,
    Time,
    Stop,
    Drained,
    TooLate,
}

impl Leader {
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), SchedulerError> {
        loop {
            if self.journal.may_answer() {
                self.act()?;
            }
            self.look_at_lease();
            match self.wake(shutdown).await {
                Wake::Journal(progress) => {
                    if self.progressed(*progress)? {
                        return Ok(());
                    }
                }
                Wake::Orders(orders) => {
                    if let Some(leadership) = &mut self.leadership {
                        leadership.inbox.extend(orders);
                    }
                }
                Wake::Heard(Some(message)) => self.heard(&message),
                Wake::Heard(None) => return Err(BusError::Closed.into()),
                Wake::Reconnected => self.reconnected(),
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
        if let Some(epoch) = self.elected.take() {
            self.take_office(epoch)?;
        }
        self.carry_out_orders();
        self.tick_if_due();
        self.digest_if_due();
        self.breaks.check()
    }

    async fn wake(&mut self, shutdown: &Shutdown) -> Wake {
        let pause = self.pause();
        let room = self.journal.backlog() < MAX_BACKLOG_BYTES && self.journal.may_answer();
        let Self { journal, announcements, connections, leadership, ending, .. } = self;
        let (orders, room) = match leadership {
            Some(leadership) => (Some(&mut leadership.orders), room && leadership.inbox.is_empty()),
            None => (None, false),
        };
        let (stopping, end) = match ending {
            Ending::No => (false, None),
            Ending::Draining(_, end) | Ending::Leaving(end) => (true, Some(*end)),
        };
        tokio::select! {
            biased;
            () = shutdown.requested(), if !stopping => Wake::Stop,
            // First among those that come again and again: a frame acknowledged is answers that may leave.
            progress = journal.next() => Wake::Journal(Box::new(progress)),
            // Before the orders: under full load there are always some, and workers must not fall silent for that.
            message = announcements.next() => Wake::Heard(message),
            orders = take(orders), if room => Wake::Orders(orders),
            Ok(()) = connections.changed() => Wake::Reconnected,
            () = drained(ending) => Wake::Drained,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => Wake::TooLate,
            () = sleep(pause) => Wake::Time,
        }
    }

    /// Until something is due by itself.
    fn pause(&mut self) -> Duration {
        let Some(leadership) = &self.leadership else { return LOOK_AGAIN };
        if !self.journal.may_answer() {
            return LOOK_AGAIN;
        }
        if leadership.more || !leadership.inbox.is_empty() {
            return Duration::ZERO;
        }
        let now = self.journal.now();
        let due = self
            .state
            .next_deadline(&self.hints, self.scheduled_at)
            .map(|at| Duration::from_millis(at.millis_since(now)));
        due.map_or(LOOK_AGAIN, |due| due.clamp(SOON, LOOK_AGAIN))
    }

    /// Tells the handlers until when their replies may leave.
    fn look_at_lease(&mut self) {
        match self.journal.answers_until() {
            Some(until) => self.lease.open(self.journal.epoch(), until),
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
