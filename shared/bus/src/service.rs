//! Micro services: endpoints with typed bodies, bounded, that answer whatever is sent to them.
//!
//! The wire is that of NATS micro services (ADR-32 of nats-architecture-and-design). The client's own module empties the body of an
//! error and keeps no count of errors that have one, so the few subjects of the protocol are served here.

mod answer;
mod micro;
mod route;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use laneway_contract::{ApiError, Endpoint, Epoch, ErrorCode, MAX_BODY_BYTES, ServiceName, Subject};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Bus, BusError, bundle};

pub use route::{Incoming, Refusal, Route};

/// The largest body between services, in bytes: content of at most 768 KiB with its ids and hashes.
pub const MAX_INSIDE_BYTES: usize = 960 * 1024;
/// What a caller is told to wait when all handlers are taken.
const OVERLOADED_RETRY_AFTER_MS: u64 = 250;

const _: () = assert!(MAX_BODY_BYTES < MAX_INSIDE_BYTES && MAX_INSIDE_BYTES < 1024 * 1024);

/// Asked when a reply leaves: the leader's epoch now, or none when this process may not answer any more.
pub type Gate = Arc<dyn Fn() -> Option<Epoch> + Send + Sync>;

/// Asked with each description of an instance: what it says of itself now, beside what every instance says.
pub type Details = Arc<dyn Fn() -> Vec<(&'static str, String)> + Send + Sync>;

/// The metadata in which an instance that reads the journal says up to which format of frames.
pub const READS_FORMAT: &str = "reads_format";

/// The largest body of an endpoint, in bytes.
pub(crate) const fn max_bytes(endpoint: Endpoint) -> usize {
    if endpoint.is_internal() { MAX_INSIDE_BYTES } else { MAX_BODY_BYTES }
}

/// A running service. Dropping it ends its subscriptions and lets running handlers finish; [`Service::stop`] waits for them.
#[derive(Debug)]
pub struct Service {
    stop: DropGuard,
    /// One for each subscription.
    takers: TaskTracker,
    /// Those that answer.
    tasks: TaskTracker,
}

/// A service that takes no requests any more.
#[derive(Debug)]
pub struct Closed {
    tasks: TaskTracker,
}

/// What the tasks of a service share.
struct Shared {
    bus: Bus,
    gate: Option<Gate>,
    details: Option<Details>,
    served: Vec<Served>,
    tasks: TaskTracker,
}

/// An endpoint that is served, with its counts.
struct Served {
    route: Route,
    subject: String,
    handlers: Arc<Semaphore>,
    requests: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    last_error: std::sync::Mutex<String>,
}

impl Service {
    /// Serves endpoints. Of the services with one queue group, one gets each request.
    pub async fn start(bus: &Bus, name: ServiceName, queue_group: &str, routes: Vec<Route>) -> Result<Self, BusError> {
        Self::serve(bus, name, queue_group, (None, None), routes).await
    }

    /// As [`Service::start`], with more in the metadata of each description, as `nats micro info` shows it.
    pub async fn start_described(
        bus: &Bus,
        name: ServiceName,
        queue_group: &str,
        details: Details,
        routes: Vec<Route>,
    ) -> Result<Self, BusError> {
        Self::serve(bus, name, queue_group, (None, Some(details)), routes).await
    }

    /// Serves endpoints of a leader. IMPORTANT: the gate is asked when each reply leaves, errors included: with none the reply
    /// is dropped, otherwise it carries the epoch.
    pub async fn start_gated(
        bus: &Bus,
        name: ServiceName,
        queue_group: &str,
        gate: Gate,
        routes: Vec<Route>,
    ) -> Result<Self, BusError> {
        Self::serve(bus, name, queue_group, (Some(gate), None), routes).await
    }

    async fn serve(
        bus: &Bus,
        name: ServiceName,
        queue_group: &str,
        (gate, details): (Option<Gate>, Option<Details>),
        routes: Vec<Route>,
    ) -> Result<Self, BusError> {
        let stop = CancellationToken::new();
        let (takers, tasks) = (TaskTracker::new(), TaskTracker::new());
        let served = routes.into_iter().map(|route| Served::new(bus, route)).collect();
        let shared = Arc::new(Shared { bus: bus.clone(), gate, details, served, tasks: tasks.clone() });
        // Guarded from here on, so that a subscription that fails ends those before it.
        let service = Self { stop: stop.clone().drop_guard(), takers, tasks };
        for (index, served) in shared.served.iter().enumerate() {
            let subject = served.subject.clone();
            let requests = bus.client().queue_subscribe(subject.clone(), queue_group.to_owned()).await;
            let requests = requests.map_err(|source| BusError::Subscribe { subject, source })?;
            let serve = Arc::clone(&shared).serve_endpoint(index, requests, stop.clone());
            laneway_runtime::spawn("endpoint", service.takers.track_future(serve));
        }
        let identity = micro::Identity::new(bus, name, queue_group);
        let asked = micro::subscribe(bus, &identity).await?;
        let describe = micro::serve(Arc::clone(&shared), identity, asked, stop);
        laneway_runtime::spawn("micro", service.takers.track_future(describe));
        bus.flush().await?;
        Ok(service)
    }

    /// Ends the subscriptions, answers what has arrived, and waits for running handlers.
    pub async fn stop(self) {
        self.close().await.answered().await;
    }

    /// Ends the subscriptions, and returns when no request can arrive any more. Running handlers go on.
    pub async fn close(self) -> Closed {
        drop(self.stop);
        self.takers.close();
        self.takers.wait().await;
        Closed { tasks: self.tasks }
    }
}

impl Closed {
    /// Waits until every request that has arrived is answered.
    pub async fn answered(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Served {
    fn new(bus: &Bus, route: Route) -> Self {
        Self {
            subject: bus.prefix().subject(&Subject::Endpoint(route.endpoint)),
            handlers: Arc::new(Semaphore::new(route.at_most)),
            route,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            last_error: std::sync::Mutex::default(),
        }
    }

    fn count(&self, took: Duration, error: Option<&ApiError>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        if let Some(error) = error {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let mut last = self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *last = format!("{}:{}", error.code.status(), crate::headers::one_line(&error.message));
        }
    }
}

impl Shared {
    /// Takes requests until the service is stopped, and then those that have arrived already.
    async fn serve_endpoint(self: Arc<Self>, index: usize, mut requests: Subscriber, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = requests.next() => match message {
                    Some(message) => self.take(index, message).await,
                    // The connection is closed.
                    None => return,
                },
            }
        }
        if requests.drain().await.is_ok() {
            while let Some(message) = requests.next().await {
                self.take(index, message).await;
            }
        }
    }

    /// Starts a handler, or says that there are too many.
    async fn take(self: &Arc<Self>, index: usize, message: Message) {
        let served = &self.served[index];
        let parts = bundle::parts(message.headers.as_ref()).min(served.route.at_most);
        let Ok(permits) = Arc::clone(&served.handlers).try_acquire_many_owned(parts as u32) else {
            let error = ApiError::new(ErrorCode::Overloaded, "too many requests at a time: send it again later")
                .with_details(serde_json::json!({"retry_after_ms": OVERLOADED_RETRY_AFTER_MS}));
            return answer::refuse(self, served, &message, error).await;
        };
        let shared = Arc::clone(self);
        let handle = async move {
            answer::answer(&shared, &shared.served[index], message).await;
            drop(permits);
        };
        laneway_runtime::spawn("request", self.tasks.track_future(handle));
    }
}
