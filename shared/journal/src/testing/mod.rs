//! What simulations of processes on a journal are made of: numbers by seed, clocks, and a stream in memory.

mod clocks;
mod rng;
mod stream;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::chain::{Base, Chain, Fault};
use crate::frame::Committed;

pub use clocks::{Clocks, EPOCH_MS};
pub use rng::{Rng, mix};
pub use stream::Stream;

/// Reads every frame of a stream as it is stored, as any reader has to.
#[derive(Debug, Default)]
pub struct Reader(Chain);

impl Reader {
    /// Begins behind a frame.
    #[must_use]
    pub fn behind(base: Base) -> Self {
        Self(base.0)
    }

    /// Reads the next frame. An error says that it does not continue the journal.
    pub fn read<E: DeserializeOwned>(&mut self, bytes: &Bytes) -> Result<Committed<E>, Fault> {
        self.0.accept_next(bytes)
    }

    /// The epoch of the newest leader.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// The number of the last frame.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.position.number
    }

    /// Whether the newest leader has said that it is gone.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped
    }
}
