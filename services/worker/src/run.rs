//! A worker from start to end.

use std::sync::Arc;

use laneway_bus::{Bus, BusError};
use laneway_contract::{Announcement, PoolId};
use laneway_runtime::Shutdown;
use secrecy::SecretString;

use crate::announce::announce;
use crate::config::WorkerConfig;
use crate::control::{self, Stops};
use crate::fetch::{fetch, pool_consumer};
use crate::serving::{Serving, ServingError};
use crate::slots::Slots;

/// Why a worker ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its configuration asks for what it cannot serve.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The streams that it needs cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What all attempts of a worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) bus: Bus,
    pub(crate) config: WorkerConfig,
    pub(crate) serving: Serving,
    pub(crate) slots: Slots,
    pub(crate) stops: Arc<Stops>,
    /// A stop was requested: nothing new is begun.
    pub(crate) shutdown: Shutdown,
    /// The time to drain is over: what still runs is cut off.
    pub(crate) cut_off: Shutdown,
}

impl Worker {
    /// The pool that it takes dispatches of.
    pub(crate) fn pool(&self) -> &PoolId {
        &self.serving.pool
    }
}

/// Serves until a stop is requested, then lets running attempts finish within the configured time.
pub async fn run(bus: Bus, config: WorkerConfig, shutdown: Shutdown) -> Result<(), WorkerError> {
    let serving = Serving::new(&config, &environment)?;
    let announcement = Announcement {
        worker_id: config.worker_id.clone(),
        pool: serving.pool.clone(),
        models: serving.models.clone(),
        slots: config.slots,
    };
    let worker = Arc::new(Worker {
        slots: Slots::new(config.slots),
        bus,
        config,
        serving,
        stops: Arc::default(),
        shutdown,
        cut_off: Shutdown::new(),
    });
    // Announced only once dispatches can be taken, so that an announced slot is one that serves.
    let Some(consumer) = pool_consumer(&worker).await? else {
        return Ok(());
    };
    tracing::info!(
        worker_id = %worker.config.worker_id,
        pool = %worker.pool(),
        models = worker.serving.models.join(","),
        slots = worker.config.slots,
        "ready"
    );
    let served = async {
        fetch(&worker, consumer).await?;
        drain(&worker).await;
        Ok(())
    };
    tokio::select! {
        ended = served => ended,
        () = announce(&worker.bus, announcement, &worker.shutdown) => Ok(()),
        () = control::listen(&worker) => Ok(()),
    }
}

/// The pool of a worker with this configuration and the API keys of this process.
pub fn pool(config: &WorkerConfig) -> Result<PoolId, WorkerError> {
    Ok(Serving::pool(config, &environment)?)
}

/// Waits for running attempts; cuts off those that take too long, and waits for their reports.
async fn drain(worker: &Worker) {
    if tokio::time::timeout(worker.config.drain, worker.slots.all_free()).await.is_err() {
        tracing::warn!(seconds = worker.config.drain.as_secs(), "attempts still run; they are cut off");
        worker.cut_off.request();
        worker.slots.all_free().await;
    }
    if let Err(error) = worker.bus.flush().await {
        tracing::debug!(%error, "not flushed");
    }
}

/// API keys are in the worker's environment alone: they pass through no configuration that could be shown.
#[allow(clippy::disallowed_methods, reason = "keys are read where they are used, and nowhere else")]
fn environment(variable: &str) -> Option<SecretString> {
    std::env::var(variable).ok().map(SecretString::from)
}
