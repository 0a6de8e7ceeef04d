//! Laneway as its users run it: separate processes of the real binary around a real nats-server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::StreamExt;
use laneway_bus::Bus;
use laneway_contract::{ApiError, Endpoint, ServiceName, Stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::access::Access;
use crate::nats::NatsServer;

/// A whole deployment in a folder of its own. Everything ends with it.
pub struct Stack {
    /// The server.
    pub nats: NatsServer,
    /// A connection as a client has it.
    pub bus: Bus,
    parts: Vec<Part>,
    dir: TempDir,
    env: Vec<(String, String)>,
    access: Access,
    /// Where parts connect that do not connect to the server itself.
    routes: BTreeMap<String, String>,
}

struct Part {
    service: ServiceName,
    name: String,
    child: Child,
}

impl Stack {
    /// Two schedulers, a store, a worker and a recorder.
    pub async fn start(config: &str) -> Self {
        let mut stack = Self::bare(config).await;
        stack.start_all().await;
        stack
    }

    /// Only the server; nothing of Laneway runs. `config` is the text of `laneway.toml`.
    pub async fn bare(config: &str) -> Self {
        Self::bare_with(config, Access::plain()).await
    }

    /// As [`Stack::bare`], with another way to the server.
    pub async fn bare_with(config: &str, access: Access) -> Self {
        Self::around(NatsServer::start_with(&access.server).await, config, access).await
    }

    /// As [`Stack::bare_with`], with a server that runs already.
    pub async fn around(nats: NatsServer, config: &str, access: Access) -> Self {
        let bus = Bus::connect(access.options(&nats.url())).await.expect("a connection");
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("laneway.toml"), config).expect("a configuration file");
        Self { nats, bus, parts: Vec::new(), dir, env: Vec::new(), access, routes: BTreeMap::new() }
    }

    /// From its next start on, a part connects here instead of to the server.
    pub fn route(&mut self, name: &str, url: String) {
        self.routes.insert(name.to_owned(), url);
    }

    /// A variable for the parts that are started from here on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts whatever of the usual five parts does not run.
    pub async fn start_all(&mut self) {
        for (service, name) in [
            (ServiceName::Scheduler, "scheduler-a"),
            (ServiceName::Scheduler, "scheduler-b"),
            (ServiceName::SessionStore, "store-a"),
            (ServiceName::Worker, "worker-a"),
            (ServiceName::FlightRecorder, "recorder-a"),
        ] {
            if !self.parts.iter().any(|part| part.name == name) {
                self.start_part(service, name, &[]);
            }
        }
        self.ready().await;
    }

    /// Starts one part under a name that also names its data folder and its log.
    pub fn start_part(&mut self, service: ServiceName, name: &str, args: &[&str]) {
        let config = self.dir.path().join("laneway.toml");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path(name)).expect("a log file");
        let url = self.routes.get(name).cloned().unwrap_or_else(|| self.access.url(&self.nats.url()));
        let child = Command::new(binary())
            .args(["serve", service.as_str(), "--nats", &url, "--config"])
            .arg(&config)
            .arg("--data")
            .arg(self.data_path(name))
            .args(["--instance", name, "--log", "json"])
            .args(self.access.flags())
            .args(args)
            .env("LANEWAY_LOG_LEVEL", "info")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the laneway binary; build it with `cargo build --profile ci -p laneway`");
        self.parts.push(Part { service, name: name.to_owned(), child });
    }

    /// Where a part writes its log.
    #[must_use]
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// The data folder of a part.
    #[must_use]
    pub fn data_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder that holds logs and data of all parts.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends a part as a crash does.
    pub async fn kill9(&mut self, name: &str) {
        let index = self.parts.iter().position(|part| part.name == name).expect("a running part");
        let mut part = self.parts.remove(index);
        part.child.kill().await.expect("kill -9");
    }

    /// Ends every part as a crash does.
    pub async fn kill9_all(&mut self) {
        for mut part in self.parts.drain(..) {
            part.child.kill().await.expect("kill -9");
        }
    }

    /// Asks a part to end, and waits for it; its exit code.
    pub async fn terminate(&mut self, name: &str) -> Option<i32> {
        self.signal_part(name, "TERM");
        self.end_of(name).await
    }

    /// Waits until a part has ended, at most 40 s; its exit code.
    pub async fn end_of(&mut self, name: &str) -> Option<i32> {
        let index = self.parts.iter().position(|part| part.name == name).expect("a running part");
        let mut part = self.parts.remove(index);
        let ended = tokio::time::timeout(Duration::from_secs(40), part.child.wait()).await;
        let Ok(status) = ended else { panic!("{name} does not end\n{}", self.logs()) };
        status.expect("a status").code()
    }

    /// The names of the parts of a service that run.
    #[must_use]
    pub fn running(&self, service: ServiceName) -> Vec<String> {
        self.parts.iter().filter(|part| part.service == service).map(|part| part.name.clone()).collect()
    }

    /// Fails when a part has ended by itself.
    pub fn all_run(&mut self) {
        let ended = self.ended();
        assert!(ended.is_empty(), "ended by themselves: {ended:?}\n{}", self.logs());
    }

    /// Waits until a part has ended by itself; its exit code.
    pub async fn ends(&mut self, name: &str) -> Option<i32> {
        let index = self.parts.iter().position(|part| part.name == name).expect("a started part");
        let ended = tokio::time::timeout(Duration::from_mins(1), self.parts[index].child.wait()).await;
        let Ok(status) = ended else { panic!("{name} does not end\n{}", self.logs()) };
        self.parts.remove(index);
        status.expect("a status").code()
    }

    /// Parts that have ended by themselves, with their status.
    pub fn ended(&mut self) -> Vec<String> {
        let status = |part: &mut Part| Some(format!("{}: {}", part.name, part.child.try_wait().expect("a status")?));
        self.parts.iter_mut().filter_map(status).collect()
    }

    /// Sends a signal, as `STOP` or `CONT`, to a part.
    pub fn signal_part(&self, name: &str, signal: &str) {
        let part = self.parts.iter().find(|part| part.name == name).expect("a running part");
        send_signal(part.child.id().expect("a running process"), signal);
    }

    /// Resident memory of each part and of nats-server in megabytes.
    #[must_use]
    pub fn memory_mb(&self) -> Vec<(String, f64)> {
        let parts = self.parts.iter().filter_map(|part| Some((part.name.clone(), part.child.id()?)));
        let all = parts.chain([("nats-server".to_owned(), self.nats.pid())]);
        all.filter_map(|(name, pid)| Some((name, resident_mb(pid)?))).collect()
    }

    /// The instance that leads.
    pub async fn leader(&self) -> String {
        let status = self.ask(Endpoint::Status, json!({})).await.expect("a status");
        status["leader"].as_str().expect("a name").to_owned()
    }

    /// The flags with which the command line reaches this deployment.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        [vec!["--nats".to_owned(), self.access.url(&self.nats.url())], self.access.flags()].concat()
    }

    /// What micro services say of themselves: the replies to `$SRV.<verb>`, as soon as there are `at_least` so many.
    pub async fn described(&self, verb: &str, at_least: usize) -> Vec<Value> {
        let client = self.bus.client();
        for _ in 0..100 {
            let inbox = client.new_inbox();
            let mut replies = client.subscribe(inbox.clone()).await.expect("a subscription");
            client.publish_with_reply(format!("$SRV.{verb}"), inbox, "".into()).await.expect("a question");
            let mut described = Vec::new();
            // Nobody knows how many there are: whoever says nothing for so long is not there yet.
            while let Ok(Some(reply)) = tokio::time::timeout(Duration::from_millis(200), replies.next()).await {
                described.extend(serde_json::from_slice::<Value>(&reply.payload).ok());
            }
            if described.len() >= at_least {
                return described;
            }
        }
        panic!("fewer than {at_least} answer {verb}\n{}", self.logs());
    }

    /// Waits until a leader answers, a store answers, and a worker was heard where one runs.
    pub async fn ready(&self) {
        let worker = self.parts.iter().any(|part| part.service == ServiceName::Worker);
        for attempt in 0.. {
            let leads = self.ask(Endpoint::Status, json!({})).await;
            let heard = leads.as_ref().is_ok_and(|s| !worker || s["workers"].as_array().is_some_and(|w| !w.is_empty()));
            let stores = self.ask(Endpoint::SessionsList, json!({"limit": 1})).await;
            if heard && stores.is_ok() {
                return;
            }
            assert!(attempt < 60, "not ready: {leads:?} {stores:?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The end of every log, for the message of a failed assertion.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for part in &self.parts {
            let text = std::fs::read_to_string(self.log_path(&part.name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            all.push_str(&format!("--- {}\n", part.name));
            for line in lines.into_iter().rev() {
                all.push_str(&format!("{line}\n"));
            }
        }
        all
    }

    /// What the server says of the streams between scheduler and workers, for the message of a failed assertion.
    async fn streams(&self) -> String {
        let mut all = String::new();
        for stream in [Stream::Dispatch, Stream::Control] {
            let name = self.bus.prefix().stream(stream);
            match self.bus.jetstream().get_stream(&name).await {
                Ok(stream) => {
                    let info = stream.cached_info();
                    all.push_str(&format!("--- {name} {:?} {:?}\n", info.state, info.cluster));
                    let consumers: Vec<_> = stream.consumers().collect().await;
                    all.push_str(&format!("{consumers:#?}\n"));
                }
                Err(error) => all.push_str(&format!("--- {name} {error}\n")),
            }
        }
        all
    }

    /// A request, repeated under the same bytes while nobody answers, as our own clients do it.
    pub async fn ask(&self, endpoint: Endpoint, body: Value) -> Result<Value, ApiError> {
        self.bus.request(endpoint, &body).await
    }

    /// A request that has to succeed.
    pub async fn must(&self, endpoint: Endpoint, body: Value) -> Value {
        match self.ask(endpoint, body.clone()).await {
            Ok(value) => value,
            Err(error) => panic!("{endpoint} {body}: {error}\n{}", self.logs()),
        }
    }

    /// Makes a session; its id.
    pub async fn create_session(&self, model_id: &str) -> String {
        let body = json!({"model_id": model_id, "memory_policy": "SESSION_SCOPED"});
        let reply = self.must(Endpoint::SessionsCreate, body).await;
        reply["session"]["session_id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a run is in this state.
    pub async fn in_state(&self, run_id: &Value, state: &str) {
        for _ in 0..600 {
            let reply = self.must(Endpoint::RunsGet, json!({"run_id": run_id})).await;
            if reply["run"]["state"] == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("run {run_id} is never {state}\n{}", self.logs());
    }

    /// Waits for the end of a run, also of one that is not accepted yet; its reply.
    pub async fn wait_run(&self, run_id: &str) -> Value {
        let end = Instant::now() + Duration::from_mins(2);
        let mut last = None;
        while Instant::now() < end {
            let body = json!({"run_id": run_id, "wait_ms": 5_000});
            let patience = Duration::from_secs(20);
            let reply: Result<Value, ApiError> =
                self.bus.request_within(Endpoint::RunsWait, &body, patience, Duration::from_secs(7)).await;
            match reply {
                Ok(reply) if reply["done"] == true => return reply,
                Ok(reply) => last = Some(reply.to_string()),
                Err(error) => {
                    last = Some(error.to_string());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        panic!("run {run_id} does not end: {last:?}\n{}{}", self.streams().await, self.logs());
    }

    /// The whole thread as (role, content).
    pub async fn thread(&self, session_id: &str) -> Vec<(String, String)> {
        let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
        let messages = self.messages(session_id).await;
        messages.iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
    }

    /// The whole thread, with the content of its messages.
    pub async fn messages(&self, session_id: &str) -> Vec<Value> {
        // Up to what the leader has answered so far: a store may be a moment behind it.
        let min_seq = self.must(Endpoint::Status, json!({})).await["journal_seq"].clone();
        let mut thread = Vec::new();
        let mut from = Some(1);
        while let Some(from_seq) = from {
            let body = json!({"session_id": session_id, "from_seq": from_seq, "with_content": true, "limit": 1000, "min_seq": min_seq});
            let page = self.must(Endpoint::SessionsMessages, body).await;
            thread.extend(page["messages"].as_array().expect("messages").iter().cloned());
            from = page["next_seq"].as_u64();
        }
        thread
    }
}

fn resident_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Sends a signal, as `STOP` or `CONT`, to a process that a test started.
pub(crate) fn send_signal(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(status.expect("kill").success());
}

/// A connection of a client.
pub async fn connect(url: &str) -> Bus {
    Bus::connect(Access::plain().options(url)).await.expect("a connection")
}

/// The binary that was built with the tests.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a target folder");
    let binary = profile.join("laneway");
    assert!(binary.exists(), "{} is missing: run `cargo build --profile ci -p laneway`", binary.display());
    binary
}
