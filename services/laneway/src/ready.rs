//! Whether a service does its work, asked quickly and from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::StreamExt;
use laneway_bus::async_nats::Subscriber;
use laneway_bus::{Bus, BusError};
use laneway_contract::{ANNOUNCE_MS, Announcement, Family, Format, ServiceName};

/// How long answers to a ping are collected. On a healthy network they come within milliseconds.
const PING: Duration = Duration::from_millis(500);
/// Each worker announces itself once in this time, with something to spare.
const ANNOUNCE: Duration = Duration::from_millis(2 * ANNOUNCE_MS);

/// Whether at least one instance of the service is there.
pub(crate) async fn is_ready(bus: &Bus, service: ServiceName) -> Result<bool, BusError> {
    match service {
        ServiceName::SessionStore | ServiceName::Scheduler | ServiceName::FlightRecorder => {
            Ok(instances(bus, service, true).await? > 0)
        }
        ServiceName::Worker => {
            let mut announcements = bus.subscribe(bus.prefix().all(Family::Workers)).await?;
            let heard = tokio::time::timeout(ANNOUNCE, next(&mut announcements)).await;
            Ok(heard.is_ok_and(|worker| worker.is_some_and(|worker| worker.slots > 0)))
        }
    }
}

/// How many instances of a service answer; with `first_only`, at most one is waited for.
pub(crate) async fn instances(bus: &Bus, service: ServiceName, first_only: bool) -> Result<usize, BusError> {
    let name = format!("{}-{service}", bus.prefix().as_str());
    let inbox = bus.client().new_inbox();
    let mut replies = bus.subscribe(inbox.clone()).await?;
    let ping = bus.client().publish_with_reply(format!("$SRV.PING.{name}"), inbox, bytes::Bytes::new());
    ping.await.map_err(BusError::Publish)?;
    let mut ids = BTreeSet::new();
    let collect = async {
        while let Some(reply) = replies.next().await {
            // With nobody there, NATS itself answers at once and without a body.
            let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&reply.payload) else { break };
            // A leading scheduler answers once for each of its micro services.
            ids.insert(
                answer["metadata"]["instance"].as_str().or(answer["id"].as_str()).unwrap_or_default().to_owned(),
            );
            if first_only {
                break;
            }
        }
    };
    // No answer in this time is an answer: what was collected counts.
    tokio::time::timeout(PING, collect).await.unwrap_or_default();
    Ok(ids.len())
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
