//! What a panic of a look comes to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use laneway_contract::{Catalog, HashKey, MemoryLimits, StoreSaid};
use laneway_engine::Question;

use super::*;
use crate::reader::Stores;

/// No store replica at all.
struct Nobody;

impl Stores for Nobody {
    fn ask(&self, _: Question, _: u64) -> BoxFuture<'_, Result<StoreSaid, ApiError>> {
        unreachable!("a look at what memory holds")
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {
        unreachable!("nothing is read")
    }
}

/// Carries out a question whose look panics, after these events: what its handler hears, or none when the turn broke.
fn look_that_panics(events: &[Event]) -> Option<Refusal> {
    let edge = Edge::new(HashKey::from_bytes([7; 32]), Arc::new(Catalog::built_in().unwrap()));
    let (desk, mut orders) = Desk::new(edge, Box::new(Nobody));
    let mut asked = Box::pin(desk.look(|_| -> Result<(), ApiError> { panic!("on purpose") }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(asked.as_mut().poll(&mut context).is_pending());
    let order = orders.try_recv().unwrap();
    let (state, mut hints, mut waiters) = (State::default(), Hints::new(MemoryLimits::default()), Waiters::default());
    let mut scene = Scene {
        state: &state,
        hints: &mut hints,
        waiters: &mut waiters,
        now: Timestamp::ZERO,
        events,
        repeated: false,
        said: &[],
    };
    let release = guarded(|| (order.finish)(Ok(&mut scene)))?;
    release(7);
    let Poll::Ready(Err(refusal)) = asked.as_mut().poll(&mut context) else { panic!("not refused") };
    Some(refusal)
}

#[test]
fn a_look_that_panics_is_answered_where_nothing_was_applied_and_breaks_the_turn_elsewhere() {
    let Some(Refusal::Error(error)) = look_that_panics(&[]) else { panic!("not answered") };
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(look_that_panics(&[Event::StateDigest { digest: 1 }]).is_none(), "what was applied is not trusted");
}
