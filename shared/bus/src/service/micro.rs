//! What `nats micro ls|info|stats` ask: PING, INFO and STATS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::{Message, Subscriber};
use futures::stream::{SelectAll, StreamExt};
use laneway_contract::{ServiceName, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Served, Shared};
use crate::{Bus, BusError};

/// The questions, and the type of the answer to each.
const VERBS: [(&str, &str); 3] = [
    ("PING", "io.nats.micro.v1.ping_response"),
    ("INFO", "io.nats.micro.v1.info_response"),
    ("STATS", "io.nats.micro.v1.stats_response"),
];

/// Who answers.
pub(super) struct Identity {
    name: String,
    id: String,
    service: ServiceName,
    queue_group: String,
    started: Timestamp,
}

impl Identity {
    pub(super) fn new(bus: &Bus, service: ServiceName, queue_group: &str) -> Self {
        // An inbox ends in a token that no other client has.
        let inbox = bus.client().new_inbox();
        Self {
            name: format!("{}-{service}", bus.prefix().as_str()),
            id: inbox.rsplit('.').next().unwrap_or_default().to_owned(),
            service,
            queue_group: queue_group.to_owned(),
            started: now(),
        }
    }
}

/// Subscribes to each verb for all services, those of this name, and this one.
pub(super) async fn subscribe(bus: &Bus, identity: &Identity) -> Result<SelectAll<Subscriber>, BusError> {
    let mut asked = SelectAll::new();
    for (verb, _) in VERBS {
        for suffix in [String::new(), format!(".{}", identity.name), format!(".{}.{}", identity.name, identity.id)] {
            asked.push(bus.subscribe(format!("$SRV.{verb}{suffix}")).await?);
        }
    }
    Ok(asked)
}

/// Answers until the service is stopped.
pub(super) async fn serve(
    shared: Arc<Shared>,
    identity: Identity,
    mut asked: SelectAll<Subscriber>,
    stop: CancellationToken,
) {
    while let Some(Some(message)) = stop.run_until_cancelled(asked.next()).await {
        let Some(reply) = message.reply.clone() else { continue };
        let Some(answer) = answer(&shared, &identity, &message) else { continue };
        if let Err(error) = shared.bus.client().publish(reply, answer.to_string().into()).await {
            tracing::debug!(%error, "a description was not sent");
        }
    }
}

fn answer(shared: &Shared, identity: &Identity, message: &Message) -> Option<Value> {
    let verb = message.subject.split('.').nth(1)?;
    let (_, kind) = VERBS.into_iter().find(|(name, _)| *name == verb)?;
    let mut answer = json!({
        "type": kind,
        "name": identity.name,
        "id": identity.id,
        "version": env!("CARGO_PKG_VERSION"),
        // Told with each answer, so that one question shows which hosts are there and which scheduler leads.
        "metadata": {
            "service": identity.service.as_str(),
            "host": laneway_runtime::host(),
            "queue_group": identity.queue_group,
        },
    });
    for (name, value) in shared.details.iter().flat_map(|details| details()) {
        answer["metadata"][name] = value.into();
    }
    match verb {
        "INFO" => {
            answer["description"] = format!("Laneway {}", identity.service).into();
            answer["endpoints"] = shared.served.iter().map(|served| info(identity, served)).collect();
        }
        "STATS" => {
            answer["started"] = identity.started.to_string().into();
            answer["endpoints"] = shared.served.iter().map(|served| stats(identity, served)).collect();
        }
        _ => {}
    }
    Some(answer)
}

/// The protocol allows no dots in the name of an endpoint.
fn endpoint_name(served: &Served) -> String {
    served.route.endpoint.as_str().replace('.', "-")
}

fn info(identity: &Identity, served: &Served) -> Value {
    json!({
        "name": endpoint_name(served),
        "subject": served.subject,
        "queue_group": identity.queue_group,
        "metadata": {
            "about": served.route.endpoint.about(),
            "request": served.route.request_type,
            "reply": served.route.reply_type,
            "formats": "application/json, application/msgpack",
        },
    })
}

fn stats(identity: &Identity, served: &Served) -> Value {
    let requests = served.requests.load(Ordering::Relaxed);
    let nanoseconds = served.nanoseconds.load(Ordering::Relaxed);
    let last_error = served.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    json!({
        "name": endpoint_name(served),
        "subject": served.subject,
        "queue_group": identity.queue_group,
        "num_requests": requests,
        "num_errors": served.errors.load(Ordering::Relaxed),
        "last_error": last_error,
        "processing_time": nanoseconds,
        "average_processing_time": nanoseconds.checked_div(requests).unwrap_or(0),
    })
}

#[allow(clippy::disallowed_methods, reason = "shown to operators; nothing is decided by it")]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}
