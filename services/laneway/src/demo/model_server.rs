//! A real model on this machine: a program that ends when its standard input is closed, so it never outlives us.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::exit::CliError;

/// How long it may take to load the model.
const START: Duration = Duration::from_mins(2);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// A running model server.
#[derive(Debug)]
pub(super) struct ModelServer {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Where it answers, as `http://127.0.0.1:8080/v1`.
    pub(super) endpoint: String,
}

impl ModelServer {
    /// Starts the server and waits until its model is loaded.
    pub(super) async fn start(python: &Path, program: &Path) -> Result<Self, CliError> {
        let mut child = Command::new(python)
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C is for us, and we end it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| missing(python, program, &error.to_string()))?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(stdout) => {
                tokio::time::timeout(START, BufReader::new(stdout).read_line(&mut line)).await.is_ok_and(|r| r.is_ok())
            }
            None => false,
        };
        match line.trim().strip_prefix("ready ").filter(|_| read) {
            Some(endpoint) => Ok(Self { child, stdin, endpoint: endpoint.to_owned() }),
            None => Err(missing(python, program, "it did not become ready")),
        }
    }

    /// Ends the server and waits for it.
    pub(super) async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err()
            && let Err(error) = self.child.kill().await
        {
            tracing::warn!(%error, "the model server could not be ended");
        }
    }
}

fn missing(python: &Path, program: &Path, reason: &str) -> CliError {
    CliError::Demo(format!(
        "the model server ({} {}) cannot be started: {reason}. `./dev demo` installs it; `laneway demo --echo` needs none",
        python.display(),
        program.display()
    ))
}
