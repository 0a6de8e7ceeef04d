//! The bytes of a snapshot's object: a head that says up to which frame it is folded, then the state.

use std::collections::VecDeque;
use std::io::{Error, Read, Write};

use bytes::{Buf, Bytes};
use laneway_contract::{SNAPSHOT_CHUNK_BYTES, SnapshotHash, SnapshotTaken};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::ObjectError;
use crate::frame::Position;

/// The format of the head that this program writes, and the only one that it reads.
const HEAD_FORMAT: u16 = 1;

/// Why an object is not a snapshot that this program can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another program wrote it.
    #[error("the snapshot's head has format {format}, this program reads {HEAD_FORMAT}")]
    OtherFormat {
        /// Its format.
        format: u16,
    },
    /// It does not begin with a head.
    #[error("the snapshot's head cannot be read: {0}")]
    Unreadable(String),
}

/// What stands before the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The journal that was folded.
    pub journal_id: Uuid,
    /// The last frame of it that was.
    pub position: Position,
}

impl SnapshotHead {
    /// Writes it.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        rmp_serde::encode::write(out, &HEAD_FORMAT).map_err(Error::other)?;
        rmp_serde::encode::write(out, self).map_err(Error::other)
    }

    /// Reads it, and not a byte more.
    pub fn read(input: &mut impl Read) -> Result<Self, Unfit> {
        let unreadable = |error: rmp_serde::decode::Error| Unfit::Unreadable(error.to_string());
        let mut input = rmp_serde::Deserializer::new(input);
        match u16::deserialize(&mut input).map_err(unreadable)? {
            HEAD_FORMAT => Self::deserialize(&mut input).map_err(unreadable),
            format => Err(Unfit::OtherFormat { format }),
        }
    }
}

/// Cuts what is written into messages and hands them on, waiting while the other side has enough. Not for async code.
pub struct SnapshotWriter {
    chunk: Vec<u8>,
    chunks: mpsc::Sender<Bytes>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl SnapshotWriter {
    /// Hands messages to `chunks`.
    #[must_use]
    pub fn new(chunks: mpsc::Sender<Bytes>) -> Self {
        Self { chunk: Vec::with_capacity(SNAPSHOT_CHUNK_BYTES), chunks, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// Hands the rest over; hash and number of all bytes.
    pub fn finish(mut self) -> std::io::Result<(SnapshotHash, u64)> {
        self.hand_over()?;
        Ok((SnapshotHash::from_bytes(*self.hasher.finalize().as_bytes()), self.bytes))
    }

    fn hand_over(&mut self) -> std::io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(SNAPSHOT_CHUNK_BYTES));
        self.hasher.update(&chunk);
        self.bytes += chunk.len() as u64;
        self.chunks.blocking_send(chunk.into()).map_err(|_| Error::other("nobody stores the snapshot any more"))
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = SNAPSHOT_CHUNK_BYTES - self.chunk.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == SNAPSHOT_CHUNK_BYTES {
            self.hand_over()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The bytes of an object, given back message by message as they are read.
#[derive(Debug)]
pub struct SnapshotReader(VecDeque<Bytes>);

impl SnapshotReader {
    /// The messages of an object, if they are those that the journal says of.
    pub fn of(taken: &SnapshotTaken, chunks: Vec<Bytes>) -> Result<Self, ObjectError> {
        let reader = Self::new(chunks);
        if reader.is(taken) { Ok(reader) } else { Err(ObjectError::Changed { object: taken.object }) }
    }

    fn new(chunks: Vec<Bytes>) -> Self {
        Self(chunks.into())
    }

    fn is(&self, taken: &SnapshotTaken) -> bool {
        let mut hasher = blake3::Hasher::new();
        for chunk in &self.0 {
            hasher.update(chunk);
        }
        let bytes: usize = self.0.iter().map(Bytes::len).sum();
        SnapshotHash::from_bytes(*hasher.finalize().as_bytes()) == taken.hash && bytes as u64 == taken.bytes
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(chunk) = self.0.front_mut() else { return Ok(0) };
        let count = chunk.len().min(into.len());
        chunk.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
