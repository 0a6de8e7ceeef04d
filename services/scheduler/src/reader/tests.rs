#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;
use tokio::sync::oneshot;

use super::*;

type Reads = Arc<Mutex<Vec<BoxFuture<'static, ()>>>>;

/// A replica that answers at once, and reads that wait until they are carried on.
struct Fake {
    says: fn(&Question) -> StoreSaid,
    reads: Reads,
}

impl Stores for Fake {
    fn ask(&self, question: Question, _: u64) -> BoxFuture<'_, Result<StoreSaid, ApiError>> {
        Box::pin(async move { Ok((self.says)(&question)) })
    }

    fn spawn(&self, reading: BoxFuture<'static, ()>) {
        self.reads.lock().unwrap().push(reading);
    }
}

fn begun(says: fn(&Question) -> StoreSaid) -> (Arc<Reader>, Reads, mpsc::Receiver<Order>) {
    let (orders, taken) = mpsc::channel(8);
    let reads = Reads::default();
    (Reader::new(Box::new(Fake { says, reads: Arc::clone(&reads) }), orders), reads, taken)
}

/// An order for an append under a key, and the end of whoever waits for its answer.
fn asked(reader: &Arc<Reader>, key: &str) -> oneshot::Receiver<()> {
    let (answer, answered) = oneshot::channel();
    let finish = Box::new(move |_: Result<&mut crate::desk::Scene<'_>, ApiError>| -> Release {
        Box::new(move |_| answer.send(()).unwrap_or_default())
    });
    let order = Order { check: None, command: None, finish, read: Read::default() };
    let session_id = SessionId::from_uuid(uuid::Uuid::from_u128(7));
    Arc::clone(reader).read(order, Question { session_id, key: Some(key.to_owned()) }, 3);
    answered
}

#[test]
fn all_that_ask_for_a_session_that_never_was_are_answered_by_one_read() {
    let absent = |question: &Question| {
        let session_id = question.session_id;
        StoreSaid { session_id, read_at: 2, session: SessionSaid::Absent, key: KeySaid::Absent }
    };
    let (reader, reads, mut taken) = begun(absent);
    let waiting = ["a", "b", "c"].map(|key| asked(&reader, key));
    let reading = reads.lock().unwrap().pop().unwrap();
    assert!(reads.lock().unwrap().is_empty(), "a read for each");
    reading.now_or_never().expect("it waits for nothing");
    let back: Vec<Order> = std::iter::from_fn(|| taken.try_recv().ok()).collect();
    let said: Vec<_> = back.iter().flat_map(|order| &order.read.said).map(|said| (&said.session, said.key)).collect();
    let absent = &SessionSaid::Absent;
    // Each has a key of its own, which nobody was asked for.
    assert_eq!(said, [(absent, KeySaid::Absent), (absent, KeySaid::NotAsked), (absent, KeySaid::NotAsked)]);
    drop(waiting);
}

#[test]
fn a_read_that_breaks_holds_up_nobody() {
    let (reader, reads, _taken) = begun(|_| std::panic::resume_unwind(Box::new("broken on purpose")));
    let (mut first, mut behind) = (asked(&reader, "a"), asked(&reader, "b"));
    let reading = reads.lock().unwrap().pop().unwrap();
    catch_unwind(AssertUnwindSafe(|| reading.now_or_never())).unwrap_err();
    let gone = Err(oneshot::error::TryRecvError::Closed);
    assert_eq!((first.try_recv(), behind.try_recv()), (gone.clone(), gone), "nobody waits for an answer");
    drop(asked(&reader, "c"));
    assert_eq!(reads.lock().unwrap().len(), 1, "the next is read for");
}
