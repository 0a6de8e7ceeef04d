//! Snapshots as the server holds them: the frames that say of them, and the objects, each a row of messages.
//!
//! An object is found through the journal alone and is right only with the hash that the journal has of it. What is in
//! the stream besides is nobody's: a leftover of a writer that did not come to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream as ServerStream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use laneway_contract::{Family, Prefix, SnapshotName, SnapshotTaken, Stream, Subject};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::chain::{Base, Fault, Loss, lost};
use crate::fence::{LOST_AFTER_ANSWERS, ReadOutcome};
use crate::frame::{Frame, Position};
use crate::store::Store;

mod object;

pub use object::{SnapshotHead, SnapshotReader, SnapshotWriter, Unfit};

/// How long storing or reading one message may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that are read at a time.
const READ_AHEAD: usize = 8;
/// Messages on their way into the stream: few, since frames go to the same disk.
const WRITE_AHEAD: usize = 2;
/// How long to wait before a message is asked for again, or the server.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a message is asked for that the server does not know, or does not give. A replica may be behind.
const TRIES: u32 = 12;

/// Why an object could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A message of it is not in the stream.
    #[error("message {chunk} of snapshot {object} is missing")]
    Missing {
        /// The object.
        object: SnapshotName,
        /// The message, from 0.
        chunk: u32,
    },
    /// Its bytes are not those that were written.
    #[error("snapshot {object} is not the one that was written: it was changed")]
    Changed {
        /// The object.
        object: SnapshotName,
    },
    /// The server refused, or did not answer.
    #[error("snapshot {object}: {reason}")]
    Server {
        /// The object.
        object: SnapshotName,
        /// What it said.
        reason: String,
    },
}

/// The snapshots of one deployment.
#[derive(Clone, Debug)]
pub struct Snapshots {
    journal: Store,
    context: Context,
    prefix: Prefix,
    stream: String,
}

impl Snapshots {
    /// The snapshots under a prefix.
    #[must_use]
    pub fn new(client: Client, prefix: &Prefix) -> Self {
        let journal = Store::new(client.clone(), &prefix.stream(Stream::Journal), "");
        let mut context = jetstream::new(client);
        context.set_timeout(REQUEST_TIMEOUT);
        Self { journal, context, prefix: prefix.clone(), stream: prefix.stream(Stream::Snapshots) }
    }

    /// The number of the last frame that the server knows of; it may be behind. Waits for the server as long as it takes.
    pub async fn end_hint(&self) -> u64 {
        loop {
            match self.journal.info().await {
                Some(info) => return info.last,
                None => sleep(AGAIN).await,
            }
        }
    }

    /// The newest frame up to `number` that says of a snapshot. None where there is none, and where a frame on the way
    /// cannot be read: who reads the journal then finds that out.
    pub async fn frame_up_to<E: DeserializeOwned>(&self, number: u64) -> Option<Frame<E>> {
        let named = self.frame::<E>(number).await?.snapshot;
        self.frame(named).await
    }

    async fn frame<E: DeserializeOwned>(&self, number: u64) -> Option<Frame<E>> {
        if number == 0 {
            return None;
        }
        match self.read_frame(number).await {
            Ok(bytes) => Frame::decode(&bytes)
                .inspect_err(|error| tracing::warn!(%error, number, "no snapshot is looked for behind this frame"))
                .ok(),
            Err(fault) => {
                tracing::warn!(%fault, "no snapshot is looked for");
                None
            }
        }
    }

    async fn read_frame(&self, number: u64) -> Result<Bytes, Fault> {
        let mut missing = 0;
        loop {
            match self.journal.clone().read(number).await {
                ReadOutcome::Found(bytes) => return Ok(bytes),
                ReadOutcome::Missing { last } if last > number || missing >= LOST_AFTER_ANSWERS => {
                    return Err(lost(number, Loss::Missing));
                }
                ReadOutcome::Missing { .. } => missing += 1,
                ReadOutcome::Failed => {}
            }
            sleep(AGAIN).await;
        }
    }

    /// The frame at `position`, behind which a state can go on that was folded up to there. Any other frame in its place
    /// is a fault of the journal, not of the snapshot.
    pub async fn base<E: DeserializeOwned>(&self, position: Position) -> Result<Base, Fault> {
        Base::at::<E>(position, &self.read_frame(position.number).await?)
    }

    /// Stores what comes as the messages of an object, in order; how many there were.
    pub async fn write(&self, object: SnapshotName, mut chunks: mpsc::Receiver<Bytes>) -> Result<u32, ObjectError> {
        let server = |error: &dyn std::error::Error| ObjectError::Server { object, reason: error.to_string() };
        let mut under_way = std::collections::VecDeque::<PublishAckFuture>::new();
        let mut chunk = 0;
        while let Some(bytes) = chunks.recv().await {
            let subject = self.prefix.subject(&Subject::Snapshot { object, chunk });
            under_way.push_back(self.context.publish(subject, bytes).await.map_err(|error| server(&error))?);
            chunk += 1;
            if under_way.len() >= WRITE_AHEAD
                && let Some(first) = under_way.pop_front()
            {
                first.await.map_err(|error| server(&error))?;
            }
        }
        for ack in under_way {
            ack.await.map_err(|error| server(&error))?;
        }
        Ok(chunk)
    }

    /// Reads an object whole, and compares it with what the journal says. `read` hears how many bytes have come.
    pub async fn read(&self, taken: &SnapshotTaken, mut read: impl FnMut(u64)) -> Result<SnapshotReader, ObjectError> {
        let SnapshotTaken { object, .. } = *taken;
        let stream = self.server_stream().await.map_err(|reason| ObjectError::Server { object, reason })?;
        let chunks = stream::iter(0..taken.chunks).map(|chunk| self.chunk(&stream, object, chunk)).buffered(READ_AHEAD);
        let mut bytes = 0;
        let all: Vec<Bytes> = chunks
            .inspect_ok(|chunk| {
                bytes += chunk.len() as u64;
                read(bytes);
            })
            .try_collect()
            .await?;
        SnapshotReader::of(taken, all)
    }

    async fn chunk(&self, stream: &ServerStream, object: SnapshotName, chunk: u32) -> Result<Bytes, ObjectError> {
        let subject = self.prefix.subject(&Subject::Snapshot { object, chunk });
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match stream.direct_get_last_for_subject(subject.clone()).await {
                Ok(message) => return Ok(message.payload),
                Err(error) => error,
            };
            if tries >= TRIES {
                return Err(match error.kind() {
                    DirectGetErrorKind::NotFound => ObjectError::Missing { object, chunk },
                    DirectGetErrorKind::InvalidSubject
                    | DirectGetErrorKind::TimedOut
                    | DirectGetErrorKind::Request
                    | DirectGetErrorKind::ErrorResponse(..)
                    | DirectGetErrorKind::Other => ObjectError::Server { object, reason: error.to_string() },
                });
            }
            sleep(AGAIN).await;
        }
    }

    /// Deletes these objects, whoever wrote them: such as the journal does not name, or not any more. How many there were.
    pub async fn delete(&self, which: impl Fn(&SnapshotName) -> bool) -> Result<usize, String> {
        let stream = self.server_stream().await?;
        let mut objects = self.objects(&stream).await?;
        objects.retain(which);
        for object in &objects {
            stream.purge().filter(self.prefix.snapshot(*object)).await.map_err(|error| error.to_string())?;
        }
        Ok(objects.len())
    }

    /// The highest frame that an object is folded up to, journaled or not: the journal has had it. 0 without any.
    pub async fn highest(&self) -> Result<u64, String> {
        let objects = self.objects(&self.server_stream().await?).await?;
        Ok(objects.last().map_or(0, |object| object.number))
    }

    /// The objects in the stream by their frames, whole or not.
    async fn objects(&self, stream: &ServerStream) -> Result<BTreeSet<SnapshotName>, String> {
        let filter = self.prefix.all(Family::Snapshots);
        let mut subjects = stream.info_with_subjects(filter).await.map_err(|error| error.to_string())?;
        let mut objects = BTreeSet::new();
        while let Some((subject, _)) = subjects.try_next().await.map_err(|error| error.to_string())? {
            if let Ok(Subject::Snapshot { object, .. }) = self.prefix.parse_subject(&subject) {
                objects.insert(object);
            }
        }
        Ok(objects)
    }

    async fn server_stream(&self) -> Result<ServerStream, String> {
        self.context.get_stream(&self.stream).await.map_err(|error| error.to_string())
    }
}
