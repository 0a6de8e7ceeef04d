//! What the server and the client say when messages are not delivered: of consumers of our streams, and of this connection.
//!
//! Plain messages without an acknowledgement: one that is sent while nobody listens is lost.

use async_nats::Subscriber;
use futures::StreamExt;
use laneway_contract::{Prefix, Stream, Token};
use serde::Deserialize;
use tokio::sync::watch;

use crate::{Bus, BusError};

/// Where the server says that a consumer has delivered a message as often as it may.
const MAX_DELIVERIES: &str = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>";

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisory {
    /// The server does not deliver a message any more; it stays in its stream until somebody takes it out or its age does.
    MaxDeliveries {
        /// The stream.
        stream: Stream,
        /// The consumer; none when its name is none that we would give.
        consumer: Option<Token>,
        /// The message.
        stream_seq: u64,
        /// How often it was delivered.
        deliveries: u64,
    },
    /// Messages of this connection were dropped.
    SlowConsumer {
        /// How many since this was said last.
        dropped: u64,
    },
}

/// The advisories that concern us, from the subscription on.
#[derive(Debug)]
pub struct Advisories {
    prefix: Prefix,
    said: Subscriber,
    dropped: watch::Receiver<u64>,
    seen: u64,
}

/// The fields of the server's advisory that are used here.
#[derive(Deserialize)]
struct Said {
    stream: String,
    consumer: String,
    stream_seq: u64,
    #[serde(default)]
    deliveries: u64,
}

impl Bus {
    /// Listens to advisories.
    pub async fn advisories(&self) -> Result<Advisories, BusError> {
        let said = self.subscribe(MAX_DELIVERIES.to_owned()).await?;
        // The server knows of it before anything is taken that it could say something about.
        self.flush().await?;
        let mut dropped = self.dropped();
        let seen = *dropped.borrow_and_update();
        Ok(Advisories { prefix: self.prefix().clone(), said, dropped, seen })
    }
}

impl Advisories {
    /// The next one; none when the connection is closed. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Advisory> {
        loop {
            tokio::select! {
                message = self.said.next() => {
                    if let Some(advisory) = self.read(&message?.payload) {
                        return Some(advisory);
                    }
                }
                Ok(()) = self.dropped.changed() => {
                    let count = *self.dropped.borrow_and_update();
                    let dropped = count - std::mem::replace(&mut self.seen, count);
                    return Some(Advisory::SlowConsumer { dropped });
                }
            }
        }
    }

    /// None when it concerns no stream of ours: other programs of the account have theirs.
    fn read(&self, payload: &[u8]) -> Option<Advisory> {
        let said: Said = serde_json::from_slice(payload)
            .inspect_err(|error| tracing::debug!(%error, "an advisory of the server cannot be read"))
            .ok()?;
        let stream = *Stream::ALL.iter().find(|stream| self.prefix.stream(**stream) == said.stream)?;
        let consumer = Token::parse(&said.consumer).ok();
        Some(Advisory::MaxDeliveries { stream, consumer, stream_seq: said.stream_seq, deliveries: said.deliveries })
    }
}
