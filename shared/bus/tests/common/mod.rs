//! A nats-server of one test, and a connection to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "a test helper, of which no test uses all"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use laneway_bus::{Bus, ConnectOptions};
use laneway_contract::Prefix;

/// Every wait of a test ends in this time.
pub const BOUND: Duration = Duration::from_secs(10);

/// A server with JetStream in a folder of its own; both go with it.
pub struct Server {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        let mut server = Self::reserve();
        server.run();
        server
    }

    /// A place for a server that does not run yet.
    pub fn reserve() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, folder: tempfile::tempdir().unwrap(), child: None }
    }

    pub fn run(&mut self) {
        let start = |program: &Path| {
            Command::new(program)
                .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"])
                .arg(self.folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let in_tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/nats-server");
        let child = start(Path::new("nats-server")).or_else(|_| start(&in_tools));
        self.child = Some(child.expect("nats-server in PATH or in .tools/bin"));
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new(format!("nats://127.0.0.1:{}", self.port), Prefix::default(), "test")
    }

    pub async fn bus(&self) -> Bus {
        within(Bus::connect(self.options())).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The output of a future that must end within the bound.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("the end of the wait within its bound")
}
