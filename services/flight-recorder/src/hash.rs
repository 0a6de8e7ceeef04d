//! The chain from event to event.

use std::fmt;

use serde::{Serialize, Serializer};

/// The BLAKE3 hash of a public event's bytes as they are stored. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHash(blake3::Hash);

impl EventHash {
    /// What the first event names as the event before it.
    pub const ZERO: Self = Self(blake3::Hash::from_bytes([0; 32]));

    /// The hash of a stored event.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }
}

impl fmt::Display for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl Serialize for EventHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}
