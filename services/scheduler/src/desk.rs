//! The desk: where endpoints hand commands and questions to the task that leads, and get typed answers back.
//!
//! A function of the handler looks at the state right after its command was applied; what it gives back leaves the task
//! only when the command's events, and all before them, are in the journal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use laneway_bus::Refusal;
use laneway_contract::{
    ApiError, ErrorCode, Event, RenewAttempt, RenewReply, RunId, RunView, SessionId, Stop, StopCause, StoreSaid,
    Timestamp,
};
use laneway_engine::{Command, Hints, Phase, Run, State};
use tokio::sync::{mpsc, oneshot};

use crate::edge::Edge;
use crate::reader::{Read, Reader, Stores};
use crate::waiters::{Ended, Waiters};

/// Commands and questions that wait for the leading task at a time.
const DESK_ROOM: usize = 4_096;

/// Something to do for the leading task.
pub(crate) struct Order {
    /// Looks before anything is decided.
    pub(crate) check: Option<Check>,
    /// What is to be decided; without it the order is a question.
    pub(crate) command: Option<Command>,
    /// Looks, and holds the answer back until it may leave.
    pub(crate) finish: Finish,
    /// What it needs that memory may lack.
    pub(crate) read: Read,
}

impl Order {
    /// A command of which nobody but `finish` hears.
    pub(crate) fn alone(command: Command, finish: Finish) -> Self {
        Self { check: None, command: Some(command), finish, read: Read::default() }
    }
}

/// Looks at the state right before a turn: refuses, or completes the command with what only the state says.
pub(crate) type Check = Box<dyn FnOnce(&State, &mut Command) -> Result<(), ApiError> + Send>;
/// Makes the answer of an order from what the turn came to.
pub(crate) type Finish = Box<dyn FnOnce(Result<&mut Scene<'_>, ApiError>) -> Release + Send>;
/// Hands the answer to the handler that waits for it. Takes the number of the frame up to which the answer is true.
pub(crate) type Release = Box<dyn FnOnce(u64) + Send>;

/// What a handler sees right after its command was applied.
pub(crate) struct Scene<'a> {
    /// The state, with all that was decided so far.
    pub(crate) state: &'a State,
    /// What the leader has heard.
    pub(crate) hints: &'a mut Hints,
    /// Who waits for the end of which run.
    pub(crate) waiters: &'a mut Waiters,
    /// The time of the turn.
    pub(crate) now: Timestamp,
    /// Every event of the turn.
    pub(crate) events: &'a [Event],
    /// Whether the command itself changed nothing: it was taken before.
    pub(crate) repeated: bool,
    /// What store replicas have said of what memory lacks.
    pub(crate) said: &'a [StoreSaid],
}

impl Scene<'_> {
    /// A live run as callers see it.
    pub(crate) fn run_view(&self, run: &Run) -> RunView {
        let mut view = RunView::from((*run.record).clone());
        view.status.reason = self.state.wait_reason(run, self.hints, self.now);
        view
    }

    /// A live run as callers see it.
    pub(crate) fn live_run(&self, id: RunId) -> Option<RunView> {
        self.state.run(id).map(|run| self.run_view(run))
    }

    /// Extends a lease, unless the attempt is to stop. The reply carries why.
    pub(crate) fn renew(&mut self, request: &RenewAttempt) -> Result<RenewReply, ApiError> {
        let RenewAttempt { run_id, epoch, .. } = *request;
        let Some(run) = self.state.run(run_id) else {
            return Err(match self.state.ended_run(run_id) {
                Some(_) => ApiError::new(ErrorCode::RunTerminal, format!("run {run_id} has ended")),
                None => ApiError::new(ErrorCode::NotFound, format!("no run {run_id}")),
            });
        };
        match &run.phase {
            Phase::Running { stop, .. } if run.record.status.epoch == epoch => {
                if stop.is_none() {
                    self.hints.give_lease(run_id, epoch, self.now);
                }
                Ok(RenewReply { stop: stop.as_deref().map(stop_of) })
            }
            Phase::Running { .. }
            | Phase::Delayed { .. }
            | Phase::Queued
            | Phase::Dispatched { .. }
            | Phase::Backoff { .. }
            | Phase::Stalled
            | Phase::AwaitingUser => {
                Err(ApiError::new(ErrorCode::StaleEpoch, format!("epoch {epoch} of run {run_id} is over")))
            }
        }
    }

    /// The end of a run that has not ended yet.
    pub(crate) fn watch(&mut self, id: RunId) -> Option<oneshot::Receiver<Ended>> {
        self.state.run(id).map(|_| self.waiters.watch(id))
    }
}

/// Why an attempt is to stop, as its worker is told.
pub(crate) const fn stop_of(cause: &StopCause) -> Stop {
    match cause {
        StopCause::Cancel { .. } => Stop::Cancel,
        StopCause::Timeout | StopCause::Deadline => Stop::Timeout,
    }
}

/// An answer that is in the journal.
#[derive(Debug)]
pub(crate) struct Answered<A> {
    /// The answer.
    pub(crate) body: A,
    /// The frame up to which it is true.
    pub(crate) journal_seq: u64,
}

/// The way to the leading task, of one leadership. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    orders: mpsc::Sender<Order>,
    edge: Edge,
    reader: Arc<Reader>,
}

impl Desk {
    /// A desk, and the end at which the leading task takes the orders. What memory has given up is read from `stores`.
    pub(crate) fn new(edge: Edge, stores: Box<dyn Stores>) -> (Self, mpsc::Receiver<Order>) {
        let (orders, taken) = mpsc::channel(DESK_ROOM);
        let reader = Reader::new(stores, orders.clone());
        (Self { orders, edge, reader }, taken)
    }

    /// What makes commands of requests.
    pub(crate) fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Has a command decided.
    pub(crate) async fn decide<A: Send + 'static>(
        &self,
        command: Command,
        look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Answered<A>, Refusal> {
        self.order(None, Some(command), Read::default(), look).await
    }

    /// Has a command decided, with what a store replica has said of what memory may lack.
    pub(crate) async fn decide_with<A: Send + 'static>(
        &self,
        said: Vec<StoreSaid>,
        command: Command,
        look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Answered<A>, Refusal> {
        self.order(None, Some(command), Read { said, ..Read::default() }, look).await
    }

    /// Has a command decided after a look at the state right before.
    pub(crate) async fn decide_if<A: Send + 'static>(
        &self,
        check: Option<Check>,
        command: Command,
        look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Answered<A>, Refusal> {
        self.order(check, Some(command), Read::default(), look).await
    }

    /// Looks at the state.
    pub(crate) async fn look<A: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Answered<A>, Refusal> {
        self.order(None, None, Read::default(), look).await
    }

    /// Looks at the state once it holds a session, where there is one.
    pub(crate) async fn look_at<A: Send + 'static>(
        &self,
        session: SessionId,
        look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Answered<A>, Refusal> {
        self.order(None, None, Read { about: Some(session), ..Read::default() }, look).await
    }

    /// Silent: the leadership ended before the answer could leave.
    async fn order<A: Send + 'static>(
        &self,
        check: Option<Check>,
        command: Option<Command>,
        read: Read,
        look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Answered<A>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let finish: Finish = Box::new(move |outcome| {
            let body = outcome.and_then(|scene| {
                // Where something was applied, a panic breaks the turn.
                let unchanged = scene.events.is_empty();
                if unchanged { guarded(|| look(scene)).unwrap_or_else(|| Err(fault())) } else { look(scene) }
            });
            // A handler that is gone needs no answer.
            Box::new(move |journal_seq| drop(reply.send((body, journal_seq))))
        });
        let read = Read { reader: Some(Arc::clone(&self.reader)), ..read };
        self.orders.send(Order { check, command, finish, read }).await.map_err(|_| Refusal::Silent)?;
        let (body, journal_seq) = answer.await.map_err(|_| Refusal::Silent)?;
        Ok(Answered { body: body?, journal_seq })
    }
}

/// The result, or none when it panicked; the panic has been logged with its place.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// What is said of a panic before anything was applied.
pub(crate) fn fault() -> ApiError {
    ApiError::new(ErrorCode::Internal, "a fault of the scheduler, which is in its log; nothing was changed")
}

#[cfg(test)]
mod tests;
