//! Reading the journal from a stored position, for the views.

use std::marker::PhantomData;

use async_nats::Client;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::chain::{Chain, Fault, Link, Loss};
use crate::frame::{Committed, Position};
use crate::store::Store;
use crate::tail::{Arrival, Tail, read_own};

/// Waits until the server has shown the frame at `position`, and whether it is that frame.
pub async fn check_position(client: Client, stream: &str, position: Position) -> Result<(), Fault> {
    read_own(&Store::new(client, stream, ""), position).await.map(drop)
}

/// Frames behind a position, each one strictly the successor of the one before.
pub struct Follower<E> {
    store: Store,
    tail: Tail,
    chain: Chain,
    event: PhantomData<fn() -> E>,
}

impl<E: DeserializeOwned> Follower<E> {
    /// Follows the journal in `stream` from behind `position`: what the view stored together with what it had applied.
    #[must_use]
    pub fn new(client: Client, stream: &str, position: Position) -> Self {
        let store = Store::new(client, stream, "");
        let tail = Tail::new(store.clone(), position);
        let chain = Chain { position, ..Chain::default() };
        Self { store, tail, chain, event: PhantomData }
    }

    /// Waits for a frame and gives it, with up to `max` in all of those that have arrived. Survives restarts of the server
    /// and loss of the connection. Nothing is lost when the future is dropped.
    ///
    /// After a fault the view must stop: its position is no longer one of this journal.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Committed<E>>, Fault> {
        self.batch(max, |committed, _| committed).await
    }

    /// As [`Follower::next_batch`], each frame with its bytes as they are stored.
    pub async fn next_stored(&mut self, max: usize) -> Result<Vec<(Committed<E>, Bytes)>, Fault> {
        self.batch(max, |committed, bytes| (committed, bytes)).await
    }

    async fn batch<T>(&mut self, max: usize, keep: impl Fn(Committed<E>, Bytes) -> T) -> Result<Vec<T>, Fault> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            match self.tail.next(self.chain.position).await? {
                Arrival::Begun(own) => self.resume(own)?,
                Arrival::Frame(number, bytes) => {
                    batch.extend(self.accept(number, &bytes)?.map(|committed| keep(committed, bytes)));
                }
            }
        }
        while batch.len() < max
            && let Some((number, bytes)) = self.tail.next_ready(self.chain.position)
        {
            let Ok(committed) = self.accept(number, &bytes) else {
                // What came before it is right, and is given first: the fault is found again behind it.
                self.tail = Tail::new(self.store.clone(), self.chain.position);
                break;
            };
            batch.extend(committed.map(|committed| keep(committed, bytes)));
        }
        Ok(batch)
    }

    /// The position behind which the next frame stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.chain.position
    }

    /// The number of the last frame that the server knows of; it may be behind. None if it does not answer.
    pub async fn end_hint(&self) -> Option<u64> {
        self.store.info().await.map(|info| info.last)
    }

    /// Takes journal, epoch and time from the frame at the own position, so that the next one can be compared.
    fn resume(&mut self, own: Option<Bytes>) -> Result<(), Fault> {
        if let Some(bytes) = own
            && self.chain.journal.is_none()
        {
            self.chain = Chain::behind::<E>(self.chain.position.number, &bytes, self.chain.reads)?;
        }
        Ok(())
    }

    fn accept(&mut self, number: u64, bytes: &[u8]) -> Result<Option<Committed<E>>, Fault> {
        let first = self.chain.next();
        match self.chain.accept(number, bytes)? {
            Link::Next(committed) => Ok(Some(committed)),
            Link::Repeat => Ok(None),
            // A delivery leaves nothing out that the stream holds.
            Link::Gap => Err(Fault::DataLoss { first, last: number - 1, loss: Loss::Missing }),
        }
    }
}
