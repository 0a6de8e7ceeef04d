//! What memory lacks: an order that needs it is put aside, a store replica is asked, and the order comes back with the
//! answer. All of it outside of turns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use laneway_bus::Bus;
use laneway_contract::{ApiError, ErrorCode, SessionId, SessionSaid, StoreSaid};
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

/// Asks store replicas for one leadership.
pub(crate) struct Reader {
    bus: Bus,
    orders: mpsc::Sender<Order>,
    /// Orders that wait for the read of another about the same session: they come back behind it, in their order.
    behind: Mutex<HashMap<SessionId, Vec<Order>>>,
}

impl Reader {
    /// Brings orders back to where `orders` go.
    pub(crate) fn new(bus: Bus, orders: mpsc::Sender<Order>) -> Arc<Self> {
        Arc::new(Self { bus, orders, behind: Mutex::default() })
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
        drop(laneway_runtime::spawn("read", async move {
            let brought = self.bring(order, question, min_seq).await;
            let behind = self.behind().remove(&id).unwrap_or_default();
            for order in behind {
                match &brought {
                    Ok(()) => self.send(order).await,
                    Err(error) => (order.finish)(Err(error.clone()))(min_seq),
                }
            }
        }));
    }

    /// Asks, and puts the order on the desk again: behind the load of its session, where that was given up.
    async fn bring(&self, mut order: Order, question: Question, min_seq: u64) -> Result<(), ApiError> {
        let known = order.read.said.iter().position(|said| is_evicted(said, question.session_id));
        let said = match known {
            // Sent along by the replica that prepared the command.
            Some(place) => Ok(order.read.said.swap_remove(place)),
            None if order.read.reads == MAX_READS => Err(changing()),
            None => replica::said(&self.bus, &question, min_seq).await,
        };
        order.read.reads += u32::from(known.is_none());
        let StoreSaid { session_id, read_at, session, key } = match said {
            Ok(said) => said,
            Err(error) => {
                (order.finish)(Err(error.clone()))(min_seq);
                return Err(error);
            }
        };
        let session = match session {
            SessionSaid::Evicted(session) => {
                let load = Command::Load(Box::new(Load { session: *session, read_at }));
                self.send(Order::alone(load, Box::new(|_| Box::new(|_| {})))).await;
                SessionSaid::Held
            }
            known @ (SessionSaid::Absent | SessionSaid::Held) => known,
        };
        order.read.said.retain(|other| other.session_id != session_id);
        order.read.said.push(StoreSaid { session_id, read_at, session, key });
        self.send(order).await;
        Ok(())
    }

    /// The order falls away with the leadership: its handler stays silent, and the caller asks the next leader.
    async fn send(&self, order: Order) {
        drop(self.orders.send(order).await);
    }
}

impl Order {
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
