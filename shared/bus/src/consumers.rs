//! The durable consumers: one for each pool of workers, one for the intake.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, IntoConsumerConfig};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::ConsumerErrorKind;
use futures::TryStreamExt;
use laneway_contract::{DISPATCH_CLAIM_MS, PoolId, Stream, Subject};

use crate::streams::{StreamDifference, compare};
use crate::waiting::Waiting;
use crate::{Bus, BusError};

/// A consumer whose messages are fetched.
pub type PullConsumer = Consumer<Config>;

/// A worker that still asks for the claim says so after each round of tries, of 10 s; one that a lost worker took is void by
/// then.
const DISPATCH_ACK_WAIT: Duration = Duration::from_millis(DISPATCH_CLAIM_MS + 10_000);
/// A frame is stored, or its leader deposed, within this time.
const INTAKE_ACK_WAIT: Duration = Duration::from_secs(30);
/// Dispatches of one pool that are being claimed at a time.
const MAX_CLAIMING: i64 = 65_536;
/// Messages of the intake whose acknowledgement is out. IMPORTANT: as many as the stream holds, because one that waits for a
/// full queue stays among them, and must not hold up those of other sessions.
const MAX_DECIDING: i64 = 1_000_000;

/// The settings of a pool's consumer.
#[must_use]
pub fn pool_consumer_config(bus: &Bus, pool: &PoolId) -> Config {
    Config {
        durable_name: Some(pool.to_string()),
        description: Some(format!("Workers of the pool {pool}.")),
        filter_subject: bus.prefix().subject(&Subject::Dispatch(pool.clone())),
        ack_wait: DISPATCH_ACK_WAIT,
        max_ack_pending: MAX_CLAIMING,
        ..every_message()
    }
}

/// The settings of the intake's consumer.
#[must_use]
pub fn intake_consumer_config() -> Config {
    Config {
        durable_name: Some("scheduler".to_owned()),
        description: Some("The leading scheduler.".to_owned()),
        ack_wait: INTAKE_ACK_WAIT,
        max_ack_pending: MAX_DECIDING,
        ..every_message()
    }
}

fn every_message() -> Config {
    Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        // A limit of deliveries would leave the message in the work queue for good.
        max_deliver: -1,
        ..Config::default()
    }
}

/// The consumer that the workers of a pool fetch from, made where it is missing.
pub async fn ensure_pool_consumer(bus: &Bus, pool: &PoolId) -> Result<PullConsumer, BusError> {
    ensure(bus, Stream::Dispatch, pool.as_str(), pool_consumer_config(bus, pool)).await
}

/// The consumer that the leader fetches submits from, made where it is missing.
pub async fn ensure_intake_consumer(bus: &Bus) -> Result<PullConsumer, BusError> {
    ensure(bus, Stream::Intake, "scheduler", intake_consumer_config()).await
}

/// Removes the consumers of dispatches that are ahead of their stream, and gives their names: they would pass over every message
/// until the stream has caught up with them.
///
/// A stream in the memory of a cluster loses messages when servers die one after the other, and the server (2.15) sets back only
/// consumers without replicas. Workers make theirs again at once.
pub async fn remove_consumers_ahead(bus: &Bus) -> Result<Vec<String>, BusError> {
    let name = bus.prefix().stream(Stream::Dispatch);
    let refused =
        |reason: &dyn std::fmt::Display| BusError::Consumer { consumer: name.clone(), reason: reason.to_string() };
    let stream = bus.jetstream().get_stream_no_info(&name).await.map_err(|error| refused(&error))?;
    let delivered = stream.consumers().map_ok(|info| (info.name, info.delivered.stream_sequence));
    let delivered: Vec<(String, u64)> = delivered.try_collect().await.map_err(|error| refused(&error))?;
    // IMPORTANT: asked after the consumers: one that is right is never ahead of a later answer.
    let last = stream.get_info().await.map_err(|error| refused(&error))?.state.last_sequence;
    let mut removed = Vec::new();
    for (consumer, _) in delivered.into_iter().filter(|(_, sequence)| *sequence > last) {
        stream.delete_consumer(&consumer).await.map_err(|error| refused(&error))?;
        removed.push(consumer);
    }
    Ok(removed)
}

/// What differs in the consumer of a stream, which is never altered; none where it, or its stream, is not there.
pub async fn compare_consumer(
    bus: &Bus,
    stream: Stream,
    expected: &Config,
) -> Result<Option<Vec<StreamDifference>>, BusError> {
    let stream = bus.prefix().stream(stream);
    let consumer = expected.durable_name.clone().unwrap_or_default();
    let name = format!("{stream} > {consumer}");
    let refused =
        |reason: &dyn std::fmt::Display| BusError::Consumer { consumer: name.clone(), reason: reason.to_string() };
    let handle = bus.jetstream().get_stream_no_info(&stream).await.map_err(|error| refused(&error))?;
    let mut waiting = Waiting::new(format!("consumer {consumer} of stream {stream}"));
    let mut found = loop {
        match handle.consumer_info(&consumer).await {
            Ok(info) => break info.config,
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound => return Ok(None),
                ConsumerInfoErrorKind::JetStream(refusal) if refusal.code() == 404 => return Ok(None),
                ConsumerInfoErrorKind::JetStream(refusal) if refusal.code() != 503 => return Err(refused(&refusal)),
                ConsumerInfoErrorKind::InvalidName | ConsumerInfoErrorKind::Offline => return Err(refused(&error)),
                ConsumerInfoErrorKind::JetStream(_)
                | ConsumerInfoErrorKind::TimedOut
                | ConsumerInfoErrorKind::NoResponders
                | ConsumerInfoErrorKind::Request => waiting.after(&error).await,
            },
        }
    };
    let mut expected = expected.clone().into_consumer_config();
    // What the server fills in.
    expected.name.clone_from(&found.name);
    if expected.max_waiting == 0 {
        found.max_waiting = 0;
    }
    Ok(Some(compare(&name, &expected, &found)))
}

async fn ensure(bus: &Bus, stream: Stream, name: &str, config: Config) -> Result<PullConsumer, BusError> {
    let stream = bus.prefix().stream(stream);
    let refused = |reason: &dyn std::fmt::Display| BusError::Consumer {
        consumer: format!("{stream} > {name}"),
        reason: reason.to_string(),
    };
    // Does not ask the server: the stream may not be there yet.
    let handle = bus.jetstream().get_stream_no_info(&stream).await.map_err(|error| refused(&error))?;
    let mut waiting = Waiting::new(format!("consumer {name} of stream {stream}"));
    loop {
        match handle.get_or_create_consumer(name, config.clone()).await {
            Ok(consumer) => return Ok(consumer),
            Err(error) => match error.kind() {
                // 404: the stream is not there yet; 503: an election.
                ConsumerErrorKind::JetStream(refusal) if !matches!(refusal.code(), 404 | 503) => {
                    return Err(refused(&refusal));
                }
                ConsumerErrorKind::InvalidConsumerType | ConsumerErrorKind::InvalidName => {
                    return Err(refused(&error));
                }
                ConsumerErrorKind::JetStream(_)
                | ConsumerErrorKind::TimedOut
                | ConsumerErrorKind::Request
                | ConsumerErrorKind::Other => waiting.after(&error).await,
            },
        }
    }
}
