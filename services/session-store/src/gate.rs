//! When a request may read: after the frames it asks for are applied, and off the threads that answer others.

use std::time::Duration;

use laneway_contract::{ApiError, ErrorCode};
use tokio::time::{Instant, timeout, timeout_at};

use crate::read::ReadError;
use crate::view::{Reading, View};

/// How long a read waits for `min_seq`: shorter than a caller waits before it tries another replica.
const READ_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long something that a request names may take to come here from the replica that answered for it.
const LAG_PATIENCE: Duration = Duration::from_millis(250);

impl View {
    /// Waits until frame `seq` is applied, at most for `patience`. Says whether it is.
    pub(crate) async fn reach(&self, seq: u64, patience: Duration) -> bool {
        if self.applied().number >= seq {
            return true;
        }
        let mut changes = self.changes();
        let reached = timeout(patience, changes.wait_for(|applied| applied.number >= seq)).await;
        matches!(reached, Ok(Ok(_)))
    }

    /// Reads once `min_seq` is applied. `unavailable`, to be sent again, when that takes too long.
    pub(crate) async fn read_at<T, F>(&self, min_seq: Option<u64>, read: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Reading) -> Result<T, ReadError> + Send + 'static,
    {
        let min_seq = min_seq.unwrap_or(0);
        if !self.reach(min_seq, READ_PATIENCE).await {
            let applied = self.applied().number;
            let message =
                format!("this replica has applied frame {applied}, not yet {min_seq}: send the request again");
            return Err(ApiError::new(ErrorCode::Unavailable, message)
                .with_details(serde_json::json!({"journal_seq": applied, "min_seq": min_seq})));
        }
        self.blocking(move |reading| Ok(read(reading)?)).await
    }

    /// Prepares a command. What is not found may be on its way from the replica that has answered for it, so it is
    /// looked for again whenever frames have come, for a short while.
    pub(crate) async fn prepare<T, F>(&self, prepare: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Fn(&Reading) -> Result<T, ApiError> + Clone + Send + 'static,
    {
        let started = Instant::now();
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let refused = match self.blocking(prepare.clone()).await {
                Ok(prepared) => return Ok(prepared),
                Err(refused) => refused,
            };
            let patience = if refused.code == ErrorCode::NotFound {
                LAG_PATIENCE
            } else if refused.code == ErrorCode::Unavailable {
                READ_PATIENCE
            } else {
                return Err(refused);
            };
            match timeout_at(started + patience, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(refused),
            }
        }
    }

    async fn blocking<T, F>(&self, read: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Reading) -> Result<T, ApiError> + Send + 'static,
    {
        let view = self.clone();
        let work = tokio::task::spawn_blocking(move || read(&view.read().map_err(ReadError::from)?));
        work.await.unwrap_or_else(|_| Err(ApiError::new(ErrorCode::Internal, "the read failed: see the store's log")))
    }
}

#[cfg(test)]
mod tests;
