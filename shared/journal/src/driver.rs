//! The protocol on a real server: the journal as the scheduler uses it, inside a `select!` loop.

use std::future::pending;
use std::task::Poll;
use std::time::Duration;

use async_nats::Client;
use futures::FutureExt;
use futures::future::BoxFuture;
use laneway_contract::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::chain::Fault;
use crate::clock::{BootMillis, Now, boot_now};
use crate::draft::TurnDraft;
use crate::frame::{Committed, Position};
use crate::node::{Action, Base, Node, NotLeading, PublishOutcome, ReadOutcome, Released, ServerInfo, Settings};
use crate::store::Store;
use crate::tail::{Arrival, Tail, look_again};

/// Where the journal is, and how it is led.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The name of the stream.
    pub stream: String,
    /// The subject that the stream captures.
    pub subject: String,
    /// Name, lease and what to do about an empty stream.
    pub settings: Settings,
}

/// What happened to the journal.
#[derive(Debug)]
pub enum Progress<E, T> {
    /// Apply this committed frame to the state. While this process leads, these are only its own `Started` and
    /// `FormatRaised`: the turns that it pushed were applied when they were decided.
    Followed(Committed<E>),
    /// This process leads: turns may be begun, and replies carry this epoch.
    Leading {
        /// The epoch of the leadership.
        epoch: u64,
        /// Whether it led before and its state is still right. Otherwise it has just taken over.
        resumed: bool,
    },
    /// These effects may leave.
    Released(Released<T>),
    /// Drop the state, and everything that was not released: the journal is read from the start again, unless
    /// [`Journal::begin_behind`] says from where.
    Deposed,
    /// This process does not lead, because its wall clock is too far off the server's.
    ClockOff {
        /// Milliseconds by which the wall clock is ahead of the server's.
        ahead_ms: i64,
    },
    /// The journal was left in good order, after [`Journal::stop`].
    Stopped,
    /// Stop: going on would build on something that is not the journal.
    Fault(Fault),
}

/// This process on the journal: it follows, leads when nobody does, and steps down when another does.
pub struct Journal<E, T> {
    node: Node<E, T>,
    store: Store,
    tail: Option<Tail>,
    publishing: Option<BoxFuture<'static, PublishOutcome>>,
    reading: Option<BoxFuture<'static, ReadOutcome>>,
    asking: Option<BoxFuture<'static, Option<ServerInfo>>>,
    /// A leader reads nothing, so it looks now and then whether the stream is still its journal.
    looking: Option<BoxFuture<'static, Result<(), Fault>>>,
}

impl<E: Serialize + DeserializeOwned, T> Journal<E, T> {
    /// A process that has read nothing yet.
    #[must_use]
    pub fn new(client: Client, config: JournalConfig) -> Self {
        Self {
            store: Store::new(client, &config.stream, &config.subject),
            node: Node::new(config.settings, Now::read()),
            tail: None,
            publishing: None,
            reading: None,
            asking: None,
            looking: None,
        }
    }

    /// Takes in that a view outside has had this frame from the journal: this process does not lead before it has read it.
    pub fn expect(&mut self, witness: Position) {
        self.node.expect(witness);
    }

    /// Goes on behind a frame up to which the caller has the state, before anything was read: at a start, or after
    /// [`Progress::Deposed`] before the next call of [`Journal::next`].
    pub fn begin_behind(&mut self, base: Base) {
        self.node.begin_behind(Now::read(), base);
        self.tail = None;
    }

    /// The journal has had this frame, as the caller knows from elsewhere: where it ends before, frames are lost.
    pub fn has_had(&mut self, number: u64) {
        self.node.has_had(number);
    }

    /// What happens next. All work of the journal is done here, so it is to be awaited all the time; nothing is lost when
    /// the future is dropped. After [`Progress::Stopped`] and [`Progress::Fault`] nothing happens any more.
    pub async fn next(&mut self) -> Progress<E, T> {
        loop {
            while let Some(action) = self.node.poll(Now::read()) {
                if let Some(progress) = self.carry_out(action).await {
                    return progress;
                }
            }
            self.wait().await;
        }
    }

    /// Begins a turn, if this process may act now.
    pub fn begin(&mut self) -> Option<TurnDraft<E>> {
        self.node.begin(Now::read())
    }

    /// Hands a turn over, whose events are applied. The effects come back from [`Journal::next`] when the turn, and all
    /// before it, are in the journal. Begin, apply and push without awaiting [`Journal::next`] between; a state that has
    /// applied a turn refused here is to be given up with [`Journal::abandon`].
    pub fn push(&mut self, turn: TurnDraft<E>, effects: T) -> Result<(), NotLeading> {
        self.node.push(turn, effects)
    }

    /// Journal time while this process leads; else the time of the last frame read.
    pub fn now(&mut self) -> Timestamp {
        self.node.time(Now::read())
    }

    /// Whether this process may begin turns now.
    pub fn may_answer(&mut self) -> bool {
        self.node.may_answer(Now::read())
    }

    /// Until when what was released may leave this process, on the clock that counts suspend; none when nothing may. For
    /// those who check once more when a reply leaves.
    #[must_use]
    pub fn answers_until(&self) -> Option<BootMillis> {
        self.node.answers_until()
    }

    /// The format of the next frame.
    #[must_use]
    pub fn format(&self) -> u16 {
        self.node.format()
    }

    /// Raises the format of the journal, if this process leads and writes such frames: to be called between two turns, when
    /// all who read the journal read that format. Turns wait until it is written, then comes its [`Progress::Followed`].
    pub fn raise_format(&mut self, to: u16) {
        self.node.raise_format(to);
    }

    /// The epoch of the newest leader that this process knows of; its own while it leads.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.node.epoch()
    }

    /// The last frame that this process knows to be in the journal.
    #[must_use]
    pub fn position(&self) -> Position {
        self.node.position()
    }

    /// Bytes of the frames that this process has read or written behind where it began.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.node.read_bytes()
    }

    /// Bytes of turns that wait for the frame in flight.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.node.backlog()
    }

    /// Leaves in good order: what was handed over is written and released, then [`Progress::Stopped`] comes.
    pub fn stop(&mut self) {
        self.node.stop();
    }

    /// Gives up the state after a failure in the middle of a turn: [`Progress::Deposed`] comes next, and nothing that was
    /// pushed before is released.
    pub fn abandon(&mut self) {
        self.node.abandon(Now::read());
    }

    async fn carry_out(&mut self, action: Action<E, T>) -> Option<Progress<E, T>> {
        match action {
            Action::Publish { bytes, expected_last } => {
                let mut publishing = self.store.clone().publish(bytes, expected_last).boxed();
                // Polled at once, so that the frame is on its way before the caller hears of anything else.
                if let Poll::Ready(outcome) = futures::poll!(&mut publishing) {
                    self.node.on_published(Now::read(), &outcome);
                } else {
                    self.publishing = Some(publishing);
                }
                return None;
            }
            Action::Read { number } => self.reading = Some(self.store.clone().read(number).boxed()),
            Action::CheckClock => {
                let store = self.store.clone();
                self.asking = Some(async move { store.info().await }.boxed());
            }
            Action::Apply(committed) => return Some(Progress::Followed(committed)),
            Action::Lead { epoch, resumed } => {
                tracing::info!(epoch, resumed, "leads the journal");
                return Some(Progress::Leading { epoch, resumed });
            }
            Action::Release(released) => return Some(Progress::Released(released)),
            Action::Deposed => {
                self.tail = None;
                return Some(Progress::Deposed);
            }
            Action::ClockOff { ahead_ms } => {
                tracing::warn!(ahead_ms, "does not lead: the wall clock is more than a minute off the server's");
                return Some(Progress::ClockOff { ahead_ms });
            }
            Action::Stopped => return Some(Progress::Stopped),
            Action::Fault(fault) => {
                tracing::error!(%fault, "stops");
                return Some(Progress::Fault(fault));
            }
        }
        None
    }

    async fn wait(&mut self) {
        let Self { node, store, tail, publishing, reading, asking, looking } = self;
        let at = node.position();
        if node.is_following() {
            *looking = None;
            tail.get_or_insert_with(|| Tail::new(store.clone(), at));
        } else {
            *tail = None;
            looking.get_or_insert_with(|| look_again(store.clone(), at).boxed());
        }
        let sleeping = node.next_wakeup().map(|due| sleep(Duration::from_millis(due.since(boot_now()))));
        tokio::select! {
            outcome = answer(publishing) => node.on_published(Now::read(), &outcome),
            outcome = answer(reading) => node.on_read(Now::read(), outcome),
            info = answer(asking) => node.on_server_info(Now::read(), info),
            looked = answer(looking) => if let Err(fault) = looked {
                node.on_fault(Now::read(), fault);
            },
            arrival = arrival(tail, at) => match arrival {
                Ok(Arrival::Frame(number, bytes)) => node.on_frame(Now::read(), number, &bytes),
                Ok(Arrival::Begun(_)) => {}
                Err(fault) => node.on_fault(Now::read(), fault),
            },
            () = async { match sleeping { Some(sleeping) => sleeping.await, None => pending().await } } => {}
        }
    }
}

/// The answer to a request under way, if there is one.
async fn answer<Answer>(slot: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    let Some(request) = slot else { return pending().await };
    let answer = request.await;
    *slot = None;
    answer
}

async fn arrival(tail: &mut Option<Tail>, at: Position) -> Result<Arrival, Fault> {
    match tail {
        Some(tail) => tail.next(at).await,
        None => pending().await,
    }
}
