//! A real nats-server and a journal that is written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test helper")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use laneway_bus::async_nats::HeaderMap;
use laneway_bus::{Bus, ConnectOptions, ensure_streams};
use laneway_contract::{Event, Prefix, Subject, Timestamp};
use laneway_journal::{Body, Frame, FrameHash, Turn};
use uuid::Uuid;

/// A nats-server on a free port with a folder of its own; ends with this value.
pub(crate) struct NatsServer {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, url) = serve(folder.path(), "-1");
        Self { child, url, folder }
    }

    /// Kills it with SIGKILL and starts it again on the same port.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (_, port) = self.url.rsplit_once(':').unwrap();
        (self.child, self.url) = serve(self.folder.path(), port);
    }

    pub(crate) async fn connect(&self) -> Bus {
        Bus::connect(ConnectOptions::new(&self.url, Prefix::default(), "test")).await.unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn serve(folder: &Path, port: &str) -> (Child, String) {
    let child = Command::new(program())
        .args(["-a", "127.0.0.1", "-p", port, "-js", "-sd"])
        .arg(folder.join("data"))
        .arg("--ports_file_dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server in PATH or .tools/bin: ./dev test installs it");
    let url = url(&folder.join(format!("nats-server_{}.ports", child.id())));
    (child, url)
}

fn program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/nats-server");
    if installed.exists() { installed } else { PathBuf::from("nats-server") }
}

/// Waits for the file in which the server says where it listens.
fn url(ports: &Path) -> String {
    let begun = Instant::now();
    loop {
        let text = std::fs::read(ports).unwrap_or_default();
        if let Ok(ports) = serde_json::from_slice::<serde_json::Value>(&text) {
            return ports["nats"][0].as_str().unwrap().to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nats-server did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes frames as a leader would, one after the other.
pub(crate) struct Journal {
    bus: Bus,
    id: Uuid,
    pub(crate) frames: Vec<Frame<Event>>,
    prev: FrameHash,
}

impl Journal {
    /// Makes the streams and writes the first frame.
    pub(crate) async fn begin(bus: &Bus) -> Self {
        let mut journal = Self::restored(bus, Uuid::now_v7(), &[]).await;
        journal.write(Body::Started { instance: "test".to_owned(), process: Uuid::now_v7(), attempt: 1 }).await;
        journal
    }

    /// Makes the streams that are missing and writes frames of an earlier journal, as from a backup.
    pub(crate) async fn restored(bus: &Bus, id: Uuid, frames: &[Frame<Event>]) -> Self {
        assert!(ensure_streams(bus).await.unwrap().is_empty(), "a stream is not as it should be");
        let mut journal = Self { bus: bus.clone(), id, frames: Vec::new(), prev: FrameHash::ZERO };
        for frame in frames {
            journal.store(frame.clone()).await;
        }
        journal
    }

    /// Writes one turn with these events, or a heartbeat when there are none.
    pub(crate) async fn turn(&mut self, events: Vec<Event>) {
        let turns = if events.is_empty() { Vec::new() } else { vec![Turn { at: self.time(), events }] };
        self.write(Body::Turns(turns)).await;
    }

    /// The number of the last frame.
    pub(crate) fn last(&self) -> u64 {
        self.frames.len() as u64
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + self.frames.len() as i64)
    }

    async fn write(&mut self, body: Body<Event>) {
        let (journal_id, number, time) = (self.id, self.last() + 1, self.time());
        self.store(Frame {
            format: laneway_journal::frame::FORMAT,
            journal_id,
            epoch: 1,
            number,
            prev: self.prev,
            time,
            snapshot: 0,
            body,
        })
        .await;
    }

    async fn store(&mut self, frame: Frame<Event>) {
        let bytes = rmp_serde::to_vec(&frame).unwrap();
        self.prev = FrameHash::of(&bytes);
        let stored = self.bus.publish_stored(&Subject::Journal, HeaderMap::new(), bytes.into()).await.unwrap();
        assert_eq!(stored, frame.number);
        self.frames.push(frame);
    }
}
