//! What is open only while this process leads: endpoints, intake and advisories.

use std::time::Duration;

use laneway_bus::{Bus, Gate, Service};
use laneway_contract::{Epoch, ServiceName, Subject};
use laneway_runtime::Shutdown;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::advisories;
use crate::endpoints::{Context, routes};
use crate::intake::Intake;

/// How long to wait before endpoints are subscribed again that could not be.
const RETRY: Duration = Duration::from_millis(200);

/// The endpoints, the intake and the advisories of one epoch. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Office {
    close: CloseOnDrop,
    /// Requested when no request can arrive any more.
    closed: Shutdown,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct CloseOnDrop(Shutdown);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.request();
    }
}

impl Office {
    /// Opens in the background, after `before` has closed. The queue group carries the epoch, so that a frozen or deposed
    /// leader takes no request away.
    pub(crate) fn open(context: Context, epoch: Epoch, gate: Gate, before: Option<Self>) -> Self {
        let (close, closed) = (Shutdown::new(), Shutdown::new());
        let before = before.map(|office| office.closed.clone());
        let open = keep_open(context, epoch, gate, close.clone(), before, CloseOnDrop(closed.clone()));
        Self { close: CloseOnDrop(close), closed, task: laneway_runtime::spawn("office", open) }
    }

    /// Takes no new requests. The task ends when those that are here are answered.
    pub(crate) fn close(self) -> JoinHandle<()> {
        drop(self.close);
        self.task
    }
}

async fn keep_open(
    context: Context,
    epoch: Epoch,
    gate: Gate,
    close: Shutdown,
    before: Option<Shutdown>,
    closed: CloseOnDrop,
) {
    if let Some(before) = before {
        // IMPORTANT: a request goes to each queue group, so with both open it would be taken twice.
        before.requested().await;
    }
    let Some(service) = close.unless_requested(start(&context.bus, &context, epoch, gate.clone())).await else {
        return;
    };
    tracing::info!(epoch, "answers as the leader");
    let Context { bus, desk, instance, .. } = &context;
    // Who was not answered by the leader before asks again at once. Whoever does not hear it asks again after a while.
    if let Err(error) = bus.publish(&Subject::Leading, epoch.to_string().into()).await {
        tracing::debug!(%error, "the word that a leader answers was not sent");
    }
    let intake = Intake::new(bus, desk, gate, &close);
    let serve = async {
        close.requested().await;
        let service = service.close().await;
        drop(closed);
        service.answered().await;
    };
    let listen = close.unless_requested(advisories::listen(bus, desk, &intake, instance));
    Box::pin(async { tokio::join!(serve, listen, intake.take()) }).await;
}

async fn start(bus: &Bus, context: &Context, epoch: Epoch, gate: Gate) -> Service {
    let group = format!("leader-{epoch}");
    loop {
        match Service::start_gated(bus, ServiceName::Scheduler, &group, gate.clone(), routes(context)).await {
            Ok(service) => return service,
            Err(error) => tracing::warn!(%error, "cannot subscribe the leader's endpoints"),
        }
        sleep(RETRY).await;
    }
}
