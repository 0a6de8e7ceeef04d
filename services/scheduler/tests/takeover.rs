//! Two schedulers on connections of their own: one leads, the other takes over, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

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
        world.submit(request).await;
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
        world.submit(request).await;
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
async fn a_store_that_does_not_answer_does_not_hold_up_a_hand_over() {
    let world = World::start().await;
    let first = world.scheduler("first").await;
    assert_eq!(world.status().await.leader, "first");
    let second = world.scheduler("second").await;
    world.without_replica();
    // Its handler asks a store replica.
    let unknown = GetRun { run_id: RunId::generate() };
    let (patience, reply) = (Duration::from_secs(20), Duration::from_secs(20));
    let asked = world.bus.request_within::<_, RunReply>(Endpoint::RunsGet, &unknown, patience, reply);
    tokio::pin!(asked);
    assert!(futures::poll!(&mut asked).is_pending());
    // On the same connection, so that the other has arrived.
    let before = world.status().await;
    let begun = tokio::time::Instant::now();
    first.stop().await;
    let after = world.status().await;
    assert_eq!((after.leader.as_str(), after.epoch), ("second", before.epoch + 1));
    // 100 ms for the handler, with room for a machine that is busy.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced() {
    nothing_is_lost(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_finds_the_buckets_as_they_were() {
    let world = World::start().await;
    let echo = || std::collections::BTreeMap::from([("echo".to_owned(), 1)]);
    let burst = || std::collections::BTreeMap::from([("echo".to_owned(), 3)]);
    let scopes = |providers| PerScope { providers, ..PerScope::default() };
    let limits = Limits {
        per_model: 8,
        per_provider: 8,
        requests_per_minute: scopes(echo()),
        requests_burst: scopes(burst()),
        ..Limits::default()
    };
    let first = world.scheduler_with("first", Some(limits.clone())).await;
    let mut worker = world.worker("w1", 8).await;
    world.status().await;
    let second = world.scheduler_with("second", Some(limits)).await;
    let mut runs = Vec::new();
    for n in 0..4 {
        runs.push(world.submit(&submit(&format!("run {n}"))).await.run.run_id);
    }
    for run in &runs[..3] {
        assert_eq!(worker.answer_one("answer").await, *run);
    }
    let waits = |run: &RunView| run.status.reason == WaitReason::RequestsPerMinute;
    world.until(runs[3], waits).await;
    let level = async || {
        let reply: LimitsReply = world.ask(Endpoint::LimitsGet, &GetLimits::default()).await.unwrap();
        let row = reply.limits.into_iter().find(|row| row.name == "requests_per_minute:provider:echo").unwrap();
        (row.value, row.level)
    };
    assert_eq!(level().await, (Some(1), Some(0)));
    first.kill().await;
    assert_eq!(world.status().await.leader, "second");
    assert_eq!(level().await, (Some(1), Some(0)), "the bucket was full again");
    world.until(runs[3], waits).await;
    // Once the worker has announced itself to the new leader, the run still waits for the rate and nothing else.
    let with_a_worker = async {
        loop {
            let request = ExplainRun { run_id: runs[3] };
            let explained: ExplainReply = world.ask(Endpoint::RunsExplain, &request).await.unwrap();
            if explained.explanation.holds.iter().all(|hold| hold.reason != WaitReason::NoWorker) {
                return explained;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let explained = common::within(with_a_worker).await;
    let [hold] = &explained.explanation.holds[..] else { panic!("{explained:?}") };
    assert_eq!((hold.reason, hold.level, hold.needs), (WaitReason::RequestsPerMinute, Some(0), Some(1)));
    assert!(hold.until.is_some() && explained.explanation.earliest_start == hold.until);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_applies_once() {
    let world = World::start().await;
    let limits = |global| Some(Limits { global, ..Limits::default() });
    let scheduler = world.scheduler_with("one", limits(3)).await;
    assert_eq!(world.status().await.limits.global, 3);
    let changes = std::collections::BTreeMap::from([("global".to_owned(), Some(5))]);
    let change = ChangeLimits { changes, actor: common::actor() };
    world.ask::<_, LimitsReply>(Endpoint::LimitsSet, &change).await.unwrap();
    scheduler.stop().await;
    let scheduler = world.scheduler_with("one", limits(3)).await;
    assert_eq!(world.status().await.limits.global, 5, "the same file undid what was changed while running");
    scheduler.stop().await;
    let scheduler = world.scheduler_with("one", limits(4)).await;
    assert_eq!(world.status().await.limits.global, 4);
    scheduler.stop().await;
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
