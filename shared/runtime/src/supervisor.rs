//! Critical tasks of a process: the first that ends, ends the process.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinHandle;

use crate::Shutdown;

#[cfg(test)]
mod tests;

type Ended = (&'static str, Result<Result<(), String>, tokio::task::JoinError>);

/// Runs critical tasks by name. When one ends (by an error, a panic or too early) the others are asked to stop.
pub struct Supervisor {
    shutdown: Shutdown,
    drain: Duration,
    tasks: FuturesUnordered<futures::future::BoxFuture<'static, Ended>>,
    aborts: Vec<tokio::task::AbortHandle>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Asked to stop, and every task has drained.
    Drained,
    /// A task failed, ended too early, or did not drain in time.
    Failed,
}

impl Outcome {
    /// 0 when drained, 1 when failed.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Drained => ExitCode::SUCCESS,
            Self::Failed => ExitCode::FAILURE,
        }
    }
}

impl Supervisor {
    /// No tasks yet. Once a stop is requested they have `drain` to end by themselves.
    #[must_use]
    pub fn new(shutdown: Shutdown, drain: Duration) -> Self {
        Self { shutdown, drain, tasks: FuturesUnordered::new(), aborts: Vec::new() }
    }

    /// Starts a critical task.
    pub fn spawn<F, E>(&mut self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let task: JoinHandle<Result<(), String>> =
            crate::spawn(name, async move { future.await.map_err(|error| error.to_string()) });
        self.aborts.push(task.abort_handle());
        self.tasks.push(Box::pin(async move { (name, task.await) }));
    }

    /// Waits until a stop is requested or a task ends, then until all have ended or the time to drain is over.
    pub async fn run(mut self) -> Outcome {
        let mut outcome = Outcome::Drained;
        tokio::select! {
            // A task that ends together with the request has drained.
            biased;
            () = self.shutdown.requested() => {}
            Some(ended) = self.tasks.next() => {
                outcome = Outcome::Failed;
                let asked = self.shutdown.is_requested();
                if report(ended, asked) {
                    outcome = Outcome::Drained;
                }
            }
        }
        self.shutdown.request();
        let drained = tokio::time::timeout(self.drain, async {
            while let Some(ended) = self.tasks.next().await {
                if !report(ended, true) {
                    outcome = Outcome::Failed;
                }
            }
        });
        if drained.await.is_err() {
            tracing::error!(tasks = self.tasks.len(), seconds = self.drain.as_secs(), "tasks did not drain in time");
            outcome = Outcome::Failed;
        }
        outcome
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for task in &self.aborts {
            task.abort();
        }
    }
}

/// Logs how a task ended; true when it ended as it should.
fn report((name, ended): Ended, stop_was_requested: bool) -> bool {
    match ended {
        Ok(Ok(())) if stop_was_requested => {
            tracing::debug!(task = name, "drained");
            true
        }
        Ok(Ok(())) => {
            tracing::error!(task = name, "ended before it was asked to");
            false
        }
        Ok(Err(error)) => {
            tracing::error!(task = name, error, "failed");
            false
        }
        Err(error) => {
            tracing::error!(task = name, panicked = error.is_panic(), "did not end by itself");
            false
        }
    }
}
