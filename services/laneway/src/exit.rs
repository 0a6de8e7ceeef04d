//! How a command ends: its exit code, and the error that leads to it.

use std::io;
use std::process::ExitCode;

use laneway_bus::BusError;
use laneway_contract::{ApiError, ErrorBody, ErrorCode};
use laneway_runtime::config::ConfigError;
use laneway_runtime::telemetry::TelemetryError;

use crate::nats_child::NatsChildError;
use crate::replay::ReplayError;

/// The table of exit codes, as `--help` shows it.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    refused by the service; its error code is on stderr
  2    wrong usage or configuration
  3    NATS or the service is not available
  4    the run failed, was cancelled, or has not ended in the given time
  5    a check found something wrong (doctor, events verify, journal check, provision)
  6    a fault on this machine: files, nats-server, or a service that stopped
  7    the journal, or a recording of it, is damaged: stderr names the frames (replay, and services:
       run `laneway journal check`)
  130  interrupted";

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Refused by the service.
    Refused,
    /// Wrong usage or configuration.
    Usage,
    /// NATS or the service is not available.
    Unavailable,
    /// A run failed, was cancelled, or has not ended in time.
    RunNotCompleted,
    /// A check found something wrong.
    CheckFailed,
    /// A fault on this machine.
    Fault,
    /// The journal, or a recording of it, is damaged.
    JournalDamaged,
    /// Interrupted by a signal.
    Interrupted,
}

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::RunNotCompleted => 4,
            Self::CheckFailed => 5,
            Self::Fault => 6,
            Self::JournalDamaged => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A service refused.
    #[error("{0}")]
    Refused(#[from] ApiError),
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The log or the export of spans cannot be set up.
    #[error("{0}")]
    Telemetry(#[from] TelemetryError),
    /// NATS answered with an error.
    #[error("NATS: {0}")]
    Bus(#[from] BusError),
    /// NATS did not answer.
    #[error("no NATS at {url} within {seconds} s: start one with `laneway up`, or name yours with --nats")]
    NoNats {
        /// Where it was looked for.
        url: String,
        /// How long.
        seconds: u64,
    },
    /// JetStream answered with an error.
    #[error("{doing}: {reason}")]
    Stream {
        /// What was tried.
        doing: String,
        /// What came back.
        reason: String,
    },
    /// The own nats-server did not start or ended.
    #[error("{0}")]
    NatsChild(#[from] NatsChildError),
    /// A journal cannot be replayed.
    #[error("{0}")]
    Replay(#[from] ReplayError),
    /// What the demonstration needs is missing or did not work.
    #[error("{0}")]
    Demo(String),
    /// A store's folder cannot be read, or does not belong to the journal.
    #[error("store: {0}")]
    Store(String),
    /// The journal is not to be written again now, or could not be.
    #[error("journal repair: {0}")]
    Repair(String),
    /// A file or pipe of the user.
    #[error("{what}: {source}")]
    File {
        /// Its name.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The exit code that tells a program what happened.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused(error) if error.code == ErrorCode::Unavailable => Exit::Unavailable,
            Self::Refused(_) => Exit::Refused,
            Self::Usage(_) | Self::Config(_) | Self::Telemetry(_) => Exit::Usage,
            Self::Bus(_) | Self::NoNats { .. } | Self::Stream { .. } => Exit::Unavailable,
            Self::Replay(_) => Exit::JournalDamaged,
            // A reader such as `head` that has seen enough is no fault.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::NatsChild(_)
            | Self::Demo(_)
            | Self::File { .. }
            | Self::Output(_)
            | Self::Store(_)
            | Self::Repair(_) => Exit::Fault,
        }
    }

    /// What stands on stderr; nothing when the reader of the output has gone.
    #[must_use]
    pub fn message(&self, json: bool) -> Option<String> {
        if self.exit() == Exit::Done {
            return None;
        }
        if let (Self::Refused(error), true) = (self, json) {
            return serde_json::to_string(&ErrorBody { error: error.clone() }).ok();
        }
        if let Self::Refused(error) = self
            && error.details.as_object().is_some_and(|map| !map.is_empty())
        {
            return Some(format!("error: {self}\ndetails: {}", error.details));
        }
        Some(format!("error: {self}"))
    }
}

#[cfg(test)]
mod tests;
