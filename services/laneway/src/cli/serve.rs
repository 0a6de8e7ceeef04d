//! `laneway serve …`: one service.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use laneway_contract::ServiceName;
use laneway_runtime::config::Overlay;
use laneway_worker::WorkerConfig;

use super::Context;
use super::up::on_signals;
use crate::exit::{CliError, Exit};
use crate::services;

/// The services.
#[derive(Debug, Subcommand)]
pub enum Serve {
    /// Keeps sessions, messages, artifacts and ended runs; any number of replicas.
    SessionStore {
        /// What every service takes.
        #[command(flatten)]
        common: ServeArgs,
        /// The folder of the view, one process at a time [default: store in the data folder].
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// Queues, limits, leases and settles runs; one leads, any number stand by.
    Scheduler {
        /// What every service takes.
        #[command(flatten)]
        common: ServeArgs,
    },
    /// Calls the providers; any number.
    Worker {
        /// What every service takes.
        #[command(flatten)]
        common: ServeArgs,
        /// The name of its pool [default: derived from the models].
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
        /// Its own name [default: derived from the instance].
        #[arg(long, value_name = "NAME")]
        worker_id: Option<String>,
        /// Runs that it executes at a time [default: 16].
        #[arg(long, value_name = "N")]
        slots: Option<u32>,
        /// Models that it serves, as openai/gpt-5 or echo/*; with commas between [default: all that its keys allow].
        #[arg(long, value_name = "MODELS", value_delimiter = ',')]
        models: Option<Vec<String>>,
    },
    /// Writes the public events; one writes, any number stand by.
    FlightRecorder {
        /// What every service takes.
        #[command(flatten)]
        common: ServeArgs,
    },
}

/// What every service takes.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The folder for what this process keeps [default: .laneway].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The name of this process, another for each [default: the host's name and a random part].
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

impl Serve {
    pub(super) const fn service(&self) -> ServiceName {
        match self {
            Self::SessionStore { .. } => ServiceName::SessionStore,
            Self::Scheduler { .. } => ServiceName::Scheduler,
            Self::Worker { .. } => ServiceName::Worker,
            Self::FlightRecorder { .. } => ServiceName::FlightRecorder,
        }
    }

    pub(super) fn overlay(&self) -> Overlay {
        let mut overlay = Overlay::default();
        let common = match self {
            Self::SessionStore { common, path } => {
                overlay.store.path.clone_from(path);
                common
            }
            Self::Worker { common, pool, worker_id, slots, models } => {
                overlay.worker.pool.clone_from(pool);
                overlay.worker.worker_id.clone_from(worker_id);
                overlay.worker.slots = *slots;
                overlay.worker.models.clone_from(models);
                common
            }
            Self::Scheduler { common } | Self::FlightRecorder { common } => common,
        };
        overlay.data.clone_from(&common.data);
        overlay.instance.clone_from(&common.instance);
        overlay
    }
}

pub(super) async fn run(context: &Context, service: &Serve) -> Result<Exit, CliError> {
    let shutdown = on_signals()?;
    services::run(context, None, &[service.service()], WorkerConfig::DRAIN, shutdown).await
}
