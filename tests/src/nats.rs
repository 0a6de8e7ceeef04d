//! A real nats-server in a folder of its own, as durable as ours.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use laneway_bus::async_nats;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::stack::send_signal;

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A nats-server with JetStream that writes every message to the disk before it answers. It ends, and its data goes, with
/// this value.
pub struct NatsServer {
    child: Child,
    dir: TempDir,
    port: u16,
}

/// What stands in the configuration beyond what all have.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// How the server is called among others.
    pub name: &'a str,
    /// For the whole server.
    pub server: &'a str,
    /// For JetStream.
    pub jetstream: &'a str,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { name: "test", server: "", jetstream: "" }
    }
}

impl NatsServer {
    /// Starts three servers that are one cluster, and waits until they store a stream with three replicas.
    pub async fn start_three() -> [Self; 3] {
        // The servers name each other's ports before any listens, so these are ports that are free at this moment.
        let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let ports = listeners.each_ref().map(|free| free.local_addr().expect("an address").port());
        drop(listeners);
        let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let start = |name: &'static str, port| {
            let server = format!("cluster {{ name: three, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
            async move {
                let settings = Settings { name, server: &server, jetstream: "" };
                Self::start_in(tempfile::tempdir().expect("a temporary folder"), settings).await
            }
        };
        let [first, second, third] = ports;
        let servers = [start("one", first).await, start("two", second).await, start("three", third).await];
        servers[0].stores_three_times().await;
        servers
    }

    async fn stores_three_times(&self) {
        let client = async_nats::connect(self.url()).await.expect("a connection");
        let context = async_nats::jetstream::new(client);
        let config = async_nats::jetstream::stream::Config {
            name: "PROBE".to_owned(),
            num_replicas: 3,
            ..async_nats::jetstream::stream::Config::default()
        };
        let stored = async {
            while context.create_stream(config.clone()).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(START_LIMIT, stored).await.expect("three servers that are one cluster");
        context.delete_stream("PROBE").await.expect("a stream that goes");
    }

    /// Starts a server on a free port and waits until it listens.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// As [`NatsServer::start`], with further settings.
    pub async fn start_with(settings: &str) -> Self {
        let settings = Settings { server: settings, ..Settings::default() };
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), settings).await
    }

    /// As [`NatsServer::start_with`], in a folder that is there already; what the server stores is in `data` of it.
    pub async fn start_in(dir: TempDir, settings: Settings<'_>) -> Self {
        // The server takes a port itself: one that was merely free a moment ago could be another test's by now.
        configure(dir.path(), -1, settings);
        let child = spawn(dir.path());
        let mut server = Self { child, dir, port: 0 };
        server.port = server.taken_port().await;
        configure(server.dir.path(), i32::from(server.port), settings);
        server.listening().await;
        server
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a signal, as `STOP` or `CONT`, to the server.
    pub fn signal(&self, signal: &str) {
        send_signal(self.pid(), signal);
    }

    /// The process of the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running server")
    }

    /// Ends the server as a crash does.
    pub async fn kill9(&mut self) {
        self.child.kill().await.expect("kill -9");
    }

    /// Starts the server again, on the same port with the same data, ending it first if it still runs.
    pub async fn restart(&mut self) {
        if self.child.id().is_some() {
            self.kill9().await;
        }
        self.child = spawn(self.dir.path());
        self.listening().await;
    }

    /// The end of the server's log, for the message of a failed assertion.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap_or_default()
    }

    async fn taken_port(&mut self) -> u16 {
        let file = self.dir.path().join(format!("nats-server_{}.ports", self.pid()));
        let written = async {
            loop {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let ports: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let url = ports["nats"][0].as_str().unwrap_or_default();
                if let Some(port) = url.rsplit(':').next().and_then(|port| port.parse().ok()) {
                    return port;
                }
                if let Some(status) = self.child.try_wait().expect("the state of the server") {
                    panic!("nats-server ended with {status}:\n{}", self.log());
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(START_LIMIT, written).await.expect("nats-server says where it listens")
    }

    async fn listening(&mut self) {
        let connected = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
                if let Some(status) = self.child.try_wait().expect("the state of the server") {
                    panic!("nats-server ended with {status}:\n{}", self.log());
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(START_LIMIT, connected).await.is_ok(), "nats-server does not listen");
    }
}

fn spawn(dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("nats.log")).expect("a log file");
    Command::new(server_binary())
        .arg("-c")
        .arg(dir.join("nats.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server starts")
}

/// Writes the configuration; -1 lets the server choose its port.
fn configure(dir: &Path, port: i32, settings: Settings<'_>) {
    let Settings { name, server, jetstream } = settings;
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\nserver_name: {name}\nping_interval: \"5s\"\nping_max: 2\nports_file_dir: \"{}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: always, {jetstream} }}\n{server}",
        dir.display(),
        dir.join("data").display()
    );
    std::fs::write(dir.join("nats.conf"), config).expect("a configuration file");
}

/// The server's binary: from `PATH`, or where `./dev` puts it.
#[must_use]
pub fn server_binary() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join(".tools/bin");
    #[allow(clippy::disallowed_methods, reason = "looks for a program as the shell does")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([tools])
        .map(|folder| folder.join("nats-server"))
        .find(|binary| binary.is_file())
        .expect("nats-server is neither in PATH nor in .tools/bin: run `./dev test`, which installs it")
}
