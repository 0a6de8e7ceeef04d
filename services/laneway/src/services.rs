//! The services of this process: each on a connection of its own, with the same code paths as in a process of its own.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use laneway_bus::{Bus, ConnectOptions};
use laneway_contract::{Catalog, ServiceName, Token, WorkerId};
use laneway_journal::{Fault, Formats};
use laneway_runtime::config::Config;
use laneway_runtime::{Outcome, Shutdown, Supervisor};
use laneway_scheduler::{SchedulerConfig, SnapshotSchedule};
use laneway_session_store::StoreConfig;
use laneway_worker::WorkerConfig;

use crate::cli::Context;
use crate::exit::{CliError, Exit};
use crate::nats_child::NatsChild;

/// What services may take beyond the time to drain: the reports of attempts that were cut off.
const REPORT: Duration = Duration::from_secs(10);

/// Runs services until a stop is requested or one of them ends, then ends the own nats-server, where there is one.
/// Running attempts are cut off when they take longer than `drain` after the request.
pub(crate) async fn run(
    context: &Context,
    mut nats: Option<NatsChild>,
    services: &[ServiceName],
    drain: Duration,
    shutdown: Shutdown,
) -> Result<Exit, CliError> {
    let url = nats.as_ref().map_or(context.config.nats.as_str(), NatsChild::url);
    let mut supervisor = Supervisor::new(shutdown.clone(), drain + REPORT);
    let damaged = Arc::new(AtomicBool::new(false));
    let has_worker = services.contains(&ServiceName::Worker);
    // IMPORTANT: a worker ends before the others, because the reports of its last attempts need a leader.
    let behind_worker = if has_worker { Shutdown::new() } else { shutdown.clone() };
    for service in services {
        let options = context.connect_options(url, service.as_str());
        let (config, name) = (context.config.clone(), service.as_str());
        if *service == ServiceName::Worker {
            let part = Part { service: *service, config, drain, shutdown: shutdown.clone(), damaged: damaged.clone() };
            let worker = Box::pin(part.serve(options));
            let others = RequestAtEnd(behind_worker.clone());
            supervisor.spawn(name, async move {
                let _others = others;
                worker.await
            });
        } else {
            let (shutdown, damaged) = (behind_worker.clone(), damaged.clone());
            supervisor.spawn(name, Part { service: *service, config, drain, shutdown, damaged }.serve(options));
        }
    }
    let lost = async {
        match nats.as_mut() {
            Some(nats) => nats.ended().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = supervisor.run() => outcome,
        // Nothing can drain without NATS: the services are dropped, as a crash would.
        error = lost => return Err(error.into()),
    };
    if let Some(nats) = nats {
        nats.stop().await?;
    }
    Ok(match outcome {
        Outcome::Drained => Exit::Done,
        Outcome::Failed if damaged.load(Ordering::Relaxed) => Exit::JournalDamaged,
        Outcome::Failed => Exit::Fault,
    })
}

/// Asks the others to stop when the worker has ended, also by a panic.
struct RequestAtEnd(Shutdown);

impl Drop for RequestAtEnd {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// One service of this process.
struct Part {
    service: ServiceName,
    config: Config,
    drain: Duration,
    shutdown: Shutdown,
    /// Set when it ends because the journal is damaged.
    damaged: Arc<AtomicBool>,
}

impl Part {
    async fn serve(self, options: ConnectOptions) -> Result<(), String> {
        let Some(bus) = self.shutdown.unless_requested(Box::pin(Bus::connect(options))).await else {
            return Ok(());
        };
        let Self { service, config, drain, shutdown, damaged } = self;
        let note = |fault: Option<&Fault>| {
            if fault.is_some_and(Fault::is_damage) {
                damaged.store(true, Ordering::Relaxed);
            }
        };
        let bus = bus.map_err(text)?;
        let catalog = Catalog::built_in().map_err(text)?.with(config.providers.clone());
        match service {
            ServiceName::SessionStore => {
                let config = StoreConfig { path: config.store_path(), catalog };
                let ended = laneway_session_store::run(bus, config, shutdown).await;
                ended.inspect_err(|error| note(error.fault())).map_err(text)
            }
            ServiceName::Scheduler => {
                let memory = config.scheduler.memory();
                let snapshots = SnapshotSchedule {
                    every_bytes: config.scheduler.snapshot_every_bytes,
                    every: Duration::from_secs(config.scheduler.snapshot_every_seconds),
                    ..SnapshotSchedule::default()
                };
                let (instance, limits) = (config.instance, config.limits);
                let formats = Formats::default();
                let config = SchedulerConfig { instance, limits, catalog, memory, snapshots, formats };
                let ended = Box::pin(laneway_scheduler::run(bus, config, shutdown)).await;
                ended.inspect_err(|error| note(error.fault())).map_err(text)
            }
            ServiceName::Worker => {
                let worker_id = config.worker.worker_id.clone().map_or_else(|| worker_id(&config.instance), Ok)?;
                let base = WorkerConfig::new(worker_id, config.worker.slots, catalog);
                let config = WorkerConfig { pool: config.worker.pool, models: config.worker.models, drain, ..base };
                laneway_worker::run(bus, config, shutdown).await.map_err(text)
            }
            ServiceName::FlightRecorder => {
                let ended = laneway_flight_recorder::run(bus, shutdown).await;
                ended.inspect_err(|error| note(error.fault())).map_err(text)
            }
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Whether a worker is the one that is configured here, or was given no name on this host.
pub(crate) fn is_own_worker(config: &Config, found: &WorkerId) -> bool {
    let configured = config.worker.worker_id.clone().or_else(|| worker_id(&config.instance).ok());
    let without_random = |id: &WorkerId| id.as_str().rsplit_once('-').map(|(host, _)| host.to_owned());
    let of_host = worker_id(&format!("{}-00000000", laneway_runtime::host())).ok();
    configured.as_ref() == Some(found) || of_host.is_some_and(|id| without_random(&id) == without_random(found))
}

/// The name of a worker that was given none: the instance's, in the letters that a subject can hold.
pub(crate) fn worker_id(instance: &str) -> Result<WorkerId, String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    // The end is what tells instances of one host apart.
    let tail: Vec<char> = instance.chars().map(plain).rev().take(64).collect();
    Token::parse(&tail.into_iter().rev().collect::<String>()).map_err(text)
}

#[cfg(test)]
mod tests;
