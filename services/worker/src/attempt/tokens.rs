//! Publishes the token stream of an attempt. It is a preview: what cannot be published is in the thread all the same.

use bytes::Bytes;
use laneway_bus::{Bus, BusError};
use laneway_contract::{ClaimReply, JobState, Piece, ReportAttempt, RunId, Subject};

use super::chunks::Chunks;

/// Where chunks go.
pub(crate) trait Outlet {
    /// Sends one. May be dropped before it ends: then nothing was sent.
    fn send(&self, chunk: Bytes) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// The subject of a run's tokens.
#[derive(Debug)]
pub(crate) struct TokenSubject {
    bus: Bus,
    subject: Subject,
}

impl TokenSubject {
    /// The subject of this run.
    pub(crate) fn new(bus: Bus, run_id: RunId) -> Self {
        Self { bus, subject: Subject::Tokens(run_id) }
    }
}

impl Outlet for TokenSubject {
    async fn send(&self, chunk: Bytes) -> Result<(), BusError> {
        self.bus.publish(&self.subject, chunk).await
    }
}

/// The token stream of an attempt.
#[derive(Debug)]
pub(crate) struct Tokens<O> {
    outlet: O,
    chunks: Chunks,
}

impl<O: Outlet> Tokens<O> {
    /// Nothing published yet.
    pub(crate) fn new(outlet: O, lease: &ClaimReply) -> Self {
        Self { outlet, chunks: Chunks::new(lease.run_id, lease.attempt, lease.epoch) }
    }

    /// Lets a piece wait for [`Self::publish_next`].
    pub(crate) fn push(&mut self, piece: Piece) {
        self.chunks.push(piece);
    }

    /// Publishes the next chunk, or waits for ever when none waits. May be dropped: the chunk then still waits.
    pub(crate) async fn publish_next(&mut self) {
        let Some(chunk) = self.chunks.front() else {
            return std::future::pending().await;
        };
        match serde_json::to_vec(&chunk) {
            Ok(body) => {
                if let Err(error) = self.outlet.send(body.into()).await {
                    tracing::debug!(%error, n = chunk.n, "chunk not published");
                }
            }
            Err(error) => tracing::warn!(%error, n = chunk.n, "chunk not written"),
        }
        // IMPORTANT: nothing is awaited between the publish and this, so that a chunk is never published twice.
        self.chunks.published();
    }

    /// Publishes what waits while something else goes on, which nothing here holds up.
    pub(crate) async fn flush_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                biased;
                () = self.publish_next() => {}
                output = &mut other => return output,
            }
        }
    }

    /// Drops what waits: nothing of an attempt enters its stream once its lease has ended.
    pub(crate) fn forget(&mut self) {
        self.chunks.forget();
    }

    /// Publishes what waits and the end. Only once the report is durable.
    pub(crate) async fn end(&mut self, report: &ReportAttempt, outcome: JobState) {
        let usage = report.outcome.as_ref().map(|outcome| outcome.usage).unwrap_or_default();
        let message_id = report.messages.last().map(|message| message.message_id);
        self.push(Piece::End { outcome, usage, message_id });
        while self.chunks.front().is_some() {
            self.publish_next().await;
        }
    }
}
