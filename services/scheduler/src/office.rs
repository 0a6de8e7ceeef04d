//! What is open only while this process leads: endpoints and intake.

use std::time::Duration;

use laneway_bus::{Bus, Gate, Service};
use laneway_contract::{Epoch, ServiceName};
use laneway_runtime::Shutdown;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::endpoints::{Context, routes};
use crate::intake;

/// How long to wait before endpoints are subscribed again that could not be.
const RETRY: Duration = Duration::from_millis(200);

/// The endpoints and the intake of one epoch. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Office {
    close: CloseOnDrop,
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
    /// Opens in the background. The queue group carries the epoch, so that a frozen or deposed leader takes no request away.
    pub(crate) fn open(context: Context, epoch: Epoch, gate: Gate) -> Self {
        let close = Shutdown::new();
        let task = laneway_runtime::spawn("office", keep_open(context, epoch, gate, close.clone()));
        Self { close: CloseOnDrop(close), task }
    }

    /// Takes no new requests. The task ends when those that are here are answered.
    pub(crate) fn close(self) -> JoinHandle<()> {
        drop(self.close);
        self.task
    }
}

async fn keep_open(context: Context, epoch: Epoch, gate: Gate, close: Shutdown) {
    let Some(service) = close.unless_requested(start(&context.bus, &context, epoch, gate)).await else { return };
    tracing::info!(epoch, "answers as the leader");
    close.unless_requested(Box::pin(intake::take(&context.bus, &context.desk))).await;
    service.stop().await;
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
