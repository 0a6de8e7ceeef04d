//! A nats-server of one test, schedulers on connections of their own, and stand-ins for a store replica and a worker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    reason = "a test helper, of which no test uses all"
)]

mod nats;
mod replica;
mod worker;

use std::time::Duration;

use laneway_bus::{Bus, ConnectOptions};
use laneway_contract::*;
use laneway_journal::{Body, Follower, Formats, Position};
use laneway_runtime::Shutdown;
use laneway_scheduler::{SchedulerConfig, SchedulerError, SnapshotSchedule};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use nats::Server;
pub use worker::Worker;

/// Every wait of a test ends in this time.
pub const BOUND: Duration = Duration::from_secs(30);

/// The output of a future that must end within the bound.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("the end of the wait within its bound")
}

/// A scheduler on a connection of its own.
pub struct Scheduler {
    shutdown: Shutdown,
    task: JoinHandle<Result<(), SchedulerError>>,
    bus: Bus,
}

impl Scheduler {
    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) {
        self.shutdown.request();
        within(self.task).await.unwrap().unwrap();
    }

    /// How it ends by itself.
    pub async fn ended(self) -> Result<(), SchedulerError> {
        within(self.task).await.unwrap()
    }

    /// Cuts it off without a word: nothing that it does reaches NATS any more.
    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
        drop(self.bus.drain().await);
    }
}

/// A deployment without its real store and workers.
pub struct World {
    pub server: Server,
    pub bus: Bus,
    replica: JoinHandle<()>,
}

impl World {
    pub async fn start() -> Self {
        Self::start_on(Server::start()).await
    }

    pub async fn start_on(server: Server) -> Self {
        let bus = server.bus("test").await;
        let replica = laneway_runtime::spawn("replica", replica::run(server.bus("replica").await));
        Self { server, bus, replica }
    }

    pub async fn scheduler(&self, instance: &str) -> Scheduler {
        self.scheduler_with(instance, None).await
    }

    pub async fn scheduler_with(&self, instance: &str, limits: Option<Limits>) -> Scheduler {
        Self::scheduler_on(self.server.bus(instance).await, instance, limits)
    }

    pub async fn scheduler_as(&self, instance: &str, limits: Option<Limits>, snapshots: SnapshotSchedule) -> Scheduler {
        Self::run_on(self.server.bus(instance).await, instance, limits, snapshots, Formats::default())
    }

    pub fn scheduler_on(bus: Bus, instance: &str, limits: Option<Limits>) -> Scheduler {
        Self::run_on(bus, instance, limits, SnapshotSchedule::default(), Formats::default())
    }

    /// A scheduler of a program that reads and writes these formats.
    pub async fn scheduler_of(&self, instance: &str, formats: Formats) -> Scheduler {
        let bus = self.server.bus(instance).await;
        Self::run_on(bus, instance, None, SnapshotSchedule::default(), formats)
    }

    fn run_on(
        bus: Bus,
        instance: &str,
        limits: Option<Limits>,
        snapshots: SnapshotSchedule,
        formats: Formats,
    ) -> Scheduler {
        let shutdown = Shutdown::new();
        let (catalog, memory) = (Catalog::built_in().unwrap(), MemoryLimits::default());
        let instance = instance.to_owned();
        let config = SchedulerConfig { instance, limits, catalog, memory, snapshots, formats };
        let task = laneway_runtime::spawn("scheduler", laneway_scheduler::run(bus.clone(), config, shutdown.clone()));
        Scheduler { shutdown, task, bus }
    }

    /// From here on no replica answers.
    pub fn without_replica(&self) {
        self.replica.abort();
    }

    /// Every event of the journal as it comes, from the first.
    pub fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, events) = mpsc::unbounded_channel();
        let stream = self.bus.prefix().stream(Stream::Journal);
        let mut follower = Follower::<Event>::new(self.bus.client().clone(), &stream, Position::START);
        laneway_runtime::spawn("events", async move {
            while let Ok(batch) = follower.next_batch(64).await {
                for committed in batch {
                    let Body::Turns(turns) = committed.frame.body else { continue };
                    for event in turns.into_iter().flat_map(|turn| turn.events) {
                        if sender.send(event).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        events
    }

    /// Asks until a leader answers.
    pub async fn ask<Q: Serialize, R: DeserializeOwned>(&self, endpoint: Endpoint, request: &Q) -> Result<R, ApiError> {
        let (patience, reply) = (Duration::from_secs(20), Duration::from_secs(20));
        // A leader that was cut off still holds its subscription, so a short wait for the quick ones.
        let reply = if matches!(endpoint, Endpoint::RunsWait) { reply } else { Duration::from_secs(2) };
        within(self.bus.request_within(endpoint, request, patience, reply)).await
    }

    /// Also a first submit may be answered as repeated: the client asks again when it hears that a leader begins, and that
    /// one may have had it already.
    pub async fn submit(&self, request: &SubmitRun) -> RunReply {
        self.ask(Endpoint::RunsSubmit, request).await.unwrap()
    }

    pub async fn status(&self) -> StatusReply {
        self.ask(Endpoint::Status, &GetStatus {}).await.unwrap()
    }

    pub async fn get(&self, run_id: RunId) -> RunReply {
        self.ask(Endpoint::RunsGet, &GetRun { run_id }).await.unwrap()
    }

    /// The run when it has ended.
    pub async fn ended(&self, run_id: RunId) -> RunReply {
        let request = WaitRun { run_id, wait_ms: Some(15_000), with_content: None };
        let reply: RunReply = self.ask(Endpoint::RunsWait, &request).await.unwrap();
        assert!(reply.done, "{reply:?}");
        reply
    }

    /// Waits until what `look` says of a run is true.
    pub async fn until(&self, run_id: RunId, look: impl Fn(&RunView) -> bool) -> RunView {
        within(async {
            loop {
                let run = self.get(run_id).await.run;
                if look(&run) {
                    return run;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub async fn worker(&self, name: &str, slots: u32) -> Worker {
        Worker::start(self.server.bus(name).await, name, slots)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.replica.abort();
    }
}

/// A submit of a text to the model `echo/default`.
pub fn submit(input: &str) -> SubmitRun {
    let body = serde_json::json!({"run_id": RunId::generate(), "model_id": "echo/default", "input": input});
    Format::Json.decode(body.to_string().as_bytes()).unwrap()
}

pub fn actor() -> Actor {
    Actor { id: "tester".to_owned(), kind: ActorKind::Person }
}

pub fn options(url: String, name: &str) -> ConnectOptions {
    ConnectOptions::new(url, Prefix::default(), name)
}
