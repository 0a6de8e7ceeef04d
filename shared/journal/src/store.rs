//! The stream on the server: one message stored, read or asked for at a time, each with a time limit of our own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap, Request, Subscriber};
use bytes::Bytes;
use laneway_contract::Timestamp;
use serde::Deserialize;

use crate::fence::{PublishOutcome, ReadOutcome};
use crate::node::ServerInfo;

/// How long any request to the server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the server says that a delivery is alive though it has nothing to deliver.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(1);

/// How long the server keeps a delivery that nobody listens to.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(10);

/// The error by which the server refuses a message whose expected last sequence is not the stream's.
const WRONG_LAST_SEQUENCE: u64 = 10_071;

/// A frame that is not taken is tried again every few milliseconds; that it is not is said at once, and then this often.
const SAY_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Store {
    client: Client,
    context: Context,
    stream: String,
    subject: String,
    refusals: Arc<Refusals>,
}

/// When it was last said that a frame is not taken.
#[derive(Debug, Default)]
struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    fn say(&self, reason: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(reason, "the server does not take a frame: nothing is acknowledged until it does");
        }
    }
}

impl Store {
    pub(crate) fn new(client: Client, stream: &str, subject: &str) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(REQUEST_TIMEOUT);
        Self { client, context, stream: stream.to_owned(), subject: subject.to_owned(), refusals: Arc::default() }
    }

    /// Publishes a message that is to be stored only behind `expected_last`.
    pub(crate) async fn publish(self, bytes: Bytes, expected_last: u64) -> PublishOutcome {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, expected_last.to_string());
        let request = Request::new().headers(headers).payload(bytes).timeout(Some(REQUEST_TIMEOUT));
        match self.client.send_request(self.subject, request).await {
            Ok(reply) => {
                let outcome = read_ack(&reply.payload);
                if outcome == PublishOutcome::Failed {
                    self.refusals.say(&String::from_utf8_lossy(&reply.payload));
                }
                outcome
            }
            // A server whose disk is full says so in its own log, and nothing here.
            Err(error) => {
                self.refusals.say(&error.to_string());
                PublishOutcome::Failed
            }
        }
    }

    /// Reads a message by number.
    pub(crate) async fn read(self, number: u64) -> ReadOutcome {
        match self.get(number).await {
            Ok(Some(bytes)) => return ReadOutcome::Found(bytes),
            Ok(None) => {}
            Err(()) => return ReadOutcome::Failed,
        }
        let Some(info) = self.info().await else { return ReadOutcome::Failed };
        // Messages may have come between the two answers: a hole is one that is still there after the later.
        match self.get(number).await {
            Ok(Some(bytes)) => ReadOutcome::Found(bytes),
            Ok(None) => ReadOutcome::Missing { last: info.last },
            Err(()) => ReadOutcome::Failed,
        }
    }

    /// The server's clock and the last sequence it knows; none if it does not answer or the stream does not exist.
    pub(crate) async fn info(&self) -> Option<ServerInfo> {
        let reply: Result<InfoReply, _> = self.context.request(format!("STREAM.INFO.{}", self.stream), &()).await;
        match reply {
            Ok(InfoReply { ts: Some(time), state: Some(state) }) => Some(ServerInfo { time, last: state.last_seq }),
            Ok(InfoReply { .. }) => {
                tracing::debug!(stream = self.stream, "the journal's stream cannot be asked");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "no answer about the journal's stream");
                None
            }
        }
    }

    /// The first numbers in a row that the stream has had and does not have, although it has others; none where there is no
    /// such gap, or no answer.
    pub(crate) async fn hole(&self) -> Option<(u64, u64)> {
        let request = serde_json::json!({"deleted_details": true});
        let reply: Result<InfoReply, _> = self.context.request(format!("STREAM.INFO.{}", self.stream), &request).await;
        let mut deleted = reply.ok()?.state?.deleted;
        // Of a stream that has never held anything, the server says that message 0 is gone.
        deleted.retain(|number| *number > 0);
        let first = *deleted.first()?;
        let last = deleted.iter().zip(first..).take_while(|(number, expected)| *number == expected).last();
        Some((first, last.map_or(first, |(number, _)| *number)))
    }

    /// Begins a delivery of all messages from `first` on.
    pub(crate) async fn deliver_from(&self, first: u64) -> Result<Subscriber, async_nats::Error> {
        let inbox = self.client.new_inbox();
        // IMPORTANT: subscribe before the server begins to deliver.
        let subscriber = self.client.subscribe(inbox.clone()).await?;
        let stream = self.context.get_stream_no_info(&self.stream).await?;
        let config = push::Config {
            deliver_subject: inbox,
            description: Some("laneway reads its journal".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
            ack_policy: AckPolicy::None,
            max_deliver: -1,
            flow_control: true,
            idle_heartbeat: IDLE_HEARTBEAT,
            inactive_threshold: INACTIVE_THRESHOLD,
            memory_storage: true,
            num_replicas: 1,
            ..push::Config::default()
        };
        stream.create_consumer(config).await?;
        Ok(subscriber)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    async fn get(&self, number: u64) -> Result<Option<Bytes>, ()> {
        let stream = self.context.get_stream_no_info(&self.stream).await.map_err(drop)?;
        match stream.get_raw_message(number).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => {
                tracing::debug!(%error, number, "a frame cannot be read");
                Err(())
            }
        }
    }
}

#[derive(Deserialize)]
struct InfoReply {
    ts: Option<Timestamp>,
    state: Option<StateReply>,
}

#[derive(Deserialize)]
struct StateReply {
    last_seq: u64,
    #[serde(default)]
    deleted: Vec<u64>,
}

#[derive(Deserialize)]
struct AckReply {
    #[serde(default)]
    seq: u64,
    error: Option<ErrorReply>,
}

#[derive(Deserialize)]
struct ErrorReply {
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What a server's answer to a publish says. Whatever is not understood leaves it open whether the message is stored.
fn read_ack(payload: &[u8]) -> PublishOutcome {
    match serde_json::from_slice(payload) {
        Ok(AckReply { seq, error: None }) if seq > 0 => PublishOutcome::Acked { seq },
        Ok(AckReply { error: Some(error), .. }) if error.err_code == WRONG_LAST_SEQUENCE => {
            let last = error.description.rsplit(' ').next().and_then(|number| number.parse().ok());
            last.map_or(PublishOutcome::Failed, |last| PublishOutcome::WrongLast { last })
        }
        Ok(_) | Err(_) => PublishOutcome::Failed,
    }
}

#[cfg(test)]
mod tests;
