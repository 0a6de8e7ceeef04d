//! A nats-server of our own, for those who have none: durable settings, one data folder, ended with this process.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// How long nats-server may take to recover its files and answer.
const START: Duration = Duration::from_mins(1);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(10);
/// How often a process or port is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no nats-server of our own.
#[derive(Debug, thiserror::Error)]
pub enum NatsChildError {
    /// Another process has the data folder.
    #[error("{data} is in use by another `laneway up`: end that one, or choose another folder with --data")]
    InUse {
        /// The folder.
        data: String,
    },
    /// Somebody listens on the port.
    #[error(
        "port {port} is taken: use what listens there with --nats nats://127.0.0.1:{port}, or choose another with --port"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// There is no program to start.
    #[error(
        "no nats-server in PATH or .tools/bin: run ./dev once, install nats-server 2.14 or newer, or connect to a running one with --nats URL"
    )]
    NoProgram,
    /// It ended by itself.
    #[error("nats-server ended ({status}); the end of {log}:\n{tail}")]
    Ended {
        /// Its exit status.
        status: String,
        /// Its log file.
        log: String,
        /// The last lines of the log.
        tail: String,
    },
    /// It did not answer in time.
    #[error("nats-server did not answer within {} s: see {log}", START.as_secs())]
    Silent {
        /// Its log file.
        log: String,
    },
    /// A file or process cannot be used.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> NatsChildError {
    let doing = doing.into();
    move |source| NatsChildError::System { doing, source }
}

/// The configuration of a server that loses nothing that it acknowledged, also at power loss.
#[must_use]
pub fn config_text(data: &Path, port: u16, server_name: &str) -> String {
    let path = |name: &str| serde_json::Value::from(data.join(name).to_string_lossy().into_owned());
    format!(
        "# Written at every start.\n\
         server_name: \"{server_name}\"\n\
         listen: \"127.0.0.1:{port}\"\n\
         ping_interval: \"5s\"\n\
         ping_max: 2\n\
         log_file: {log}\n\
         pid_file: {pid}\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: always\n}}\n",
        log = path("nats-server.log"),
        pid = path("nats-server.pid"),
        store = path("nats"),
    )
}

/// The server name in the configuration that the last start wrote into a data folder.
#[must_use]
pub fn name_in(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("nats-server.conf")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("server_name: "))?;
    Some(line.trim_matches('"').to_owned())
}

/// A running nats-server that ends with this value.
#[derive(Debug)]
pub struct NatsChild {
    child: Child,
    url: String,
    log: PathBuf,
    // Held as long as the server runs: one process per data folder.
    _lock: File,
}

impl NatsChild {
    /// Starts a server on a port of this machine, with all its files in `data`, and waits until it answers.
    pub async fn start(data: &Path, port: u16) -> Result<Self, NatsChildError> {
        let shown = data.display().to_string();
        std::fs::create_dir_all(data).map_err(system(format!("cannot make {shown}")))?;
        let data = data.canonicalize().map_err(system(format!("cannot open {shown}")))?;
        let lock = lock(&data)?;
        end_orphan(&data).await?;
        // Bound only to see that it is free: nats-server says so in its log alone.
        let free = TcpListener::bind(("127.0.0.1", port)).await;
        drop(free.map_err(|_| NatsChildError::PortTaken { port })?);

        let tag = laneway_runtime::random::name::<4>().map_err(system("no random bytes"))?;
        let server_name = format!("laneway-{tag}");
        let config = data.join("nats-server.conf");
        std::fs::write(&config, config_text(&data, port, &server_name))
            .map_err(system("cannot write nats-server.conf"))?;
        let child = spawn(&config)?;
        let url = format!("nats://127.0.0.1:{port}");
        let mut server = Self { child, url, log: data.join("nats-server.log"), _lock: lock };
        server.answers(port, &server_name).await?;
        Ok(server)
    }

    /// Where to connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the server ends by itself, which it never should.
    pub async fn ended(&mut self) -> NatsChildError {
        match self.child.wait().await {
            Ok(status) => self.ended_with(&status.to_string()),
            Err(error) => self.ended_with(&error.to_string()),
        }
    }

    /// Ends the server and waits for it.
    pub async fn stop(mut self) -> Result<(), NatsChildError> {
        let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) else {
            return Ok(());
        };
        rustix::process::kill_process(pid, Signal::TERM).map_err(|e| system("cannot end nats-server")(e.into()))?;
        if let Ok(ended) = tokio::time::timeout(STOP, self.child.wait()).await {
            ended.map_err(system("cannot wait for nats-server"))?;
        } else {
            self.child.kill().await.map_err(system("cannot kill nats-server"))?;
        }
        Ok(())
    }

    async fn answers(&mut self, port: u16, server_name: &str) -> Result<(), NatsChildError> {
        let answer = async {
            while !greets(port, server_name).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            ended = self.child.wait() => {
                let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(self.ended_with(&status))
            }
            answered = tokio::time::timeout(START, answer) => {
                answered.map_err(|_| NatsChildError::Silent { log: self.log.display().to_string() })
            }
        }
    }

    fn ended_with(&self, status: &str) -> NatsChildError {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n");
        NatsChildError::Ended { status: status.to_owned(), log: self.log.display().to_string(), tail }
    }
}

/// A port of this machine that nobody listens on.
pub async fn free_port() -> Result<u16, NatsChildError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(system("no free port"))?;
    Ok(listener.local_addr().map_err(system("no free port"))?.port())
}

fn lock(data: &Path) -> Result<File, NatsChildError> {
    let file = File::create(data.join("lock")).map_err(system("cannot make the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(NatsChildError::InUse { data: data.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(system("cannot lock the data folder")(error)),
    }
}

/// Ends the server of a process that was killed. The lock is ours, so nobody else uses it; the process is known by its
/// command line, because its number may belong to another by now.
async fn end_orphan(data: &Path) -> Result<(), NatsChildError> {
    let config = data.join("nats-server.conf");
    let is_ours = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes())
    };
    let pid_file = std::fs::read_to_string(data.join("nats-server.pid")).unwrap_or_default();
    let Some((number, pid)) = pid_file.trim().parse().ok().and_then(|number| Some((number, Pid::from_raw(number)?)))
    else {
        return Ok(());
    };
    if !is_ours(number) {
        return Ok(());
    }
    tracing::info!(pid = number, "ending the nats-server that a killed process left behind");
    rustix::process::kill_process(pid, Signal::TERM).map_err(|e| system("cannot end the old nats-server")(e.into()))?;
    let gone = async {
        while is_ours(number) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(STOP, gone).await.map_err(|_| NatsChildError::InUse { data: data.display().to_string() })
}

/// Starts the program from PATH, or from `.tools/bin` of this folder or one above it.
fn spawn(config: &Path) -> Result<Child, NatsChildError> {
    let here = std::env::current_dir().map_err(system("no current folder"))?;
    let installed = here.ancestors().map(|folder| folder.join(".tools/bin/nats-server"));
    for program in std::iter::once(PathBuf::from("nats-server")).chain(installed) {
        let child = Command::new(&program)
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C is for us, and the server goes on until our services have drained.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        match child {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(format!("cannot start {}", program.display()))(error)),
        }
    }
    Err(NatsChildError::NoProgram)
}

/// Whether the server of this name says its INFO on the port.
async fn greets(port: u16, server_name: &str) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line).await;
    let info = line.strip_prefix("INFO ").and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
    read.is_ok() && info.is_some_and(|info| info["server_name"] == server_name)
}

#[cfg(test)]
mod tests;
