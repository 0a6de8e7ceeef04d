//! The uppermost layer: what the command line says.

use std::path::PathBuf;

use serde::Serialize;

use super::LogFormat;
#[cfg(doc)]
use super::{Config, StoreConfig, WorkerConfig};

/// What the command line says; `None` leaves what the variables and the file say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overlay {
    /// See [`Config::nats`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<String>,
    /// See [`Config::creds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creds: Option<PathBuf>,
    /// See [`Config::nkey`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<PathBuf>,
    /// See [`Config::tls_ca`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// See [`Config::tls_cert`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// See [`Config::tls_key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// See [`Config::prefix`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// See [`Config::replicas`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<usize>,
    /// See [`Config::log`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFormat>,
    /// See [`Config::log_level`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// See [`Config::instance`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// See [`Config::data`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// See [`Config::worker`].
    #[serde(skip_serializing_if = "WorkerOverlay::is_empty")]
    pub worker: WorkerOverlay,
    /// See [`Config::store`].
    #[serde(skip_serializing_if = "StoreOverlay::is_empty")]
    pub store: StoreOverlay,
}

/// What the command line says of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerOverlay {
    /// See [`WorkerConfig::pool`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// See [`WorkerConfig::worker_id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// See [`WorkerConfig::slots`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// See [`WorkerConfig::models`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
}

impl WorkerOverlay {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the command line says of a store replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreOverlay {
    /// See [`StoreConfig::path`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl StoreOverlay {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
