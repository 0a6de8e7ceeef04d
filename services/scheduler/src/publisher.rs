//! Dispatches and cancel signals on their way into their streams. Hints: a lost dispatch returns to its queue, and a lost
//! signal is told by the reply of the next renewal. What a leader did not send while it led, it never sends: a late signal would
//! stand in the place of a newer one, and the next leader sends the dispatches that nobody has claimed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::{Bus, BusError, ensure_streams, remove_consumers_ahead};
use laneway_contract::{ControlMessage, DISPATCH_CLAIM_MS, DispatchMessage, Format, PoolId, Subject};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::lease::{Lease, Term};

/// Messages that wait for their acknowledgement at a time.
const IN_FLIGHT: usize = 256;
/// How long to wait before a message that was not stored is sent again.
const RETRY: Duration = Duration::from_millis(200);
/// A message older than this is void: its dispatch has returned to the queue.
const VOID_AFTER: Duration = Duration::from_millis(DISPATCH_CLAIM_MS);

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// A run for the workers of a pool.
    Dispatch(PoolId, DispatchMessage),
    /// A signal for the worker of an executing run.
    Control(ControlMessage),
    /// Nothing: the streams that are missing are made again, and consumers that are ahead of them. Those in memory go, in part or in
    /// all, with their servers.
    Mend,
}

/// Publishes in the background. What is sent never waits.
#[derive(Debug)]
pub(crate) struct Publisher {
    outgoing: mpsc::UnboundedSender<(Outgoing, Term)>,
    lease: Arc<Lease>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Starts the task.
    pub(crate) fn start(bus: &Bus, lease: &Arc<Lease>) -> Self {
        let (outgoing, taken) = mpsc::unbounded_channel();
        let task = laneway_runtime::spawn("publisher", publish(bus.clone(), lease.clone(), taken));
        Self { outgoing, lease: lease.clone(), task }
    }

    /// Hands a message over. Unbounded: there are no more dispatches and signals than runs that hold a slot.
    pub(crate) fn send(&self, message: Outgoing) {
        // The task ends only after this handle.
        drop(self.outgoing.send((message, self.lease.term())));
    }

    /// Waits until everything is stored or void, at most as long as a message counts.
    pub(crate) async fn finish(self) {
        drop(self.outgoing);
        if timeout(VOID_AFTER, self.task).await.is_err() {
            tracing::warn!("dispatches were not stored before the end; they return to their queues");
        }
    }
}

async fn publish(bus: Bus, lease: Arc<Lease>, mut outgoing: mpsc::UnboundedReceiver<(Outgoing, Term)>) {
    let mut under_way = FuturesUnordered::new();
    let mut mending = Mending::No;
    loop {
        tokio::select! {
            message = outgoing.recv(), if under_way.len() < IN_FLIGHT => match message {
                // One at a time, since each asks for everything; what is asked for meanwhile is one more.
                Some((Outgoing::Mend, _)) if mending != Mending::No => mending = Mending::AndAgain,
                Some((message, term)) => {
                    if message == Outgoing::Mend {
                        mending = Mending::Once;
                    }
                    under_way.push(store(&bus, &lease, message, term));
                }
                None => break,
            },
            Some(done) = under_way.next(), if !under_way.is_empty() => {
                if done == Outgoing::Mend && mending == Mending::AndAgain {
                    mending = Mending::Once;
                    under_way.push(store(&bus, &lease, Outgoing::Mend, lease.term()));
                } else if done == Outgoing::Mend {
                    mending = Mending::No;
                }
            }
        }
    }
    while under_way.next().await.is_some() {}
}

/// Whether streams and consumers are looked at now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mending {
    No,
    Once,
    AndAgain,
}

/// Gives the message back when it is stored or void.
async fn store(bus: &Bus, lease: &Lease, message: Outgoing, term: Term) -> Outgoing {
    let void = Instant::now() + VOID_AFTER;
    loop {
        // Streams are made again by whoever misses them first.
        if message != Outgoing::Mend && !lease.covers(term) {
            tracing::debug!("a dispatch or cancel signal was not sent in its leader's time");
            return message;
        }
        let Err(error) = try_store(bus, &message).await else { return message };
        if Instant::now() + RETRY >= void {
            tracing::warn!(%error, "a dispatch or cancel signal was not stored in time");
            return message;
        }
        tracing::debug!(%error, "a dispatch or cancel signal is sent again");
        sleep(RETRY).await;
        mend(bus).await;
    }
}

async fn mend(bus: &Bus) {
    let mended = async {
        ensure_streams(bus).await?;
        let removed = remove_consumers_ahead(bus).await?;
        if !removed.is_empty() {
            tracing::warn!(
                ?removed,
                "the stream of dispatches lost messages: consumers that were ahead of it are made again"
            );
        }
        Ok::<(), BusError>(())
    };
    if let Ok(Err(error)) = timeout(VOID_AFTER, mended).await {
        tracing::warn!(%error, "streams and consumers cannot be made right");
    }
}

async fn try_store(bus: &Bus, message: &Outgoing) -> Result<(), BusError> {
    match message {
        Outgoing::Mend => {
            mend(bus).await;
            return Ok(());
        }
        Outgoing::Control(signal) => bus.publish_control(signal).await?,
        Outgoing::Dispatch(pool, message) => match Format::MessagePack.encode(message) {
            Ok(body) => bus.publish_stored(&Subject::Dispatch(pool.clone()), HeaderMap::new(), body.into()).await?,
            Err(error) => {
                tracing::error!(%error, "a dispatch cannot be encoded");
                return Ok(());
            }
        },
    };
    Ok(())
}
