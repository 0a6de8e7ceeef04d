//! Delivery of the journal's frames as they come: in order, without gaps, begun again when the server or the connection
//! fails. Before each beginning the frame at the reader's own position is read again and compared.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, timeout};

use crate::chain::{Fault, Loss, lost};
use crate::fence::{LOOK_AGAIN_MS, LOST_AFTER_ANSWERS, ReadOutcome};
use crate::frame::{FrameHash, Position};
use crate::store::Store;

/// How often to look whether a quiet delivery is still alive.
const LOOK: Duration = Duration::from_millis(250);

/// A delivery without messages or heartbeats for so long is dead.
const DEAD_AFTER: Duration = Duration::from_millis(2_500);

/// How long to wait before a failed beginning is tried again.
const RETRY: Duration = Duration::from_millis(LOOK_AGAIN_MS);

/// How often a process that reads nothing, because it leads, looks whether the stream is still its journal.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a delivery brings.
pub(crate) enum Arrival {
    /// The delivery has begun. The frame at the reader's own position is there and right; these are its bytes.
    Begun(Option<Bytes>),
    /// A message and its sequence.
    Frame(u64, Bytes),
}

pub(crate) struct Tail {
    store: Store,
    session: Session,
}

enum Session {
    Beginning(BoxFuture<'static, Result<(Delivery, Option<Bytes>), Fault>>),
    Open(Box<Delivery>),
}

struct Delivery {
    store: Store,
    subscriber: Subscriber,
    /// How many messages the server has delivered, by its own count.
    delivered: u64,
    heard: Instant,
    connects: u64,
    /// Where the server waits for a word before it delivers more.
    owed: Option<Subject>,
}

enum Taken {
    Frame(u64, Bytes),
    Nothing,
    Broken,
}

impl Tail {
    /// A delivery of the frames behind `at`.
    pub(crate) fn new(store: Store, at: Position) -> Self {
        let session = Session::Beginning(begin(store.clone(), at).boxed());
        Self { store, session }
    }

    /// The next arrival. `at` is the reader's position, behind which a broken delivery begins again. Nothing is lost when
    /// the future is dropped.
    pub(crate) async fn next(&mut self, at: Position) -> Result<Arrival, Fault> {
        loop {
            let taken = match &mut self.session {
                Session::Beginning(beginning) => {
                    let begun = beginning.await;
                    self.begin_again(at);
                    let (delivery, own) = begun?;
                    self.session = Session::Open(Box::new(delivery));
                    return Ok(Arrival::Begun(own));
                }
                Session::Open(delivery) => delivery.next().await,
            };
            match taken {
                Taken::Frame(number, bytes) => return Ok(Arrival::Frame(number, bytes)),
                Taken::Nothing => {}
                Taken::Broken => self.begin_again(at),
            }
        }
    }

    /// A frame that has arrived already, without waiting.
    pub(crate) fn next_ready(&mut self, at: Position) -> Option<(u64, Bytes)> {
        loop {
            let Session::Open(delivery) = &mut self.session else { return None };
            let message = delivery.subscriber.next().now_or_never()??;
            match delivery.take(message) {
                Taken::Frame(number, bytes) => return Some((number, bytes)),
                Taken::Nothing => {}
                Taken::Broken => self.begin_again(at),
            }
        }
    }

    fn begin_again(&mut self, at: Position) {
        self.session = Session::Beginning(begin(self.store.clone(), at).boxed());
    }
}

impl Delivery {
    async fn next(&mut self) -> Taken {
        if let Some(subject) = self.owed.clone() {
            // A lost word stalls the delivery until the next heartbeat asks again.
            if let Err(error) = self.store.client().publish(subject, Bytes::new()).await {
                tracing::debug!(%error, "flow control");
            }
            self.owed = None;
        }
        match timeout(LOOK, self.subscriber.next()).await {
            Ok(Some(message)) => self.take(message),
            Err(_) if self.is_alive() => Taken::Nothing,
            Ok(None) | Err(_) => Taken::Broken,
        }
    }

    fn is_alive(&self) -> bool {
        // The server forgets a delivery when it restarts, so a new connection is reason enough to begin again.
        self.heard.elapsed() < DEAD_AFTER && connects(&self.store) == self.connects
    }

    fn take(&mut self, message: Message) -> Taken {
        self.heard = Instant::now();
        match message.status {
            None => self.take_frame(message),
            Some(StatusCode::IDLE_HEARTBEAT) => {
                let header = |name: &str| message.headers.as_ref()?.get_last(name);
                let stalled = header("Nats-Consumer-Stalled").map(|subject| Subject::from(subject.as_str()));
                self.owed = message.reply.clone().or(stalled);
                let delivered = header("Nats-Last-Consumer").and_then(|count| count.as_str().parse().ok());
                if delivered.is_some_and(|delivered: u64| delivered != self.delivered) {
                    Taken::Broken
                } else {
                    Taken::Nothing
                }
            }
            Some(_) => Taken::Broken,
        }
    }

    fn take_frame(&mut self, message: Message) -> Taken {
        let message = async_nats::jetstream::Message { message, context: self.store.context().clone() };
        let Ok((count, number)) = message.info().map(|info| (info.consumer_sequence, info.stream_sequence)) else {
            return Taken::Broken;
        };
        if count != self.delivered + 1 {
            return Taken::Broken;
        }
        self.delivered = count;
        Taken::Frame(number, message.message.payload)
    }
}

fn connects(store: &Store) -> u64 {
    store.client().statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
}

async fn begin(store: Store, at: Position) -> Result<(Delivery, Option<Bytes>), Fault> {
    let own = read_own(&store, at).await?;
    look_for_hole(&store).await?;
    loop {
        let connects = connects(&store);
        match store.deliver_from(at.number + 1).await {
            Ok(subscriber) => {
                let heard = Instant::now();
                return Ok((Delivery { store, subscriber, delivered: 0, heard, connects, owed: None }, own));
            }
            Err(error) => tracing::debug!(%error, "the journal is not delivered yet"),
        }
        sleep(RETRY).await;
    }
}

/// The stream has no hole, as far as its server says: also one before the reader's position is lost data.
async fn look_for_hole(store: &Store) -> Result<(), Fault> {
    match store.hole().await {
        Some((first, last)) => Err(Fault::DataLoss { first, last, loss: Loss::Missing }),
        None => Ok(()),
    }
}

/// Looks at the stream for one that reads nothing: after a while, or when the connection is another, the frame `seen` must
/// still be there, and no hole.
pub(crate) async fn look_again(store: Store, seen: Position) -> Result<(), Fault> {
    let (begun, connected) = (Instant::now(), connects(&store));
    while begun.elapsed() < LOOK_AGAIN && connects(&store) == connected {
        sleep(LOOK).await;
    }
    read_own(&store, seen).await?;
    look_for_hole(&store).await
}

/// The frame at the reader's own position, which must be the one that it applied.
pub(crate) async fn read_own(store: &Store, at: Position) -> Result<Option<Bytes>, Fault> {
    if at.number == 0 {
        return Ok(None);
    }
    let mut missing = 0;
    loop {
        match store.clone().read(at.number).await {
            ReadOutcome::Found(bytes) if FrameHash::of(&bytes) == at.hash => return Ok(Some(bytes)),
            ReadOutcome::Found(_) => return Err(lost(at.number, Loss::Replaced)),
            ReadOutcome::Missing { last } => {
                missing += 1;
                if missing >= LOST_AFTER_ANSWERS {
                    let first = at.number.min(last + 1);
                    return Err(Fault::DataLoss { first, last: at.number, loss: Loss::Missing });
                }
            }
            ReadOutcome::Failed => {}
        }
        sleep(RETRY).await;
    }
}
