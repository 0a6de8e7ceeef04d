//! The store as a service: open, catch up, answer, drain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use laneway_bus::{Bus, BusError, Details, READS_FORMAT, Service};
use laneway_contract::{Catalog, Event, ServiceName, Stream};
use laneway_journal::frame::FORMAT;
use laneway_journal::{Fault, Follower, Position};
use laneway_runtime::Shutdown;
use tokio::time::{Instant, sleep, timeout};

use crate::endpoints::{Store, routes};
use crate::follow::follow;
use crate::view::{View, ViewError};

/// All replicas share it, so that each request has one answer.
const QUEUE_GROUP: &str = "session-store";
/// How often to look whether there is a journal yet.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often to say what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What a store needs to know.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The folder of the view. One process at a time.
    pub path: PathBuf,
    /// The providers that sessions may name.
    pub catalog: Catalog,
}

/// Why a store ends.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The view failed.
    #[error("view: {0}")]
    View(#[from] ViewError),
    /// The journal is not the one that the view was made from.
    #[error("{}. Where the journal is found to be right, as after its repair, remove {}: the view is rebuilt from it", .fault.halt(), .path.display())]
    Journal {
        /// What was found.
        fault: Fault,
        /// The folder of the view.
        path: PathBuf,
    },
    /// The endpoints could not be served.
    #[error("bus: {0}")]
    Bus(#[from] BusError),
    /// A part of the store panicked; its log has the place.
    #[error("panicked: a part of the store panicked")]
    Panicked,
}

impl StoreError {
    /// What is wrong with the journal, where that is what ended it.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Journal { fault, .. } => Some(fault),
            Self::View(_) | Self::Bus(_) | Self::Panicked => None,
        }
    }
}

/// Runs a store until `shutdown` is requested, or something ends it.
pub async fn run(bus: Bus, config: StoreConfig, shutdown: Shutdown) -> Result<(), StoreError> {
    let StoreConfig { path, catalog } = config;
    let folder = path.clone();
    let opened = tokio::task::spawn_blocking(move || View::open(&folder)).await.map_err(|_| StoreError::Panicked)?;
    let (view, writer) = opened?;
    let stream = bus.prefix().stream(Stream::Journal);
    let follower = Follower::<Event>::new(bus.client().clone(), &stream, view.applied());
    let Some(end) = shutdown.unless_requested(end_of(&bus, &stream)).await else {
        return Ok(());
    };
    let stop = Shutdown::new();
    let mut following = laneway_runtime::spawn("store-follow", follow(follower, writer, path, stop.clone()));
    let store = Store { view, bus: bus.clone(), catalog: Arc::new(catalog) };
    let caught_up = tokio::select! {
        () = caught_up(&store.view, end) => true,
        () = shutdown.requested() => false,
        ended = &mut following => return ended.map_err(|_| StoreError::Panicked)?,
    };
    if caught_up {
        let (name, position) = (ServiceName::SessionStore, position(&store.view));
        let service = Service::start_described(&bus, name, QUEUE_GROUP, position, routes(&store)).await?;
        tracing::info!(service = %ServiceName::SessionStore, journal_seq = store.view.applied().number, "ready");
        tokio::select! {
            () = shutdown.requested() => service.stop().await,
            ended = &mut following => {
                service.stop().await;
                return ended.map_err(|_| StoreError::Panicked)?;
            }
        }
    }
    // Only now: requests that were being answered may have waited for frames.
    stop.request();
    following.await.map_err(|_| StoreError::Panicked)?
}

/// What a replica says of its position, which `laneway journal check` compares with the journal.
fn position(view: &View) -> Details {
    let view = view.clone();
    Arc::new(move || {
        let Position { number, hash } = view.applied();
        vec![
            ("journal_seq", number.to_string()),
            ("journal_hash", hash.to_string()),
            (READS_FORMAT, FORMAT.to_string()),
        ]
    })
}

/// The end of the journal when the store starts: what it shows before that would be older than what it showed last.
async fn end_of(bus: &Bus, stream: &str) -> u64 {
    let mut said: Option<Instant> = None;
    loop {
        if let Ok(stream) = bus.jetstream().get_stream(stream).await {
            return stream.cached_info().state.last_sequence;
        }
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            tracing::info!("waiting for the journal: a scheduler makes it");
            said = Some(Instant::now());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits for the frames up to `end` and for the hash key, without which nothing can be named.
async fn caught_up(view: &View, end: u64) {
    let mut changes = view.changes();
    let there = |applied: u64| applied >= end && view.hash_key().is_some();
    loop {
        if timeout(SAY_EVERY, changes.wait_for(|applied| there(applied.number))).await.is_ok() {
            return;
        }
        tracing::info!(applied = view.applied().number, end, "reading the journal");
    }
}
