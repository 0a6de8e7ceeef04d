//! Two schedulers on connections of their own: one leads, the other takes over, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{World, submit};
use laneway_contract::*;

/// Submits, loses its leader in some way, and finds everything again under the next.
async fn nothing_is_lost(gracefully: bool) {
    let world = World::start().await;
    let first = world.scheduler("first").await;
    let before = world.status().await;
    assert_eq!(before.leader, "first");
    let second = world.scheduler("second").await;
    let requests: Vec<SubmitRun> = (0..20).map(|n| submit(&format!("run {n}"))).collect();
    for request in &requests[..10] {
        assert!(!world.submit(request).await.repeated);
    }
    let mut worker = world.worker("w1", 4).await;
    let ended = worker.answer_one("early").await;
    // Claimed under the first leader, reported under the second.
    let dispatch = worker.dispatch().await;
    let claim = worker.claim(&dispatch).await.unwrap();

    if gracefully {
        first.stop().await;
    } else {
        first.kill().await;
    }
    for request in &requests[10..] {
        assert!(!world.submit(request).await.repeated);
    }
    let after = world.status().await;
    assert_eq!(after.leader, "second");
    assert!(after.epoch > before.epoch, "{} then {}", before.epoch, after.epoch);
    for request in &requests {
        assert!(world.submit(request).await.repeated, "a submit that was acknowledged is not known");
    }
    assert_eq!(worker.renew(&claim).await.unwrap().stop, None, "the lease goes on under the new leader");
    let report = common::Worker::report_of(&claim, "late", AttemptResult::Completed { finish: Finish::Stop });
    assert!(!worker.send(&report).await.unwrap().repeated);
    assert!(worker.send(&report).await.unwrap().repeated, "a report that is sent again has its first answer");
    let mut done = BTreeSet::from([ended, claim.run_id]);
    while done.len() < requests.len() {
        assert!(done.insert(worker.answer_one("answer").await), "a run was executed twice");
    }
    for request in &requests {
        let reply = world.ended(request.run_id.unwrap()).await;
        assert_eq!(reply.run.status.state, JobState::Completed);
        assert_eq!(reply.run.status.attempt, 1);
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over() {
    nothing_is_lost(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced() {
    nothing_is_lost(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_nothing() {
    let mut world = World::start().await;
    let scheduler = world.scheduler("one").await;
    let requests: Vec<SubmitRun> = (0..10).map(|n| submit(&format!("run {n}"))).collect();
    for request in &requests {
        world.submit(request).await;
    }
    world.server.kill();
    world.server.run();
    for request in &requests {
        assert!(world.submit(request).await.repeated);
    }
    // The streams in memory went with the server; dispatches find them again.
    let mut worker = world.worker("w1", 4).await;
    let mut done = BTreeSet::new();
    while done.len() < requests.len() {
        done.insert(worker.answer_one("answer").await);
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_checks_the_digests_of_its_leader() {
    let world = World::start().await;
    let first = world.scheduler("first").await;
    let second = world.scheduler("second").await;
    // One at a time, so that each is a frame.
    while world.submit(&submit("hello")).await.journal_seq <= 1_001 {}
    let follower = laneway_journal::Follower::<Event>::new;
    let stream = world.bus.prefix().stream(Stream::Journal);
    let mut follower = follower(world.bus.client().clone(), &stream, laneway_journal::Position::START);
    let mut digests = 0;
    while follower.position().number < 1_001 {
        for committed in common::within(follower.next_batch(64)).await.unwrap() {
            let laneway_journal::Body::Turns(turns) = committed.frame.body else { continue };
            let events = turns.iter().flat_map(|turn| &turn.events);
            digests += events.filter(|event| matches!(event, Event::StateDigest { .. })).count();
        }
    }
    assert_eq!(digests, 1);
    first.stop().await;
    assert_eq!(world.status().await.leader, "second", "the standby's fold is the leader's");
    second.stop().await;
}
