//! Snapshots of the state: their names, and what the journal says of one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::InvalidId;
use crate::time::Timestamp;

/// The name of a snapshot's object: the frame up to which it is folded, and a random part, so that no two writers have one
/// name. Written as `4711-0f1e2d3c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    /// The last frame in it.
    pub number: u64,
    /// The random part.
    pub nonce: u32,
}

impl SnapshotName {
    /// Reads a name back.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { what: "snapshot", expected: "must be a frame, a hyphen and 8 hexadecimal digits" };
        let (number, nonce) = raw.split_once('-').ok_or_else(|| invalid.clone())?;
        let (number, nonce) = (number.parse().ok(), u32::from_str_radix(nonce, 16).ok());
        let name = number.zip(nonce).map(|(number, nonce)| Self { number, nonce });
        // Other spellings would give one object several subjects.
        name.filter(|name| name.to_string() == raw).ok_or(invalid)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.nonce)
    }
}

impl Serialize for SnapshotName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The BLAKE3 hash of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHash([u8; 32]);

impl SnapshotHash {
    /// Wraps a hash.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Debug for SnapshotHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// A snapshot that was written and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// The last frame in it.
    pub sequence: u64,
    /// The hash of the object.
    pub hash: SnapshotHash,
    /// The object.
    pub object: SnapshotName,
    /// Its bytes.
    pub bytes: u64,
    /// The messages that it is stored in.
    pub chunks: u32,
    /// Records of the state in it.
    pub records: u64,
}

/// The newest snapshot in the reply of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// The last frame in it: a start reads those behind it.
    pub journal_seq: u64,
    /// When the journal took it in.
    pub taken_at: Timestamp,
    /// Its bytes.
    pub bytes: u64,
}
