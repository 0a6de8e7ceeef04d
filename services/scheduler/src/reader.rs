//! What memory lacks: an order that needs it is put aside, a store replica is asked, and the order comes back with the
//! answer. All of it outside of turns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use laneway_bus::Bus;
use laneway_contract::{ApiError, ErrorCode, KeySaid, SessionId, SessionSaid, StoreSaid};
use laneway_engine::{Command, Load, Question, State};
use tokio::sync::mpsc;

use crate::desk::{Order, Release};
use crate::replica;

/// Reads for one order: each may come too late, when what it read about has changed and was given up again meanwhile.
const MAX_READS: u32 = 8;

/// What an order needs besides the state.
#[derive(Default)]
pub(crate) struct Read {
    /// The session that a question is about.
    pub(crate) about: Option<SessionId>,
    /// What store replicas have said.
    pub(crate) said: Vec<StoreSaid>,
    /// Who asks them. Without one an order that memory has no answer for is refused.
    pub(crate) reader: Option<Arc<Reader>>,
    /// Reads so far.
    pub(crate) reads: u32,
}

/// Store replicas, whoever carries questions to them: the bus, or the simulation's network.
pub(crate) trait Stores: Send + Sync {
    /// What a replica says that has applied the frame `min_seq`. `unavailable` when none answers in time.
    fn ask(&self, question: Question, min_seq: u64) -> BoxFuture<'_, Result<StoreSaid, ApiError>>;
    /// Carries a read out beside the task that leads.
    fn spawn(&self, reading: BoxFuture<'static, ()>);
}

impl Stores for Bus {
    fn ask(&self, question: Question, min_seq: u64) -> BoxFuture<'_, Result<StoreSaid, ApiError>> {
        Box::pin(async move { replica::said(self, &question, min_seq).await })
    }

    fn spawn(&self, reading: BoxFuture<'static, ()>) {
        drop(laneway_runtime::spawn("read", reading));
    }
}

/// Asks store replicas for one leadership.
pub(crate) struct Reader {
    stores: Box<dyn Stores>,
    orders: mpsc::Sender<Order>,
    /// Orders that wait for the read of another about the same session: they come back behind it, in their order.
    behind: Mutex<HashMap<SessionId, Vec<Order>>>,
}

impl Reader {
    /// Brings orders back to where `orders` go.
    pub(crate) fn new(stores: Box<dyn Stores>, orders: mpsc::Sender<Order>) -> Arc<Self> {
        Arc::new(Self { stores, orders, behind: Mutex::default() })
    }

    fn behind(&self) -> MutexGuard<'_, HashMap<SessionId, Vec<Order>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads for an order, unless that is being done for another. `min_seq` is a frame that no eviction folded so far is
    /// behind.
    fn read(self: Arc<Self>, order: Order, question: Question, min_seq: u64) {
        let id = question.session_id;
        match self.behind().entry(id) {
            Entry::Occupied(mut behind) => return behind.get_mut().push(order),
            Entry::Vacant(first) => drop(first.insert(Vec::new())),
        }
        let reader = Arc::clone(&self);
        self.stores.spawn(Box::pin(async move {
            let behind = Behind { reader: &reader, id };
            let brought = reader.bring(order, question, min_seq).await;
            for mut order in behind.take() {
                match &brought {
                    Ok(found) => {
                        if let Some(absent) = found {
                            order.is_said(absent.clone());
                        }
                        reader.send(order).await;
                    }
                    Err(error) => (order.finish)(Err(error.clone()))(min_seq),
                }
            }
        }));
    }

    /// Asks, and puts the order on the desk again: behind the load of its session, where that was given up. Gives what is
    /// as good an answer to all that wait behind it: that there never was such a session.
    async fn bring(&self, mut order: Order, question: Question, min_seq: u64) -> Result<Option<StoreSaid>, ApiError> {
        let known = order.read.said.iter().position(|said| is_evicted(said, question.session_id));
        let said = match known {
            // Sent along by the replica that prepared the command.
            Some(place) => Ok(order.read.said.swap_remove(place)),
            None if order.read.reads == MAX_READS => Err(changing()),
            None => self.stores.ask(question, min_seq).await,
        };
        order.read.reads += u32::from(known.is_none());
        let StoreSaid { session_id, read_at, session, key } = match said {
            Ok(said) => said,
            Err(error) => {
                (order.finish)(Err(error.clone()))(min_seq);
                return Err(error);
            }
        };
        let (session, absent) = match session {
            SessionSaid::Evicted(session) => {
                let load = Command::Load(Box::new(Load { session: *session, read_at }));
                self.send(Order::alone(load, Box::new(|_| Box::new(|_| {})))).await;
                (SessionSaid::Held, None)
            }
            SessionSaid::Held => (SessionSaid::Held, None),
            // The key is the order's own.
            absent @ SessionSaid::Absent => {
                let of_all = StoreSaid { session_id, read_at, session: SessionSaid::Absent, key: KeySaid::NotAsked };
                (absent, Some(of_all))
            }
        };
        order.is_said(StoreSaid { session_id, read_at, session, key });
        self.send(order).await;
        Ok(absent)
    }

    /// The order falls away with the leadership: its handler stays silent, and the caller asks the next leader.
    async fn send(&self, order: Order) {
        drop(self.orders.send(order).await);
    }
}

/// The orders behind the read of a session. They do not wait for one that broke: they fall away with it, and their callers
/// ask again.
struct Behind<'a> {
    reader: &'a Reader,
    id: SessionId,
}

impl Behind<'_> {
    fn take(&self) -> Vec<Order> {
        self.reader.behind().remove(&self.id).unwrap_or_default()
    }
}

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Order {
    /// Takes in what a store replica has said of a session, instead of what was said of it before.
    fn is_said(&mut self, said: StoreSaid) {
        let known = &mut self.read.said;
        known.retain(|other| other.session_id != said.session_id);
        known.push(said);
    }

    /// What a store replica has to be asked before this order can be carried out.
    pub(crate) fn needs_read(&self, state: &State) -> Option<Question> {
        let Read { about, said, .. } = &self.read;
        let of_command = self.command.as_ref().and_then(|command| state.needs_read(command, said));
        of_command.or_else(|| about.and_then(|id| state.needs_session(id, said)))
    }

    /// Waits for the frames handed over so far, then for a replica. What it answers leaves when the order comes back.
    pub(crate) fn put_aside(self, question: Question) -> Release {
        let Some(reader) = self.read.reader.clone() else {
            return (self.finish)(Err(unavailable()));
        };
        Box::new(move |min_seq| reader.read(self, question, min_seq))
    }
}

fn is_evicted(said: &StoreSaid, id: SessionId) -> bool {
    said.session_id == id && matches!(said.session, SessionSaid::Evicted(_))
}

fn unavailable() -> ApiError {
    let message = "the session is not held in memory, and nobody can ask a store replica for it: send it again";
    ApiError::new(ErrorCode::Unavailable, message)
}

fn changing() -> ApiError {
    let message = "the session was given up again each time it was read: send it again";
    ApiError::new(ErrorCode::Unavailable, message)
}

#[cfg(test)]
mod tests;
