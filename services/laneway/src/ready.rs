//! Whether a service does its work, asked quickly and from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::StreamExt;
use laneway_bus::async_nats::Subscriber;
use laneway_bus::{Bus, BusError};
use laneway_contract::{ANNOUNCE_MS, Announcement, Family, Format, ServiceName};
use laneway_journal::{FrameHash, Position};
use laneway_runtime::config::Config;

use crate::services;

/// How long answers to a ping are collected. On a healthy network they come within milliseconds.
const PING: Duration = Duration::from_millis(500);
/// Each worker announces itself once in this time, with something to spare.
const ANNOUNCE: Duration = Duration::from_millis(2 * ANNOUNCE_MS);

/// Whether the service does its work in the deployment: at least one instance is there, and of the schedulers one leads.
pub(crate) async fn is_ready(bus: &Bus, service: ServiceName) -> Result<bool, BusError> {
    match service {
        ServiceName::SessionStore | ServiceName::FlightRecorder => any(bus, service, |_| true).await,
        ServiceName::Scheduler => any(bus, service, Answer::leads).await,
        ServiceName::Worker => any_worker(bus, |_| true).await,
    }
}

/// Whether an instance on this host is there, also a scheduler that stands by. A worker is known by its name, which is the
/// configured one or begins with the host's.
pub(crate) async fn is_here(bus: &Bus, service: ServiceName, config: &Config) -> Result<bool, BusError> {
    let host = laneway_runtime::host();
    match service {
        ServiceName::SessionStore | ServiceName::Scheduler | ServiceName::FlightRecorder => {
            any(bus, service, |answer| answer.host == host).await
        }
        ServiceName::Worker => any_worker(bus, |worker| services::is_own_worker(config, &worker.worker_id)).await,
    }
}

/// What an instance says of itself.
#[derive(Debug, Default)]
struct Answer {
    id: String,
    host: String,
    group: String,
    position: Option<Position>,
}

impl Answer {
    fn read(body: &[u8]) -> Option<Self> {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &answer["metadata"];
        let number = metadata["journal_seq"].as_str().and_then(|number| number.parse().ok());
        let hash = metadata["journal_hash"].as_str().and_then(FrameHash::from_hex);
        Some(Self {
            id: text(&answer["id"]),
            host: text(&metadata["host"]),
            group: text(&metadata["queue_group"]),
            position: number.zip(hash).map(|(number, hash)| Position { number, hash }),
        })
    }

    fn leads(&self) -> bool {
        self.group.starts_with("leader-")
    }
}

async fn any(bus: &Bus, service: ServiceName, is_meant: impl Fn(&Answer) -> bool) -> Result<bool, BusError> {
    let mut answers = ping(bus, service).await?;
    let found = async {
        while let Some(answer) = next_answer(&mut answers).await {
            if is_meant(&answer) {
                return true;
            }
        }
        false
    };
    Ok(tokio::time::timeout(PING, found).await.unwrap_or_default())
}

async fn any_worker(bus: &Bus, is_meant: impl Fn(&Announcement) -> bool) -> Result<bool, BusError> {
    let mut announcements = bus.subscribe(bus.prefix().all(Family::Workers)).await?;
    let found = async {
        while let Some(worker) = next(&mut announcements).await {
            if worker.slots > 0 && is_meant(&worker) {
                return true;
            }
        }
        false
    };
    Ok(tokio::time::timeout(ANNOUNCE, found).await.unwrap_or_default())
}

/// How many instances of a service answer.
pub(crate) async fn instances(bus: &Bus, service: ServiceName) -> Result<usize, BusError> {
    let mut answers = ping(bus, service).await?;
    let mut ids = BTreeSet::new();
    let collect = async {
        while let Some(answer) = next_answer(&mut answers).await {
            ids.insert(answer.id);
        }
    };
    // No answer in this time is an answer: what was collected counts.
    tokio::time::timeout(PING, collect).await.unwrap_or_default();
    Ok(ids.len())
}

/// The frames that running store replicas have applied last, each with the host and the id of the replica.
pub(crate) async fn positions(bus: &Bus) -> Result<Vec<(String, Position)>, BusError> {
    let mut answers = ping(bus, ServiceName::SessionStore).await?;
    let mut positions = Vec::new();
    let collect = async {
        while let Some(answer) = next_answer(&mut answers).await {
            let name = format!("{} ({})", answer.host, answer.id);
            positions.extend(answer.position.map(|position| (name, position)));
        }
    };
    tokio::time::timeout(PING, collect).await.unwrap_or_default();
    Ok(positions)
}

async fn ping(bus: &Bus, service: ServiceName) -> Result<Subscriber, BusError> {
    let name = format!("{}-{service}", bus.prefix().as_str());
    let inbox = bus.client().new_inbox();
    let answers = bus.subscribe(inbox.clone()).await?;
    let ping = bus.client().publish_with_reply(format!("$SRV.PING.{name}"), inbox, bytes::Bytes::new());
    ping.await.map_err(BusError::Publish)?;
    Ok(answers)
}

/// None when nobody is there, which NATS itself says, at once and without a body.
async fn next_answer(answers: &mut Subscriber) -> Option<Answer> {
    Answer::read(&answers.next().await?.payload)
}

/// The workers that announce themselves.
pub(crate) async fn workers(bus: &Bus) -> Result<Vec<Announcement>, BusError> {
    let mut announcements = bus.subscribe(bus.prefix().all(Family::Workers)).await?;
    let mut workers: Vec<Announcement> = Vec::new();
    let collect = async {
        while let Some(worker) = next(&mut announcements).await {
            workers.retain(|known| known.worker_id != worker.worker_id);
            workers.push(worker);
        }
    };
    tokio::time::timeout(ANNOUNCE, collect).await.unwrap_or_default();
    workers.sort_by(|a, b| a.worker_id.cmp(&b.worker_id));
    Ok(workers)
}

/// Waits until every one of the services is there.
pub(crate) async fn wait_for(bus: &Bus, services: &[ServiceName]) -> Result<(), BusError> {
    for service in services {
        while !is_ready(bus, *service).await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn next(announcements: &mut Subscriber) -> Option<Announcement> {
    loop {
        let message = announcements.next().await?;
        match Format::MessagePack.decode(&message.payload) {
            Ok(worker) => return Some(worker),
            Err(error) => tracing::debug!(%error, "not an announcement"),
        }
    }
}
