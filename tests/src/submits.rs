//! Clients that submit one run after the other, and the longest time in which one of them got no answer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway_contract::{ApiError, Endpoint, Event, JobState, ServiceName};
use laneway_journal::{Body, Frame};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::stack::{Stack, connect};

/// Between an answer and the next submit of a client, so that the queue stays short.
const PACE: Duration = Duration::from_millis(10);
/// No change of leader takes so long.
const LIMIT: Duration = Duration::from_mins(1);

/// How a leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// kill -9.
    Kill9,
    /// SIGTERM.
    Stop,
    /// SIGSTOP, and SIGCONT once another leads.
    Freeze,
}

/// Clients at work.
pub struct Submits {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
    seen: Vec<Arc<Mutex<Seen>>>,
}

/// What a client has seen.
struct Seen {
    accepted: Vec<Uuid>,
    last: Instant,
    /// The longest time between two answers since it was last taken.
    gap: Duration,
}

impl Submits {
    /// Sends so many clients to work, each with a connection of its own.
    pub async fn start(stack: &Stack, clients: usize) -> Self {
        let mut all = Self { stop: Arc::default(), clients: JoinSet::new(), seen: Vec::new() };
        for _ in 0..clients {
            let bus = connect(&stack.nats.url()).await;
            let seen = Arc::new(Mutex::new(Seen { accepted: Vec::new(), last: Instant::now(), gap: Duration::ZERO }));
            all.seen.push(seen.clone());
            let stop = all.stop.clone();
            all.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let run_id = Uuid::now_v7();
                    let body = json!({"run_id": run_id, "model_id": "echo/default", "input": "hello"});
                    // The client of ours, with its own patience, under one key.
                    let reply: Result<Value, ApiError> = bus.request(Endpoint::RunsSubmit, &body).await;
                    reply.unwrap_or_else(|error| panic!("a submit is given up: {error}"));
                    seen.lock().expect("no panic").answered(run_id);
                    sleep(PACE).await;
                }
            });
        }
        all
    }

    /// Has the leader leave, and waits until another leads and every client has been answered by it. The longest time in
    /// which a client got no answer. Then there are two schedulers again.
    pub async fn survive(&mut self, stack: &mut Stack, how: Leaves) -> Duration {
        let (leader, epoch) = stack.leads(|_, _| true).await;
        self.all_answered().await;
        self.take_gap();
        match how {
            Leaves::Kill9 => stack.kill9(&leader).await,
            Leaves::Stop => assert_eq!(stack.terminate(&leader).await, Some(0), "{}", stack.logs()),
            Leaves::Freeze => stack.signal_part(&leader, "STOP"),
        }
        let deposed = stack.said(&leader, "does not lead any more");
        stack.leads(|_, newer| newer > epoch).await;
        self.all_answered().await;
        let gap = self.take_gap();
        if how == Leaves::Freeze {
            stack.signal_part(&leader, "CONT");
            stack.says(&leader, "does not lead any more", deposed).await;
        } else {
            let ready = stack.said(&leader, "\"ready\"");
            stack.start_part(ServiceName::Scheduler, &leader, &[]);
            stack.says(&leader, "\"ready\"", ready).await;
        }
        gap
    }

    /// Ends the load, and gives back the runs that were accepted.
    pub async fn finish(self) -> BTreeSet<Uuid> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.seen.iter().flat_map(|seen| seen.lock().expect("no panic").accepted.clone()).collect()
    }

    /// Waits until every client has been answered from now on.
    async fn all_answered(&mut self) {
        let since = Instant::now();
        while self.seen.iter().any(|seen| seen.lock().expect("no panic").last <= since) {
            if let Some(ended) = self.clients.try_join_next() {
                ended.expect("clients go on until they are stopped");
            }
            assert!(since.elapsed() < LIMIT, "submits do not go on");
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn take_gap(&self) -> Duration {
        let gaps = self.seen.iter().map(|seen| std::mem::take(&mut seen.lock().expect("no panic").gap));
        gaps.max().unwrap_or_default()
    }
}

impl Seen {
    fn answered(&mut self, run_id: Uuid) {
        let now = Instant::now();
        self.gap = self.gap.max(now - self.last);
        self.last = now;
        self.accepted.push(run_id);
    }
}

/// Every run that was accepted is in the journal once, and has completed.
pub fn each_completed_once(accepted: &BTreeSet<Uuid>, frames: &[Frame<Event>]) {
    let (mut queued, mut completed) = (BTreeSet::new(), BTreeSet::new());
    for frame in frames {
        let Body::Turns(turns) = &frame.body else { continue };
        for event in turns.iter().flat_map(|turn| &turn.events) {
            if let Event::RunQueued { run, .. } = event {
                assert!(queued.insert(run.run_id.uuid()), "run {} was queued twice", run.run_id);
            } else if let Event::RunSettled { run, .. } = event {
                assert_eq!(run.status.state, JobState::Completed, "run {}", run.run_id);
                assert!(completed.insert(run.run_id.uuid()), "run {} has ended twice", run.run_id);
            }
        }
    }
    let lost: Vec<_> = accepted.difference(&completed).collect();
    assert!(lost.is_empty(), "accepted, and not completed: {lost:?}");
    assert_eq!(queued.len(), completed.len(), "a run has not ended");
}
