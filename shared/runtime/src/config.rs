//! Configuration: a file, then `LANEWAY_*` variables, then flags, in rising order.

mod layers;
mod overlay;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use laneway_contract::{
    Limits, MemoryLimits, PoolId, Prefix, ProviderSpec, SNAPSHOT_EVERY_BYTES, SNAPSHOT_EVERY_MS, WorkerId,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use layers::ENVIRONMENT_PREFIX;
pub use overlay::{Overlay, StoreOverlay, WorkerOverlay};

/// Why a configuration was refused. The text names the place and never quotes a secret: secrets are in files of their own.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has an unknown key or a wrong value.
    #[error("{}:{line}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A variable names no key, or has a wrong value.
    #[error("{variable}: {reason}")]
    Environment {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag has a wrong value.
    #[error("command line: {reason}")]
    Flags {
        /// What is wrong, with the key.
        reason: String,
    },
    /// Values that do not go together, or are out of range.
    #[error("{key}: {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What it must be.
        reason: Cow<'static, str>,
    },
    /// The system has no randomness for the default instance name.
    #[error("cannot make an instance name: {0}")]
    Random(#[from] std::io::Error),
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for programs.
    Json,
    /// For people.
    #[default]
    Text,
}

/// The configuration of a process. Every key has a default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The URL of NATS; several are separated by commas.
    pub nats: String,
    /// Whether a layer says where NATS is, also when it says what is the default. No key.
    #[serde(skip)]
    pub nats_is_named: bool,
    /// A credentials file for NATS.
    pub creds: Option<PathBuf>,
    /// A file with an `NKey` seed for NATS.
    pub nkey: Option<PathBuf>,
    /// A file with the certificates that NATS is checked against.
    pub tls_ca: Option<PathBuf>,
    /// The client certificate for NATS; with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// The key of the client certificate.
    pub tls_key: Option<PathBuf>,
    /// The first token of every subject.
    #[serde(deserialize_with = "prefix")]
    pub prefix: Prefix,
    /// Replicas of the streams: 1 on one server, 3 on three.
    pub replicas: usize,
    /// How log lines are written.
    pub log: LogFormat,
    /// The level of log lines, as `info` or `laneway_scheduler=debug,info`.
    pub log_level: String,
    /// The name of this process; another for each. By default the host's name and a random part.
    pub instance: String,
    /// The folder for what this process keeps.
    pub data: PathBuf,
    /// The concurrency limits of the deployment; none leaves those that are in force.
    #[serde(deserialize_with = "some_table")]
    pub limits: Option<Limits>,
    /// Providers beside those that are built in, or instead of them.
    pub providers: BTreeMap<String, ProviderSpec>,
    /// For schedulers.
    #[serde(deserialize_with = "table")]
    pub scheduler: SchedulerConfig,
    /// For workers.
    #[serde(deserialize_with = "table")]
    pub worker: WorkerConfig,
    /// For store replicas.
    #[serde(deserialize_with = "table")]
    pub store: StoreConfig,
}

/// What schedulers hold in memory, which all of them need the same, and when the leader takes snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Sessions without a run that has not ended; by default 200,000. What is not in memory is in the journal and the stores.
    pub sessions_in_memory: Option<u32>,
    /// Keys of appends; by default 200,000.
    pub keys_in_memory: Option<u32>,
    /// Ended runs whose repeats are known as such; by default 2,000,000.
    pub ended_runs_in_memory: Option<u32>,
    /// A snapshot is taken when so many bytes of frames were written since the last.
    pub snapshot_every_bytes: u64,
    /// And after so many seconds, when at least a 64th of those bytes was written.
    pub snapshot_every_seconds: u64,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            sessions_in_memory: None,
            keys_in_memory: None,
            ended_runs_in_memory: None,
            snapshot_every_bytes: SNAPSHOT_EVERY_BYTES,
            snapshot_every_seconds: SNAPSHOT_EVERY_MS / 1_000,
        }
    }
}

impl SchedulerConfig {
    /// The limits with these numbers.
    #[must_use]
    pub fn memory(&self) -> MemoryLimits {
        let default = MemoryLimits::default();
        let of = |number: Option<u32>, default: usize| number.map_or(default, |number| number as usize);
        MemoryLimits {
            sessions: of(self.sessions_in_memory, default.sessions),
            keys: of(self.keys_in_memory, default.keys),
            ended_runs: of(self.ended_runs_in_memory, default.ended_runs),
            ..default
        }
    }
}

/// What a worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// The name of its pool; by default derived from the models.
    pub pool: Option<PoolId>,
    /// Its own name; by default derived from the instance.
    pub worker_id: Option<WorkerId>,
    /// Runs that it executes at a time.
    pub slots: u32,
    /// Models that it serves, as `openai/gpt-5` or `echo/*`; by default all that its keys allow.
    pub models: Option<Vec<String>>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { pool: None, worker_id: None, slots: 16, models: None }
    }
}

/// Where a store replica keeps its view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The folder of the view; by default `store` in `data`.
    pub path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nats: "nats://127.0.0.1:4222".to_owned(),
            nats_is_named: false,
            creds: None,
            nkey: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            prefix: Prefix::default(),
            replicas: 1,
            log: LogFormat::default(),
            log_level: "info".to_owned(),
            instance: String::new(),
            data: PathBuf::from(".laneway"),
            limits: None,
            providers: BTreeMap::new(),
            scheduler: SchedulerConfig::default(),
            worker: WorkerConfig::default(),
            store: StoreConfig::default(),
        }
    }
}

impl Config {
    /// The configuration from `file` (or the one that `LANEWAY_CONFIG` names), this process's variables and `flags`.
    #[allow(clippy::disallowed_methods, reason = "configuration is read here")]
    pub fn load(file: Option<&Path>, flags: &Overlay) -> Result<Self, ConfigError> {
        // A variable that is not Unicode cannot be one of ours with a value that we could take.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        Self::load_from(file, environment, flags)
    }

    /// As [`Config::load`], with the variables given.
    pub fn load_from(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Overlay,
    ) -> Result<Self, ConfigError> {
        let (named_file, variables) = layers::variables(environment);
        let table = match file.map(Path::to_owned).or(named_file) {
            Some(path) => layers::read_file(&path)?,
            None => toml::Table::new(),
        };
        let table = layers::with_environment(table, variables)?;
        let nats_is_named = flags.nats.is_some() || table.contains_key("nats");
        Self { nats_is_named, ..layers::with_flags(table, flags)? }.checked()
    }

    /// The folder of a store replica's view.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.store.path.clone().unwrap_or_else(|| self.data.join("store"))
    }

    fn checked(mut self) -> Result<Self, ConfigError> {
        let invalid = |key, reason| Err(ConfigError::Invalid { key, reason: Cow::Borrowed(reason) });
        if let Some(Err(reason)) = self.limits.as_ref().map(Limits::check) {
            return Err(ConfigError::Invalid { key: "limits", reason: Cow::Owned(reason) });
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return invalid("tls_cert", "needs tls_key, and tls_key needs it");
        }
        if self.creds.is_some() && self.nkey.is_some() {
            return invalid("creds", "cannot be used together with nkey");
        }
        if !matches!(self.replicas, 1 | 3 | 5) {
            return invalid("replicas", "must be 1, 3 or 5");
        }
        if self.scheduler.snapshot_every_bytes < MIN_SNAPSHOT_EVERY_BYTES {
            return invalid("scheduler.snapshot_every_bytes", "must be at least 4096");
        }
        if self.scheduler.snapshot_every_seconds == 0 {
            return invalid("scheduler.snapshot_every_seconds", "must be at least 1");
        }
        if self.worker.slots == 0 || self.worker.slots > MAX_SLOTS {
            return invalid("worker.slots", "must be 1 to 10000");
        }
        if self.worker.models.as_ref().is_some_and(Vec::is_empty) {
            return invalid("worker.models", "must name at least one model; leave it out to serve all");
        }
        if self.instance.is_empty() {
            self.instance = format!("{}-{}", crate::host(), crate::random::name::<4>()?);
        }
        Ok(self)
    }
}

/// A snapshot is itself written about in a frame: one must not be due for that alone.
const MIN_SNAPSHOT_EVERY_BYTES: u64 = 4_096;

/// Slots of one worker.
const MAX_SLOTS: u32 = 10_000;

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Prefix, D::Error> {
    Prefix::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Serde takes a list for a struct, field by field; a configuration must not.
fn table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct OnlyTable<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyTable<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(OnlyTable(PhantomData))
}

fn some_table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    table(deserializer).map(Some)
}
