//! The command line: one file per family of verbs.
#![allow(clippy::doc_markdown, reason = "the docs of arguments are what --help shows")]

mod ask;
mod budget;
mod completions;
mod context;
mod decode;
mod doctor;
mod events;
mod intake;
mod journal;
mod limits;
mod provision;
mod replay;
mod request;
mod run;
mod schedule;
mod serve;
mod session;
mod stream;
mod up;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use laneway_runtime::config::{Config, Overlay};
use laneway_runtime::telemetry::{self, Guard};

use crate::exit::{CliError, EXIT_CODES, Exit};
use crate::{demo, top};
pub(crate) use context::Context;
pub(crate) use events::{payload_text, verdict};
pub(crate) use journal::RepairArgs;
pub(crate) use up::on_signals;

/// Durable sessions and a scheduler for model calls, on top of NATS.
#[derive(Debug, Parser)]
#[command(name = "laneway", version, after_help = EXIT_CODES, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// Options that every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every verb takes. A flag wins over `LANEWAY_*` in the environment, which wins over the file.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Configuration file, as laneway.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where NATS is, as nats://127.0.0.1:4222; several with commas between.
    #[arg(long, global = true, value_name = "URL")]
    pub nats: Option<String>,
    /// NATS credentials file (JWT and seed).
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// File with an NKEY seed.
    #[arg(long, global = true, value_name = "FILE")]
    pub nkey: Option<PathBuf>,
    /// Certificates of the authorities that NATS is trusted by, in PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our certificate for NATS, in PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of our certificate, in PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// First token of every subject and name of the streams [default: laneway].
    #[arg(long, global = true, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Replicas of the streams: 1 on one nats-server, 3 on a cluster [default: 1].
    #[arg(long, global = true, value_name = "N")]
    pub replicas: Option<usize>,
    /// How the log on stderr is written [default: text].
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log: Option<String>,
    /// Write JSON, one value per line, instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
    /// Who asks, as it is recorded with every change.
    #[arg(long, global = true, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "cli")]
    pub actor: String,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts all services in this process, and a nats-server where none is named.
    Up(up::UpArgs),
    /// Starts one service.
    #[command(subcommand)]
    Serve(serve::Serve),
    /// Asks a model and shows the answer while it comes.
    Ask(ask::AskArgs),
    /// Creates, shows and changes sessions.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Submits, shows, watches, explains, cancels and retries runs.
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Shows and changes what may run at a time and in a minute.
    #[command(subcommand)]
    Limits(limits::LimitsCommand),
    /// Shows and sets what a session or work packet may use.
    #[command(subcommand)]
    Budget(budget::BudgetCommand),
    /// Shows and replays submits that waited in a stream and were refused.
    #[command(subcommand)]
    Intake(intake::IntakeCommand),
    /// Shows lanes, limits, workers and the longest waits, live.
    Top(top::TopArgs),
    /// Shows and checks the public events.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Checks the journal, and repairs one that was damaged.
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Turns MessagePack on stdin into JSON; JSON and text pass through.
    ///
    /// Made for `nats sub --translate 'laneway decode' 'laneway.>'`. Frames of the journal are shown as arrays.
    Decode,
    /// Says what is wrong with a deployment and how to mend it.
    Doctor(doctor::DoctorArgs),
    /// Shows or makes every stream and consumer.
    Provision(provision::ProvisionArgs),
    /// Folds a recorded journal and shows the state, or models what other limits would have done with it.
    Replay(replay::ReplayArgs),
    /// Does the main job in front of you, from nothing, and cleans up.
    Demo(demo::DemoArgs),
    /// Writes the completions of a shell, as `laneway completions bash > /etc/bash_completion.d/laneway`.
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Does what was asked.
    pub async fn run(self) -> Result<Exit, CliError> {
        if let Command::Completions(args) = &self.command {
            return completions::run(args);
        }
        let context = Context::new(&self.globals, self.command.overlay())?;
        // Sends the last spans when it is dropped, behind everything else.
        let _telemetry = self.command.telemetry(&context.config)?;
        match self.command {
            Command::Up(args) => up::run(&context, &args).await,
            Command::Serve(service) => serve::run(&context, &service).await,
            Command::Ask(args) => ask::run(&context, args).await,
            Command::Session(command) => session::run(&context, command).await,
            Command::Run(command) => run::run(&context, command).await,
            Command::Limits(command) => limits::run(&context, command).await,
            Command::Budget(command) => budget::run(&context, command).await,
            Command::Intake(command) => intake::run(&context, command).await,
            Command::Top(args) => top::run(&context, &args).await,
            Command::Events(command) => events::run(&context, command).await,
            Command::Journal(command) => journal::run(&context, command).await,
            Command::Decode => decode::run(&context),
            Command::Doctor(args) => doctor::run(&context, &args).await,
            Command::Provision(args) => provision::run(&context, &args).await,
            Command::Replay(args) => Box::pin(replay::run(&context, &args)).await,
            Command::Demo(args) => Box::pin(demo::run(&context, &args)).await,
            Command::Completions(args) => completions::run(&args),
        }
    }
}

impl Command {
    /// What the verb's own flags say of the configuration.
    fn overlay(&self) -> Overlay {
        match self {
            Self::Up(args) => args.overlay(),
            Self::Serve(service) => service.overlay(),
            Self::Ask(_)
            | Self::Session(_)
            | Self::Run(_)
            | Self::Limits(_)
            | Self::Budget(_)
            | Self::Intake(_)
            | Self::Top(_)
            | Self::Events(_)
            | Self::Journal(_)
            | Self::Decode
            | Self::Doctor(_)
            | Self::Provision(_)
            | Self::Replay(_)
            | Self::Demo(_)
            | Self::Completions(_) => Overlay::default(),
        }
    }

    /// Starts the log, and the export of spans where one is configured.
    fn telemetry(&self, config: &Config) -> Result<Guard, CliError> {
        let (name, is_service) = match self {
            Self::Up(_) => ("up", true),
            Self::Serve(service) => (service.service().as_str(), true),
            Self::Demo(_) => ("demo", false),
            Self::Top(_) => ("top", false),
            Self::Ask(_)
            | Self::Session(_)
            | Self::Run(_)
            | Self::Limits(_)
            | Self::Budget(_)
            | Self::Intake(_)
            | Self::Events(_)
            | Self::Journal(_)
            | Self::Decode
            | Self::Doctor(_)
            | Self::Provision(_)
            | Self::Replay(_)
            | Self::Completions(_) => ("cli", false),
        };
        // A person who asks for one thing sees only what goes wrong, unless another level was chosen.
        let chosen = is_service || config.log_level != Config::default().log_level;
        // A log would be written across the live screen.
        let unchosen = if matches!(self, Self::Top(args) if args.is_live()) { "error,async_nats=off" } else { "warn" };
        let level = if chosen { config.log_level.as_str() } else { unchosen };
        Ok(telemetry::init(name, config.log, level)?)
    }
}

#[cfg(test)]
mod tests;
