//! The streams of the product: their settings, their making, and what differs.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use laneway_contract::{ATTEMPT_LEASE_MS, DISPATCH_CLAIM_MS, Family, MAX_QUEUED, Prefix, Stream, Subject};
use serde::Serialize;
use serde_json::Value;

use crate::waiting::Waiting;
use crate::{Bus, BusError};

/// The largest message of a stream, in bytes: what NATS takes at most unless configured otherwise.
const MAX_MESSAGE_BYTES: i32 = 1024 * 1024;
/// Dispatches are hints that are void after seconds; what a vanished pool left goes away.
const DISPATCH_AGE: Duration = Duration::from_mins(1);
/// Token streams are kept this long for late readers.
const TOKENS_AGE: Duration = Duration::from_mins(10);
/// The memory that token streams may take, in bytes.
const TOKENS_BYTES: i64 = 128 * 1024 * 1024;
/// Dead letters are kept as long as their bodies.
const REJECTS_AGE: Duration = Duration::from_hours(7 * 24);
/// Repeated message ids are known this long; of the journal and the public events they are for the operator's eye.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(1);
/// A dead letter whose message was not acknowledged comes again after the consumer's wait, maybe from the next leader.
const REJECTS_DUPLICATE_WINDOW: Duration = Duration::from_mins(10);

const _: () = assert!(DISPATCH_AGE.as_millis() as u64 > 2 * DISPATCH_CLAIM_MS);

/// A setting in which a stream or a consumer is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamDifference {
    /// The stream; of a consumer, `STREAM > CONSUMER`.
    pub stream: String,
    /// The setting, as the server names it.
    pub setting: String,
    /// What it is; null where it is not set.
    pub found: Value,
    /// What it should be; null where it should not be set.
    pub expected: Value,
}

impl std::fmt::Display for StreamDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} is {}, should be {}", self.stream, self.setting, self.found, self.expected)
    }
}

/// The settings of a stream.
#[must_use]
pub fn stream_config(prefix: &Prefix, stream: Stream, replicas: usize) -> Config {
    let file = Config {
        name: prefix.stream(stream),
        subjects: vec![subjects(prefix, stream)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        max_message_size: MAX_MESSAGE_BYTES,
        // What the server writes for "not set", so that no difference is found in a stream of ours.
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        compression: Some(Compression::None),
        duplicate_window: DUPLICATE_WINDOW,
        description: Some(about(stream).to_owned()),
        ..Config::default()
    };
    let memory = Config { storage: StorageType::Memory, discard: DiscardPolicy::Old, ..file.clone() };
    match stream {
        Stream::Journal => Config { deny_delete: true, ..file },
        // Parts are read one by one, by their subjects; older snapshots are purged.
        Stream::Snapshots => Config { allow_direct: true, ..file },
        Stream::Dispatch => Config { retention: RetentionPolicy::WorkQueue, max_age: DISPATCH_AGE, ..memory },
        Stream::Control => {
            Config { max_messages_per_subject: 1, max_age: Duration::from_millis(2 * ATTEMPT_LEASE_MS), ..memory }
        }
        // A work queue: content stays here only until its frame is stored and the message acknowledged.
        Stream::Intake => Config { retention: RetentionPolicy::WorkQueue, max_messages: MAX_QUEUED as i64, ..file },
        Stream::Rejects => Config {
            discard: DiscardPolicy::Old,
            max_age: REJECTS_AGE,
            max_messages: MAX_QUEUED as i64,
            duplicate_window: REJECTS_DUPLICATE_WINDOW,
            ..file
        },
        // Captured from plain publishes: nobody waits for an acknowledgement.
        Stream::Tokens => {
            Config { max_age: TOKENS_AGE, max_bytes: TOKENS_BYTES, no_ack: true, allow_direct: true, ..memory }
        }
        // The journal makes asynchronous writes safe: what a power loss took is written again.
        Stream::Flight => Config {
            deny_delete: true,
            allow_direct: true,
            persist_mode: (replicas == 1).then_some(PersistenceMode::Async),
            ..file
        },
    }
}

fn subjects(prefix: &Prefix, stream: Stream) -> String {
    match stream {
        Stream::Journal => prefix.subject(&Subject::Journal),
        Stream::Snapshots => prefix.all(Family::Snapshots),
        Stream::Dispatch => prefix.all(Family::Dispatch),
        Stream::Control => prefix.all(Family::Control),
        Stream::Intake => prefix.subject(&Subject::Intake),
        Stream::Rejects => prefix.subject(&Subject::Rejects),
        Stream::Tokens => prefix.all(Family::Tokens),
        Stream::Flight => prefix.all(Family::Flight),
    }
}

const fn about(stream: Stream) -> &'static str {
    match stream {
        Stream::Journal => "The ordered log that all state is folded from. Written by the leading scheduler only.",
        Stream::Snapshots => "Snapshots of the state that the journal folds into, the newest two.",
        Stream::Dispatch => "Dispatched runs, taken by workers.",
        Stream::Control => "Cancel signals of executing runs, the last of each.",
        Stream::Intake => "Submits that wait for a leader.",
        Stream::Rejects => "Submits of the intake that were refused.",
        Stream::Tokens => "Token streams of the last minutes.",
        Stream::Flight => "Public events, in order and chained by their hashes.",
    }
}

/// Makes the streams that are missing and gives what differs in those that are there, which are never altered. Waits for JetStream as
/// long as it takes; fails on what waiting cannot mend.
pub async fn ensure_streams(bus: &Bus) -> Result<Vec<StreamDifference>, BusError> {
    let mut differences = Vec::new();
    for stream in Stream::ALL {
        let expected = stream_config(bus.prefix(), *stream, bus.replicas());
        let found = ensure(bus, &expected).await?;
        differences.extend(compare(&expected.name, &expected, &found));
    }
    for difference in &differences {
        tracing::warn!("stream {difference}");
    }
    Ok(differences)
}

/// As [`ensure_streams`], making nothing: the streams that are missing, and what differs in the others.
pub async fn compare_streams(bus: &Bus) -> Result<(Vec<Stream>, Vec<StreamDifference>), BusError> {
    let (mut missing, mut differences) = (Vec::new(), Vec::new());
    for stream in Stream::ALL {
        let expected = stream_config(bus.prefix(), *stream, bus.replicas());
        let mut waiting = Waiting::new(format!("stream {}", expected.name));
        loop {
            match look(bus, &expected).await {
                Ok(Some(found)) => break differences.extend(compare(&expected.name, &expected, &found)),
                Ok(None) => break missing.push(*stream),
                Err(Obstacle::Lasting(error)) => return Err(error),
                Err(Obstacle::Passing(reason)) => waiting.after(&reason).await,
            }
        }
    }
    Ok((missing, differences))
}

/// What stands between us and a stream.
enum Obstacle {
    Passing(String),
    Lasting(BusError),
}

/// The settings of the stream as it is, after making it where it is missing.
async fn ensure(bus: &Bus, expected: &Config) -> Result<Config, BusError> {
    let mut waiting = Waiting::new(format!("stream {}", expected.name));
    loop {
        let found = match look(bus, expected).await {
            Ok(None) => make(bus, expected).await,
            found => found,
        };
        match found {
            Ok(Some(found)) => return Ok(found),
            // Another process has made it, with other settings, since we looked.
            Ok(None) => {}
            Err(Obstacle::Lasting(error)) => return Err(error),
            Err(Obstacle::Passing(reason)) => waiting.after(&reason).await,
        }
    }
}

async fn look(bus: &Bus, expected: &Config) -> Result<Option<Config>, Obstacle> {
    match bus.jetstream().get_stream(&expected.name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            GetStreamErrorKind::JetStream(refusal) => Err(obstacle(expected, &refusal)),
            GetStreamErrorKind::Request => Err(Obstacle::Passing(error.to_string())),
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                Err(Obstacle::Lasting(refused(expected, &error)))
            }
        },
    }
}

async fn make(bus: &Bus, expected: &Config) -> Result<Option<Config>, Obstacle> {
    match bus.jetstream().create_stream(expected).await {
        Ok(stream) => {
            tracing::info!(stream = expected.name, "made");
            Ok(Some(stream.cached_info().config.clone()))
        }
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                Ok(None)
            }
            CreateStreamErrorKind::JetStream(refusal) => Err(obstacle(expected, &refusal)),
            CreateStreamErrorKind::TimedOut
            | CreateStreamErrorKind::JetStreamUnavailable
            | CreateStreamErrorKind::Response
            | CreateStreamErrorKind::NotFound => Err(Obstacle::Passing(error.to_string())),
            CreateStreamErrorKind::EmptyStreamName
            | CreateStreamErrorKind::InvalidStreamName
            | CreateStreamErrorKind::DomainAndExternalSet
            | CreateStreamErrorKind::ResponseParse => Err(Obstacle::Lasting(refused(expected, &error))),
        },
    }
}

/// An election and a cluster that is not complete yet pass by themselves.
fn obstacle(expected: &Config, refusal: &async_nats::jetstream::Error) -> Obstacle {
    if refusal.code() == 503 || refusal.error_code() == ErrorCode::CLUSTER_NO_PEERS {
        Obstacle::Passing(refusal.to_string())
    } else {
        Obstacle::Lasting(refused(expected, refusal))
    }
}

fn refused(expected: &Config, reason: &impl ToString) -> BusError {
    BusError::Stream { stream: expected.name.clone(), reason: reason.to_string() }
}

/// The settings that differ. Texts for the operator and what the server adds to the metadata are not settings.
pub(crate) fn compare<C: Serialize>(name: &str, expected: &C, found: &C) -> Vec<StreamDifference> {
    let settings = |config: &C| match serde_json::to_value(config) {
        Ok(Value::Object(settings)) => settings,
        _ => serde_json::Map::new(),
    };
    let (mut expected_settings, mut found_settings) = (settings(expected), settings(found));
    for text in ["description", "metadata"] {
        expected_settings.remove(text);
        found_settings.remove(text);
    }
    let mut names: Vec<_> = expected_settings.keys().chain(found_settings.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let value =
        |settings: &serde_json::Map<_, Value>, name: &String| settings.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .map(|setting| StreamDifference {
            stream: name.to_owned(),
            found: value(&found_settings, &setting),
            expected: value(&expected_settings, &setting),
            setting,
        })
        .filter(|difference| difference.found != difference.expected)
        .collect()
}
