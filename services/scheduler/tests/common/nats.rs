//! A nats-server with JetStream in a folder of its own; both go with it.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use laneway_bus::{Bus, ConnectOptions};

use super::{options, within};

/// The seed and the public half of a key that is in the documentation of NATS.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

pub struct Server {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), child: None };
        server.run();
        server
    }

    /// A server at which the user of [`Server::deaf_bus`] cannot acknowledge messages of the intake.
    pub fn with_deaf_user() -> Self {
        let mut server = Self::start();
        server.kill();
        let users = format!(
            "authorization {{ users = [\n\
             {{ nkey: {PUBLIC}, permissions: {{ publish: {{ deny: \"$JS.ACK.LANEWAY_INTAKE.>\" }} }} }}\n\
             {{ user: all, password: x }}\n] }}\nno_auth_user: all\n"
        );
        std::fs::write(server.config(), users).unwrap();
        std::fs::write(server.seed(), SEED).unwrap();
        server.run();
        server
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("nats.conf")
    }

    fn seed(&self) -> PathBuf {
        self.folder.path().join("deaf.nk")
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn run(&mut self) {
        let config = self.config();
        let config: &[&OsStr] = if config.exists() { &["-c".as_ref(), config.as_ref()] } else { &[] };
        let start = |program: &Path| {
            Command::new(program)
                .args(config)
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

    /// Freezes it, and lets it go on after this time, with every connection as it was.
    pub async fn freeze(&self, time: Duration) {
        let signal = |name: &str| {
            let pid = self.child.as_ref().unwrap().id().to_string();
            assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
        };
        signal("-STOP");
        tokio::time::sleep(time).await;
        signal("-CONT");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A connection whose acknowledgements of the intake are lost.
    pub async fn deaf_bus(&self, name: &str) -> Bus {
        let options = ConnectOptions { nkey: Some(self.seed()), ..options(self.url(), name) };
        within(Bus::connect(options)).await.unwrap()
    }

    pub async fn bus(&self, name: &str) -> Bus {
        within(Bus::connect(options(self.url(), name))).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
