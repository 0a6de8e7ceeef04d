//! What every process needs around its services: configuration, telemetry, supervision, shutdown and randomness.

pub mod config;
pub mod random;
pub mod telemetry;

mod host;
mod shutdown;
mod supervisor;
mod task;

pub use host::host;
pub use shutdown::Shutdown;
pub use supervisor::{Outcome, Supervisor};
pub use task::spawn;
