//! Waiting for what comes in any order of start, and saying for what.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Lines about the same wait come this often.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// A wait that grows its pauses and logs what it waits for.
pub(crate) struct Waiting {
    what: String,
    pause: Duration,
    said: Option<Instant>,
}

impl Waiting {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), pause: Duration::from_millis(50), said: None }
    }

    /// Waits before the next try.
    pub(crate) async fn after(&mut self, error: &impl Display) {
        if self.said.is_none_or(|said| said.elapsed() >= BETWEEN_LINES) {
            tracing::warn!("waiting for {}: {error}", self.what);
            self.said = Some(Instant::now());
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
