//! `laneway up`: all services in one process.

use std::path::PathBuf;

use clap::Args;
use laneway_bus::{Bus, shown};
use laneway_contract::ServiceName;
use laneway_runtime::Shutdown;
use laneway_runtime::config::Overlay;
use laneway_worker::WorkerConfig;
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use crate::exit::{CliError, Exit};
use crate::nats_child::NatsChild;
use crate::{ready, services};

/// Arguments of `up`.
#[derive(Args, Debug)]
#[command(
    after_help = "Without --nats (and LANEWAY_NATS, and nats in the configuration file) a nats-server is started on \
    this machine,\nwith sync_interval: always, and ended together with this process. It is looked for in PATH and .tools/bin."
)]
pub struct UpArgs {
    /// The folder of the nats-server and the session store [default: .laneway].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The port of the nats-server that is started.
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    port: u16,
    /// Runs that the worker executes at a time [default: 16].
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
}

impl UpArgs {
    pub(super) fn overlay(&self) -> Overlay {
        let mut overlay = Overlay { data: self.data.clone(), ..Overlay::default() };
        overlay.worker.slots = self.slots;
        overlay
    }
}

pub(super) async fn run(context: &Context, args: &UpArgs) -> Result<Exit, CliError> {
    let shutdown = on_signals()?;
    let nats = if context.config.nats_is_named {
        None
    } else {
        let started = shutdown.unless_requested(NatsChild::start(&context.config.data, args.port)).await;
        let Some(nats) = started else {
            return Ok(Exit::Done);
        };
        Some(nats?)
    };
    let url = nats.as_ref().map_or(context.config.nats.as_str(), NatsChild::url).to_owned();
    let own = nats.is_some();
    let running = services::run(context, nats, ServiceName::ALL, WorkerConfig::DRAIN, shutdown);
    tokio::pin!(running);
    tokio::select! {
        biased;
        ended = &mut running => return ended,
        ready = say_ready(context, &url, own) => ready?,
    }
    running.await
}

/// A stop by SIGTERM, SIGINT, or the end of the terminal, which would leave the nats-server behind.
pub(crate) fn on_signals() -> Result<Shutdown, CliError> {
    let handlers = |source| CliError::File { what: "signal handlers".to_owned(), source };
    let shutdown = Shutdown::on_signals().map_err(handlers)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(handlers)?;
    let request = shutdown.clone();
    laneway_runtime::spawn("hangup", async move {
        if hangup.recv().await.is_some() {
            request.request();
        }
    });
    Ok(shutdown)
}

async fn say_ready(context: &Context, url: &str, own: bool) -> Result<(), CliError> {
    let bus: Bus = context.connect_service(url, "up").await?;
    ready::wait_for(&bus, ServiceName::ALL).await?;
    if context.out.is_json() {
        return Ok(context.out.value(&serde_json::json!({"ready": true, "nats": shown(url)}))?);
    }
    let data = if own { format!(", data in {}", context.config.data.display()) } else { String::new() };
    // With another URL than the default, a client has to be told.
    let hint = if url == laneway_runtime::config::Config::default().nats {
        String::new()
    } else {
        format!(" --nats {}", shown(url))
    };
    context.out.line(format!("ready: {}{data}. Try: laneway{hint} ask echo/default 'hello there'", shown(url)))?;
    Ok(())
}
