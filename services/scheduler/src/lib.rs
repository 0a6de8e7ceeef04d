//! The scheduler: the driver around the engine. It leads the journal or stands by, decides what endpoints, workers, the
//! intake and time ask for, and lets answers and dispatches leave when their events are durable.
//!
//! | part | what it is |
//! |---|---|
//! | `leader` | the one task that owns state, hints and journal: what comes in, what goes out |
//! | `leader::core` | what it does, without I/O: roles, turns, effects |
//! | [`fold`] | frames of the journal become the state |
//! | `desk` | how everything else hands orders to that task and gets answers |
//! | `waiters` | who waits for the end of which run |
//! | `lease` | until when replies may leave |
//! | `office` | what is open only while leading: endpoints, intake and advisories |
//! | `endpoints` | what the leader answers |
//! | `intake` | submits that waited in a stream |
//! | `advisories` | messages that are not delivered, noted in the journal |
//! | `edge` | requests become commands: checked, hashed, every id fixed |
//! | `publisher` | dispatches and cancel signals into their streams |
//! | `recorded` | how far the journal had come, by the public events |
//! | `reader` | orders that wait for what memory gave up |
//! | `replica` | what is asked of a store replica: ended runs, sessions that memory gave up, artifacts |
//! | `room` | replies that end early instead of growing too large |
//! | `start` | the state at a start: from a snapshot and the frames behind it |
//! | `snapshots` | when a snapshot is taken, and how |

mod advisories;
mod desk;
mod edge;
mod endpoints;
mod fold;
mod intake;
mod leader;
mod lease;
mod office;
mod publisher;
mod raising;
mod reader;
mod recorded;
mod replica;
mod room;
#[cfg(test)]
mod simulation;
mod snapshots;
mod start;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use laneway_bus::{Bus, BusError, READS_FORMAT, Service};
use laneway_contract::{Catalog, Limits, MemoryLimits, SNAPSHOT_EVERY_BYTES, SNAPSHOT_EVERY_MS, ServiceName};
use laneway_journal::{Fault, Formats};
use laneway_runtime::Shutdown;

pub use fold::fold;

/// What a scheduler needs to know.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// The name of this process, shown as the leader.
    pub instance: String,
    /// The limits to put in force when it leads; none keeps those that the journal says.
    pub limits: Option<Limits>,
    /// The providers that runs may name.
    pub catalog: Catalog,
    /// How much it holds in memory.
    pub memory: MemoryLimits,
    /// When snapshots are taken.
    pub snapshots: SnapshotSchedule,
    /// The formats of frames that it reads and writes: those of this program, but for tests.
    pub formats: Formats,
}

/// When the leader takes a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotSchedule {
    /// When so many bytes of frames were written since the end of the last, and twice as many as that one has.
    pub every_bytes: u64,
    /// After this time, when at least a 64th of those bytes was written.
    pub every: Duration,
    /// The least time from the end of one to the begin of the next.
    pub pause: Duration,
    /// That time is also at least so many times as long as the last one took.
    pub rest: u32,
}

impl Default for SnapshotSchedule {
    fn default() -> Self {
        Self {
            every_bytes: SNAPSHOT_EVERY_BYTES,
            every: Duration::from_millis(SNAPSHOT_EVERY_MS),
            pause: Duration::from_mins(1),
            rest: 10,
        }
    }
}

/// Why a scheduler ends.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// Streams, consumers or subscriptions were refused.
    #[error("bus: {0}")]
    Bus(#[from] BusError),
    /// What the stream holds is not the journal that was read before.
    #[error("{}", .0.halt())]
    Journal(Fault),
    /// The fold of the journal here differs from the leader's.
    #[error(
        "diverged: the state at frame {number} is not the one that its leader had; stop, and report it with the journal"
    )]
    Diverged {
        /// The frame with the digest.
        number: u64,
    },
    /// Two turns panicked within a minute.
    #[error("panicked: a second turn panicked within a minute; the log has both places")]
    Panicked,
    /// The system has no randomness for the hash key.
    #[error("random: {0}")]
    Random(#[from] std::io::Error),
}

impl SchedulerError {
    /// What is wrong with the journal, where that is what ended it.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Journal(fault) => Some(fault),
            Self::Bus(_) | Self::Diverged { .. } | Self::Panicked | Self::Random(_) => None,
        }
    }
}

/// Runs a scheduler until `shutdown` is requested, or something ends it. Any number may run: one leads.
pub async fn run(bus: Bus, config: SchedulerConfig, shutdown: Shutdown) -> Result<(), SchedulerError> {
    // Answers what `nats micro` asks, also while another leads: a scheduler that stands by does its part.
    let format = config.formats.newest.to_string();
    let details = Arc::new(move || vec![(READS_FORMAT, format.clone())]);
    let standing = Service::start_described(&bus, ServiceName::Scheduler, "scheduler", details, Vec::new()).await?;
    let ended = Box::pin(leader::run(bus, config, shutdown)).await;
    standing.stop().await;
    ended
}
