//! Takes dispatches, as many as there are free slots.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use laneway_bus::async_nats::jetstream::{AckKind, Message};
use laneway_bus::{BusError, PullConsumer, ensure_pool_consumer};

use crate::attempt;
use crate::run::Worker;
use crate::slots::Slot;

/// The server answers a request for dispatches after this time at the latest.
const EXPIRES: Duration = Duration::from_secs(5);
/// What the client waits longer, for an answer that is on its way.
const GRACE: Duration = Duration::from_millis(500);
/// Between two requests that the server refuses.
const PAUSE: Duration = Duration::from_millis(500);

/// The consumer of the worker's pool, waiting as long as it takes; none when a stop was requested first.
pub(crate) async fn pool_consumer(worker: &Worker) -> Result<Option<PullConsumer>, BusError> {
    let made = Box::pin(ensure_pool_consumer(&worker.bus, worker.pool()));
    worker.shutdown.unless_requested(made).await.transpose()
}

/// Takes dispatches until a stop is requested. An attempt that has begun goes on by itself.
pub(crate) async fn fetch(worker: &Arc<Worker>, consumer: PullConsumer) -> Result<(), BusError> {
    let mut current = Some(consumer);
    while let Some(consumer) = current {
        let reason = Box::pin(take(worker, &consumer)).await;
        if worker.shutdown.is_requested() {
            break;
        }
        tracing::warn!(reason, "dispatches were interrupted");
        tokio::time::sleep(PAUSE).await;
        current = pool_consumer(worker).await?;
    }
    Ok(())
}

/// Takes dispatches until the consumer fails, and says how.
async fn take(worker: &Arc<Worker>, consumer: &PullConsumer) -> String {
    let mut connections = worker.bus.connections();
    // IMPORTANT: a new connection is counted a moment after it is there. Taken for a lost one, its first request would be
    // given up while a dispatch is on its way.
    if connections.wait_for(|count| *count > 0).await.is_err() {
        return "the connection is closed".to_owned();
    }
    loop {
        let Some(mut slots) = worker.shutdown.unless_requested(worker.slots.take_free()).await else {
            return "stopping".to_owned();
        };
        connections.mark_unchanged();
        // IMPORTANT: no heartbeat: this client's batches lose their wake-up to one. A lost connection is seen by its count.
        let request = consumer.batch().max_messages(slots.len()).expires(EXPIRES).messages();
        let mut batch = match request.await {
            Ok(batch) => batch,
            Err(error) => return error.to_string(),
        };
        let end = tokio::time::sleep(EXPIRES + GRACE);
        tokio::pin!(end);
        loop {
            let message = tokio::select! {
                biased;
                () = worker.shutdown.requested() => {
                    while let Some(Some(Ok(message))) = batch.next().now_or_never() {
                        hand_back(&message).await;
                    }
                    return "stopping".to_owned();
                }
                message = batch.next() => message,
                // The server has forgotten the request together with the connection.
                Ok(()) = connections.changed() => None,
                () = &mut end => return "the server has not answered a request".to_owned(),
            };
            match (message, slots.pop()) {
                (Some(Ok(message)), Some(slot)) => begin(worker, message, slot),
                (Some(Ok(message)), None) => hand_back(&message).await,
                (Some(Err(error)), _) => return error.to_string(),
                (None, _) => break,
            }
        }
    }
}

fn begin(worker: &Arc<Worker>, message: Message, slot: Slot) {
    let worker = worker.clone();
    laneway_runtime::spawn("attempt", async move {
        attempt::execute(&worker, &message).await;
        drop(slot);
    });
}

/// A dispatch that this worker does not take: another one does.
async fn hand_back(message: &Message) {
    if let Err(error) = message.ack_with(AckKind::Nak(None)).await {
        tracing::debug!(%error, "a dispatch was not handed back; it comes again");
    }
}
