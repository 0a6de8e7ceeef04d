//! Cancel signals on their way to the workers.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull::{Config, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures::StreamExt;
use laneway_contract::{ControlMessage, Family, Format, Stream, Subject};
use tokio::sync::watch;

use crate::waiting::Waiting;
use crate::{Bus, BusError};

/// The server forgets the consumer of a worker that is gone after this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

impl Bus {
    /// Tells the worker of an executing run to stop, and waits until the signal is stored.
    pub async fn publish_control(&self, signal: &ControlMessage) -> Result<u64, BusError> {
        let refused = |error: laneway_contract::ApiError| BusError::Stream {
            stream: self.prefix().stream(Stream::Control),
            reason: error.to_string(),
        };
        let body = Format::MessagePack.encode(signal).map_err(refused)?;
        self.publish_stored(&Subject::Control(signal.run_id), HeaderMap::new(), body.into()).await
    }
}

/// The cancel signals of all runs, beginning with the last of each. A signal may come again after a reconnect.
pub struct ControlSignals {
    bus: Bus,
    connections: watch::Receiver<u64>,
    messages: Option<Messages>,
}

impl ControlSignals {
    /// Nothing is asked of the server before the first signal is.
    #[must_use]
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone(), connections: bus.connections(), messages: None }
    }

    /// The next signal. Survives everything: a lost connection, a deleted consumer, a stream that is not there.
    /// May be dropped and called again.
    pub async fn next(&mut self) -> ControlMessage {
        loop {
            let Some(messages) = &mut self.messages else {
                self.messages = Some(self.consume().await);
                continue;
            };
            // IMPORTANT: after a reconnect everything is asked for again. The stream is in memory, so its sequences may have begun
            // anew, and a consumer that goes on by sequence would pass over signals.
            let message = tokio::select! {
                Ok(()) = self.connections.changed() => None,
                message = messages.next() => message,
            };
            match message {
                Some(Ok(message)) => match Format::MessagePack.decode(&message.payload) {
                    Ok(signal) => return signal,
                    Err(error) => tracing::warn!(subject = %message.subject, %error, "not a cancel signal"),
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "cancel signals were interrupted");
                    self.messages = None;
                }
                None => self.messages = None,
            }
        }
    }

    async fn consume(&mut self) -> Messages {
        let stream = self.bus.prefix().stream(Stream::Control);
        let mut waiting = Waiting::new(format!("stream {stream}"));
        loop {
            self.connections.mark_unchanged();
            let config = Config {
                description: Some("A worker's cancel signals.".to_owned()),
                deliver_policy: DeliverPolicy::LastPerSubject,
                ack_policy: AckPolicy::None,
                filter_subject: self.bus.prefix().all(Family::Control),
                inactive_threshold: FORGOTTEN_AFTER,
                memory_storage: true,
                num_replicas: 1,
                ..Config::default()
            };
            let consumer = match self.bus.jetstream().create_consumer_on_stream(config, &stream).await {
                Ok(consumer) => consumer,
                Err(error) => {
                    waiting.after(&error).await;
                    continue;
                }
            };
            match consumer.messages().await {
                Ok(messages) => return messages,
                Err(error) => waiting.after(&error).await,
            }
        }
    }
}
