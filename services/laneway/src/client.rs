//! A small typed client of the services.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use laneway_bus::Bus;
use laneway_bus::async_nats::jetstream::consumer::{DeliverPolicy, pull};
use laneway_contract::{
    ApiError, CancelReply, CancelRuns, Chunk, Endpoint, GetStatus, RunId, RunReply, RunView, StatusReply, Stream,
    Subject, SubmitRun, Timestamp, WaitRun,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::CliError;

/// How long a request is tried again while nobody answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a reply to a long wait may take beyond the wait itself.
const BEYOND_WAIT: Duration = Duration::from_secs(5);
/// One turn of waiting for a run's end, in milliseconds.
const WAIT_TURN_MS: u64 = 30_000;

/// The services, as a program sees them.
#[derive(Clone)]
pub struct Client {
    bus: Bus,
}

impl Client {
    /// A client on a connection.
    #[must_use]
    pub const fn new(bus: Bus) -> Self {
        Self { bus }
    }

    /// The connection.
    #[must_use]
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Sends a request that is answered at once.
    pub async fn ask<Q: Serialize, R: DeserializeOwned>(&self, endpoint: Endpoint, request: &Q) -> Result<R, ApiError> {
        self.bus.request(endpoint, request).await
    }

    /// Submits a run; with `wait` in the request, answers at its end.
    pub async fn submit(&self, request: &SubmitRun) -> Result<RunReply, ApiError> {
        if !request.wait {
            return self.ask(Endpoint::RunsSubmit, request).await;
        }
        let wait_ms = request.wait_ms.unwrap_or(laneway_contract::DEFAULT_WAIT_MS);
        self.ask_long(Endpoint::RunsSubmit, request, wait_ms).await
    }

    /// Waits for the end of a run, at most `wait_ms` milliseconds.
    pub async fn wait(&self, run_id: RunId, wait_ms: u64, with_content: bool) -> Result<RunReply, ApiError> {
        let request = WaitRun { run_id, wait_ms: Some(wait_ms), with_content: Some(with_content) };
        self.ask_long(Endpoint::RunsWait, &request, wait_ms).await
    }

    /// Waits for the end of a run, as long as it takes, and for its output.
    pub async fn wait_to_end(&self, run_id: RunId) -> Result<RunReply, ApiError> {
        self.ended(run_id, true).await
    }

    async fn ended(&self, run_id: RunId, with_content: bool) -> Result<RunReply, ApiError> {
        loop {
            let reply = self.wait(run_id, WAIT_TURN_MS, with_content).await?;
            if reply.done {
                return Ok(reply);
            }
        }
    }

    /// Cancels runs; with `wait` in the request, answers at their end, as long as that takes.
    pub async fn cancel(&self, request: &CancelRuns) -> Result<CancelReply, ApiError> {
        let mut at_once = CancelRuns { wait: false, wait_ms: None, ..request.clone() };
        // IMPORTANT: fixed before the first sending, in the time that submits are counted in: when its answer is lost, the
        // same request once more must not reach runs that came after it.
        if request.run_id.is_none() && request.submitted_before.is_none() {
            at_once.submitted_before = Some(self.status(PATIENCE).await?.time.plus_millis(1));
        }
        let mut reply: CancelReply = self.ask(Endpoint::RunsCancel, &at_once).await?;
        while request.wait && !reply.done {
            // Waited for one by one: each of these questions can be asked again without harm.
            for row in reply.runs.iter_mut().filter(|run| !run.state.is_terminal()) {
                let RunView { status, .. } = self.ended(row.run_id, false).await?.run;
                (row.state, row.receipt) = (status.state, status.cancel.map(|receipt| *receipt));
            }
            if request.run_id.is_some() {
                reply.done = true;
                break;
            }
            // A reply has room for a page of runs: what else was still executing is said by the same request once more.
            let rest: CancelReply = self.ask(Endpoint::RunsCancel, &at_once).await?;
            let known: BTreeSet<RunId> = reply.runs.iter().map(|run| run.run_id).collect();
            reply.runs.extend(rest.runs.into_iter().filter(|run| !known.contains(&run.run_id)));
            (reply.done, reply.journal_seq) = (rest.done, rest.journal_seq);
        }
        Ok(reply)
    }

    /// What the leading scheduler says of itself, tried for `patience`.
    pub async fn status(&self, patience: Duration) -> Result<StatusReply, ApiError> {
        let reply_timeout = patience.min(Duration::from_secs(2));
        self.bus.request_within(Endpoint::Status, &GetStatus {}, patience, reply_timeout).await
    }

    /// The token stream of a run from now on. Subscribe before the submit to miss nothing.
    pub async fn tokens(&self, run_id: RunId) -> Result<BoxStream<'static, Chunk>, CliError> {
        let subject = self.bus.prefix().subject(&Subject::Tokens(run_id));
        let messages = self.bus.subscribe(subject).await?;
        // The server has to know of the subscription before the run that it is for.
        self.bus.client().flush().await.map_err(|error| stream_error("token stream", &error))?;
        Ok(messages.filter_map(|message| std::future::ready(chunk(&message.payload))).boxed())
    }

    /// The token stream of a run from its start, as far as the stream still has it.
    pub async fn tokens_from_start(&self, run_id: RunId) -> Result<BoxStream<'static, Chunk>, CliError> {
        let subject = self.bus.prefix().subject(&Subject::Tokens(run_id));
        let messages = self.read(Stream::Tokens, subject, DeliverPolicy::All).await?.messages;
        Ok(messages.filter_map(|message| std::future::ready(message.ok().and_then(|m| chunk(&m.payload)))).boxed())
    }

    /// Messages of a stream in order, from where `deliver` says and on.
    pub async fn read(
        &self,
        stream: Stream,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<Reading, CliError> {
        let name = self.bus.prefix().stream(stream);
        let stream =
            self.bus.jetstream().get_stream_no_info(&name).await.map_err(|error| stream_error(&name, &error))?;
        let config = pull::OrderedConfig { filter_subject, deliver_policy, ..pull::OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.map_err(|error| stream_error(&name, &error))?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| stream_error(&name, &error))?;
        let stored = messages.map(move |message| {
            let message = message.map_err(|error| stream_error(&name, &error))?;
            let info = message.info().map_err(|error| stream_error(&name, error.as_ref()))?;
            Ok(Stored {
                sequence: info.stream_sequence,
                stored_at: millis_of(info.published.unix_timestamp_nanos()),
                pending: info.pending,
                payload: message.payload.clone(),
            })
        });
        Ok(Reading { pending, messages: stored.boxed() })
    }

    async fn ask_long<Q: Serialize, R: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        request: &Q,
        wait_ms: u64,
    ) -> Result<R, ApiError> {
        let reply_timeout = Duration::from_millis(wait_ms) + BEYOND_WAIT;
        self.bus.request_within(endpoint, request, reply_timeout + PATIENCE, reply_timeout).await
    }
}

/// Messages of a stream, past and coming.
pub struct Reading {
    /// How many were there at the start.
    pub pending: u64,
    /// The messages in order; without end.
    pub messages: BoxStream<'static, Result<Stored, CliError>>,
}

/// A message of a stream.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// How many more were there when it was sent.
    pub pending: u64,
    /// Its bytes.
    pub payload: Bytes,
}

/// A time of NATS, in whole milliseconds.
pub(crate) const fn millis_of(nanos: i128) -> Timestamp {
    Timestamp::from_millis((nanos / 1_000_000) as i64)
}

fn chunk(payload: &[u8]) -> Option<Chunk> {
    serde_json::from_slice(payload).inspect_err(|error| tracing::warn!(%error, "not a chunk")).ok()
}

/// An error of JetStream while reading `name`.
pub(crate) fn stream_error(name: &str, error: &dyn std::error::Error) -> CliError {
    CliError::Stream { doing: name.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
