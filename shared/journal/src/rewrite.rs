//! Writing a stream again: frames that are right as they were, byte for byte, then what a view still holds.
//!
//! The stream takes these frames under a subject of its own, and stores them under the journal's: until the rewriting is
//! done, no scheduler can write into it, also when the rewriting breaks off.

use async_nats::Client;
use bytes::Bytes;
use laneway_contract::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use uuid::Uuid;

use crate::audit::Replay;
use crate::chain::{Fault, Loss, lost};
use crate::draft::{Draft, Envelope, TurnDraft, TurnTooLarge};
use crate::fence::{PublishOutcome, ReadOutcome};
use crate::frame::{Committed, Position};
use crate::store::Store;

/// How often a frame is sent again while the server does not say what became of it: for half a minute.
const ATTEMPTS: u32 = 30;

/// How long to wait before it is sent again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a stream was not written.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// A frame that was to be kept is not right.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Something else stands where the frame belongs.
    #[error("frame {number} was not taken: the stream ends at {last}, so somebody else writes into it")]
    Foreign {
        /// The number of the frame.
        number: u64,
        /// The last sequence of the stream.
        last: u64,
    },
    /// The server did not say what became of the frame.
    #[error("frame {number}: no answer from NATS")]
    NoAnswer {
        /// The number of the frame.
        number: u64,
    },
    /// An event is larger than a frame.
    #[error(transparent)]
    TooLarge(#[from] TurnTooLarge),
}

/// Writes the frames of a journal into an empty stream, one after the other.
pub struct Rewriter<E> {
    store: Store,
    replay: Replay<E>,
    instance: String,
    process: Uuid,
}

impl<E: Serialize + DeserializeOwned> Rewriter<E> {
    /// Writes into `stream` by way of `subject`. The leaders that it writes are called `instance`.
    #[must_use]
    pub fn new(client: Client, stream: &str, subject: &str, instance: &str) -> Self {
        let store = Store::new(client, stream, subject);
        Self { store, replay: Replay::default(), instance: instance.to_owned(), process: Uuid::now_v7() }
    }

    /// Writes a frame as it was. Only the very next one, and only if it is right.
    pub async fn keep(&mut self, number: u64, bytes: Bytes) -> Result<Committed<E>, RewriteError> {
        let committed = self.replay.take(number, &bytes)?;
        self.store_frame(number, bytes).await?;
        Ok(committed)
    }

    /// Writes that a leader begins. The first frame of all makes a new journal.
    pub async fn begin(&mut self, now: Timestamp) -> Result<(), RewriteError> {
        let chain = self.replay.chain();
        let (journal_id, epoch, attempt) = (chain.journal.unwrap_or_else(Uuid::now_v7), chain.epoch + 1, chain.next());
        let (instance, process) = (self.instance.clone(), self.process);
        self.seal(journal_id, epoch, now, Draft::Started { instance: &instance, process, attempt }).await
    }

    /// Writes events, decided at `now`, in as many frames as they need.
    pub async fn add(&mut self, events: &[E], now: Timestamp) -> Result<(), RewriteError> {
        let (journal, epoch) = self.leading()?;
        let at = now.max(self.replay.chain().time);
        let mut turn = TurnDraft::new(epoch, at);
        for event in events {
            if turn.add(std::slice::from_ref(event)).is_ok() {
                continue;
            }
            let full = std::mem::replace(&mut turn, TurnDraft::new(epoch, at));
            turn.add(std::slice::from_ref(event))?;
            self.seal(journal, epoch, at, Draft::Turns(&[full.encoded()])).await?;
        }
        if turn.is_empty() {
            return Ok(());
        }
        self.seal(journal, epoch, at, Draft::Turns(&[turn.encoded()])).await
    }

    /// Writes that the leader has gone, so that a scheduler leads at once.
    pub async fn end(&mut self, now: Timestamp) -> Result<(), RewriteError> {
        let (journal, epoch) = self.leading()?;
        self.seal(journal, epoch, now, Draft::Stopped).await
    }

    /// The last frame that was written.
    #[must_use]
    pub fn position(&self) -> Position {
        self.replay.chain().position
    }

    /// The epoch of the last frame that was written.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.replay.chain().epoch
    }

    fn leading(&self) -> Result<(Uuid, u64), RewriteError> {
        let chain = self.replay.chain();
        let journal = chain.journal.ok_or_else(|| lost(chain.next(), Loss::Missing))?;
        Ok((journal, chain.epoch))
    }

    async fn seal(
        &mut self,
        journal_id: Uuid,
        epoch: u64,
        now: Timestamp,
        draft: Draft<'_>,
    ) -> Result<(), RewriteError> {
        let chain = self.replay.chain();
        let (number, prev, time) = (chain.next(), chain.position.hash, now.max(chain.time));
        let (format, snapshot) = (chain.next_format(), chain.snapshot);
        let bytes = Envelope { format, journal_id, epoch, number, prev, time, snapshot }.seal(draft);
        self.keep(number, bytes).await.map(drop)
    }

    async fn store_frame(&self, number: u64, bytes: Bytes) -> Result<(), RewriteError> {
        for _ in 0..ATTEMPTS {
            match self.store.clone().publish(bytes.clone(), number - 1).await {
                PublishOutcome::Acked { seq } if seq == number => return Ok(()),
                // Perhaps this very frame, whose acknowledgement was lost.
                PublishOutcome::WrongLast { last } if last == number => match self.store.clone().read(number).await {
                    ReadOutcome::Found(found) if found == bytes => return Ok(()),
                    ReadOutcome::Found(_) => return Err(RewriteError::Foreign { number, last }),
                    ReadOutcome::Missing { .. } | ReadOutcome::Failed => {}
                },
                PublishOutcome::Acked { seq: last } | PublishOutcome::WrongLast { last } => {
                    return Err(RewriteError::Foreign { number, last });
                }
                PublishOutcome::Failed => {}
            }
            sleep(AGAIN).await;
        }
        Err(RewriteError::NoAnswer { number })
    }
}
