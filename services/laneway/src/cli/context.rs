//! What every verb works with: the configuration, the output, the person, and the way to NATS.

use std::time::Duration;

use laneway_bus::{Bus, ConnectOptions, shown};
use laneway_contract::Actor;
use laneway_runtime::config::{Config, LogFormat, Overlay};

use super::Globals;
use super::request::actor_value;
use crate::client::Client;
use crate::exit::CliError;
use crate::output::Output;

/// How long a verb of a person looks for NATS. Services wait as long as it takes.
const CONNECT: Duration = Duration::from_secs(5);

/// The world of a verb.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where the result goes.
    pub(crate) out: Output,
    /// File, variables and flags.
    pub(crate) config: Config,
    /// Who asks.
    pub(crate) actor: Actor,
}

impl Context {
    /// Reads the configuration, with the verb's own flags in `overlay`.
    pub(crate) fn new(globals: &Globals, overlay: Overlay) -> Result<Self, CliError> {
        let overlay = Overlay {
            nats: globals.nats.clone(),
            creds: globals.creds.clone(),
            nkey: globals.nkey.clone(),
            tls_ca: globals.tls_ca.clone(),
            tls_cert: globals.tls_cert.clone(),
            tls_key: globals.tls_key.clone(),
            prefix: globals.prefix.clone(),
            replicas: globals.replicas,
            log: globals.log.as_deref().map(|log| if log == "json" { LogFormat::Json } else { LogFormat::Text }),
            ..overlay
        };
        let config = Config::load(globals.config.as_deref(), &overlay)?;
        Ok(Self { out: Output::new(globals.json), config, actor: actor_value(&globals.actor) })
    }

    /// How to connect to `url` as `name`, which `nats server report connections` shows.
    pub(crate) fn connect_options(&self, url: &str, name: &str) -> ConnectOptions {
        let config = &self.config;
        ConnectOptions {
            url: url.to_owned(),
            prefix: config.prefix.clone(),
            name: format!("laneway-{name}"),
            creds: config.creds.clone(),
            nkey: config.nkey.clone(),
            tls_ca: config.tls_ca.clone(),
            tls_cert: config.tls_cert.clone(),
            tls_key: config.tls_key.clone(),
            replicas: config.replicas,
        }
    }

    /// Connects a service, waiting for NATS as long as it takes.
    pub(crate) async fn connect_service(&self, url: &str, name: &str) -> Result<Bus, CliError> {
        Ok(Bus::connect(self.connect_options(url, name)).await?)
    }

    /// Connects for a person, who is told soon when there is no NATS.
    pub(crate) async fn connect(&self) -> Result<Bus, CliError> {
        let url = &self.config.nats;
        match tokio::time::timeout(CONNECT, Bus::connect(self.connect_options(url, "cli"))).await {
            Ok(bus) => Ok(bus?),
            Err(_) => Err(CliError::NoNats { url: shown(url), seconds: CONNECT.as_secs() }),
        }
    }

    /// A client of the services.
    pub(crate) async fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(self.connect().await?))
    }
}
