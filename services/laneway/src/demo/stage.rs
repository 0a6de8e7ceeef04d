//! What the demonstration runs on: a nats-server, all services, and a model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use laneway_contract::{Backend, Capabilities, Limits, ModelId, ModelSpec, ProviderKind, ProviderSpec, ServiceName};
use laneway_runtime::Shutdown;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::DemoArgs;
use super::model_server::ModelServer;
use crate::cli::Context;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::nats_child::{NatsChild, free_port};
use crate::{ready, services};

/// The provider that the model server is known as.
const PROVIDER: &str = "smollm";
/// The model as the server calls it.
const MODEL: &str = "smollm/smollm2";
/// A word every 40 ms, 70 words: long enough to be cancelled in the middle.
const ECHO: &str = "echo/delay=40,tokens=70";
/// Tokens of one conversation in the model server: its context is shared by four.
const CONTEXT_WINDOW: u64 = 2_048;
/// Runs of the model at a time: one for each session.
const AT_A_TIME: u32 = 3;
/// A scheduler that starts on an empty journal leads within this time.
const LEADER: Duration = Duration::from_secs(10);
/// Whoever interrupts does not want to wait for answers.
const DRAIN: Duration = Duration::from_millis(200);

/// What the audience sees.
pub(super) struct Stage {
    /// The services, as a program sees them.
    pub(super) client: Client,
    /// The model that is asked.
    pub(super) model: ModelId,
}

/// Everything that was started and has to be ended.
pub(super) struct Backstage {
    services: Shutdown,
    running: JoinHandle<Result<Exit, CliError>>,
    model_server: Option<ModelServer>,
    // Removed at the very end.
    _folder: Option<TempDir>,
}

/// Starts everything; nothing when it was interrupted.
pub(super) async fn build(
    context: &Context,
    args: &DemoArgs,
    signals: &Shutdown,
) -> Result<Option<(Stage, Backstage)>, CliError> {
    let Some(model_server) = signals.unless_requested(model_server(context, args)).await else {
        return Ok(None);
    };
    let model_server = model_server?;
    let (data, folder) = folder(args)?;
    // Not interrupted, so that its folder is removed only when it has ended.
    let nats = NatsChild::start(&data, free_port().await?).await?;
    context.out.line(format!("  nats-server   {} (sync_interval: always)", nats.url()))?;

    let mut context = context.clone();
    context.config.nats = nats.url().to_owned();
    context.config.data.clone_from(&data);
    let model = ModelId::parse(if model_server.is_some() { MODEL } else { ECHO });
    let model = model.map_err(|error| CliError::Demo(error.to_string()))?;
    if let Some(server) = &model_server {
        context.config.providers.insert(PROVIDER.to_owned(), provider(&server.endpoint));
    }
    let limits = Limits { models: BTreeMap::from([(model.clone(), AT_A_TIME)]), ..Limits::default() };
    context.config.limits = Some(limits);

    let client = Client::new(context.connect().await?);
    // The services make their streams themselves; made before, none of them has to wait for another.
    laneway_bus::ensure_streams(client.bus()).await?;
    let services = Shutdown::new();
    let of_services = services.clone();
    let running = laneway_runtime::spawn("services", async move {
        services::run(&context, Some(nats), ServiceName::ALL, DRAIN, of_services).await
    });
    let backstage = Backstage { services, running, model_server, _folder: folder };
    Ok(Some((Stage { client, model }, backstage)))
}

impl Stage {
    /// Waits until all services answer and the leader has heard the worker.
    pub(super) async fn ready(&self, context: &Context) -> Result<(), CliError> {
        ready::wait_for(self.client.bus(), ServiceName::ALL).await?;
        while self.client.status(LEADER).await?.workers.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        context.out.line("  services      session-store, scheduler, worker, flight-recorder")?;
        context.out.line(format!("  model         {}, at most {AT_A_TIME} runs at a time", self.model))?;
        Ok(())
    }
}

impl Backstage {
    /// Waits until a service has ended by itself, which none should.
    pub(super) async fn broken(&mut self) -> CliError {
        match (&mut self.running).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => CliError::Demo("a service stopped: its log is above".to_owned()),
        }
    }

    /// Ends everything, in order.
    pub(super) async fn stop(self) {
        self.services.request();
        if !self.running.is_finished() {
            // How it ended is told by the log; what counts here is that nothing is left.
            let ended = self.running.await;
            tracing::debug!(?ended, "services ended");
        }
        if let Some(server) = self.model_server {
            server.stop().await;
        }
    }
}

fn folder(args: &DemoArgs) -> Result<(PathBuf, Option<TempDir>), CliError> {
    if let Some(data) = &args.data {
        return Ok((data.clone(), None));
    }
    let folder = tempfile::Builder::new().prefix("laneway-demo-").tempdir();
    let folder = folder.map_err(|source| CliError::File { what: "temporary folder".to_owned(), source })?;
    Ok((folder.path().to_owned(), Some(folder)))
}

async fn model_server(context: &Context, args: &DemoArgs) -> Result<Option<ModelServer>, CliError> {
    if args.echo {
        return Ok(None);
    }
    let server = ModelServer::start(&args.python, &args.model_server).await?;
    context.out.line(format!("  model server  {} (SmolLM2-135M)", server.endpoint))?;
    Ok(Some(server))
}

fn provider(endpoint: &str) -> ProviderSpec {
    ProviderSpec {
        kind: ProviderKind::Openai,
        backend: Backend::Local,
        endpoint: Some(format!("{}/", endpoint.trim_end_matches('/'))),
        api_key_env: None,
        api_key_file: None,
        defaults: ModelSpec {
            capabilities: Capabilities { streaming: true, multi_turn: true, ..Capabilities::default() },
            context_window: Some(CONTEXT_WINDOW),
            output_limit: Some(CONTEXT_WINDOW / 2),
            input_usd_per_million: None,
            output_usd_per_million: None,
        },
        models: BTreeMap::new(),
    }
}
