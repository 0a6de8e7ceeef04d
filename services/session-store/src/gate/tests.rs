//! Who waits, and for what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use laneway_contract::{ApiError, ErrorCode};

use crate::testing::*;

#[tokio::test]
async fn a_read_waits_for_the_frame_it_asks_for() {
    let mut world = World::new();
    let view = world.view.clone();
    let next = world.view.applied().number + 1;
    let read = view.read_at(Some(next), |reading| reading.get_session(session_id(1)));
    let commit = async { world.commit(vec![created(session(1, 1))]) };
    let (reply, number) = tokio::join!(read, commit);
    assert_eq!((reply.unwrap().journal_seq, number), (next, next));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_come_is_unavailable_and_named() {
    let world = World::new();
    let error = world.view.read_at(Some(99), |reading| reading.get_session(session_id(1))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!((error.details["min_seq"].as_u64(), error.details["journal_seq"].as_u64()), (Some(99), Some(2)));
}

#[tokio::test]
async fn what_is_not_there_yet_is_looked_for_again_when_frames_come() {
    let mut world = World::new();
    let view = world.view.clone();
    let prepare = view.prepare(|reading| Ok::<_, ApiError>(reading.get_session(session_id(1))?));
    let commit = async {
        tokio::task::yield_now().await;
        world.commit(vec![created(session(1, 1))])
    };
    let (found, _) = tokio::join!(prepare, commit);
    assert_eq!(found.unwrap().session.session_id, session_id(1));
}

#[tokio::test]
async fn what_never_comes_is_not_found() {
    let world = World::new();
    let error = world.view.prepare(|reading| Ok::<_, ApiError>(reading.get_session(session_id(1))?)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn an_applied_frame_is_reached_at_once() {
    let world = World::new();
    assert!(world.view.reach(2, Duration::ZERO).await);
    assert!(!world.view.reach(3, Duration::ZERO).await);
}

#[tokio::test]
async fn a_panic_in_a_read_is_internal() {
    let world = World::new();
    let error = world.view.read_at(None, |_| -> Result<(), _> { panic!("on purpose") }).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
}
