//! A worker over a real nats-server, with a scheduler and a store that do what the test says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{EPOCH, World, chunk, first_text, within};
use laneway_contract::{
    AttemptResult, ControlMessage, ErrorClass, ErrorCode, Finish, JobState, MessageRole, MicroUsd, Outcome, Piece,
    RenewReply, ReportAttempt, Stop, Stream, Usage,
};
use laneway_worker::WorkerConfig;

fn outcome(report: &ReportAttempt) -> &Outcome {
    report.outcome.as_ref().expect("a final report")
}

async fn report_of(world: &mut World) -> ReportAttempt {
    within(world.reports.recv()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_claimed_streamed_and_reported() {
    let mut world = World::start("echo/default", 2).await;
    let mut tokens = world.tokens().await;
    let announcement = world.announced(2).await;
    assert_eq!((announcement.models, announcement.pool.as_str()), (vec!["echo/*".to_owned()], "pool-of-the-test"));

    let run_id = world.dispatch().await;
    let claim = within(world.claims.recv()).await.unwrap();
    assert_eq!((claim.run_id, claim.dispatch_no, claim.worker_id.as_str()), (run_id, 1, "worker-1"));
    let report = report_of(&mut world).await;
    assert_eq!((report.run_id, report.epoch, report.report_no), (run_id, EPOCH, 0));
    let message = &report.messages[0];
    assert_eq!((message.role, message.content.as_str()), (MessageRole::Assistant, "one two three"));
    assert_eq!((message.finish, message.token_count), (Some(Finish::Stop), Some(3)));
    let end = outcome(&report);
    assert_eq!(end.result, AttemptResult::Completed { finish: Finish::Stop });
    // The SYSTEM message on the first page counts too.
    let usage = Usage { input_tokens: 5, output_tokens: 3, ..Usage::default() };
    assert_eq!((end.usage, end.cost_usd, end.issues.len()), (usage, Some(MicroUsd(0)), 0));
    assert!(end.first_token_after_ms.is_some());

    let mut text = String::new();
    for n in 0.. {
        let chunk = chunk(&mut tokens).await;
        assert_eq!((chunk.run_id, chunk.attempt, chunk.epoch, chunk.n), (run_id, 1, EPOCH, n), "dense");
        match chunk.piece {
            Piece::Start { model_id, .. } => assert_eq!((n, model_id.as_str()), (0, "echo/default")),
            Piece::Text(piece) => text.push_str(&piece),
            Piece::End { outcome, usage: told, message_id } => {
                let expected = (JobState::Completed, usage, Some(message.message_id));
                assert_eq!((outcome, told, message_id), expected);
                break;
            }
            Piece::Thinking(_) | Piece::ToolCall { .. } => panic!("echo was asked for neither"),
        }
    }
    assert_eq!(text, "one two three");
    world.all_dispatches_acknowledged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_claim_is_acknowledged_and_nothing_more() {
    let mut world = World::start("echo/default", 1).await;
    world.answer(|answers| answers.claim = Err(ErrorCode::AlreadyClaimed));
    world.dispatch().await;
    within(world.claims.recv()).await.unwrap();
    world.all_dispatches_acknowledged().await;
    world.answer(|answers| answers.claim = Ok(()));
    let next = world.dispatch().await;
    assert_eq!(report_of(&mut world).await.run_id, next);
}

/// Under another number it would be refused: the scheduler may have granted it when nobody heard so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_asked_for_under_its_number_until_it_is_answered() {
    let mut world = World::start("echo/default", 2).await;
    world.answer(|answers| (answers.claim, answers.timeout_ms) = (Err(ErrorCode::Unavailable), 1_000));
    let run_id = world.dispatch().await;
    let (first, began) = (within(world.claims.recv()).await.unwrap(), Instant::now());
    // Longer than a round of tries, and than the server waits for an acknowledgement.
    while began.elapsed() < Duration::from_secs(17) {
        assert_eq!(within(world.claims.recv()).await.unwrap(), first);
    }
    world.answer(|answers| answers.claim = Ok(()));
    let report = report_of(&mut world).await;
    assert_eq!((report.run_id, report.messages.len()), (run_id, 0));
    assert_eq!(outcome(&report).result, AttemptResult::HandedBack, "the time of the attempt has passed");
    world.all_dispatches_acknowledged().await;
    while let Ok(claim) = world.claims.try_recv() {
        assert_eq!(claim, first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_worker_asks_for_a_claim_until_its_time_to_drain_is_over() {
    let change = |config| WorkerConfig { drain: Duration::from_secs(1), ..config };
    let mut world = World::start_with("echo/default", 1, change).await;
    world.answer(|answers| answers.claim = Err(ErrorCode::Unavailable));
    world.dispatch().await;
    within(world.claims.recv()).await.unwrap();
    let began = Instant::now();
    world.stop();
    world.ended().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it does not wait for an answer for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_message_alone_stops_its_epoch() {
    let change = |config| WorkerConfig { ignore_renewal_stop: true, ..config };
    let mut world = World::start_with("echo/delay=10,tokens=100000", 1, change).await;
    world.answer(|answers| answers.renew = Ok(RenewReply { stop: Some(Stop::Timeout) }));
    let mut tokens = world.tokens().await;
    let run_id = world.dispatch().await;
    first_text(&mut tokens).await;
    // The flag of a renewal is not looked at in this test, and an older epoch is not meant.
    within(world.renewals.recv()).await.unwrap();
    let signal = |epoch| ControlMessage { run_id, epoch, stop: Stop::Cancel };
    world.bus.publish_control(&signal(EPOCH - 1)).await.unwrap();
    first_text(&mut tokens).await;
    world.bus.publish_control(&signal(EPOCH)).await.unwrap();
    let report = report_of(&mut world).await;
    assert_eq!(outcome(&report).result, AttemptResult::Stopped { stop: Stop::Cancel });
    assert_eq!(report.messages[0].finish, Some(Finish::Cancelled));
    assert!(report.messages[0].content.starts_with("one two"), "what was said is kept");
    assert!(outcome(&report).usage.output_tokens > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_alone_stops_an_attempt() {
    let mut world = World::start("echo/hang", 1).await;
    world.bus.jetstream().delete_stream(world.bus.prefix().stream(Stream::Control)).await.unwrap();
    world.answer(|answers| answers.renew = Ok(RenewReply { stop: Some(Stop::Cancel) }));
    world.dispatch().await;
    let report = report_of(&mut world).await;
    assert_eq!(outcome(&report).result, AttemptResult::Stopped { stop: Stop::Cancel });
    assert_eq!(report.messages, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_lease_is_over_is_dropped() {
    let mut world = World::start("echo/hang", 1).await;
    world.answer(|answers| answers.renew = Err(ErrorCode::StaleEpoch));
    world.dispatch().await;
    within(world.renewals.recv()).await.unwrap();
    // The slot is free again, and nothing was reported of the first.
    world.answer(|answers| answers.model = laneway_contract::ModelId::parse("echo/default").unwrap());
    let next = world.dispatch().await;
    assert_eq!(report_of(&mut world).await.run_id, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_an_attempt_is_kept_by_the_worker_itself() {
    let mut world = World::start("echo/hang", 1).await;
    world.answer(|answers| answers.timeout_ms = 300);
    world.dispatch().await;
    let report = report_of(&mut world).await;
    assert_eq!(outcome(&report).result, AttemptResult::Stopped { stop: Stop::Timeout });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_reported_in_our_words() {
    let mut world = World::start("echo/fail_after=1", 1).await;
    world.dispatch().await;
    let report = report_of(&mut world).await;
    let AttemptResult::Failed { error } = &outcome(&report).result else { panic!("{report:?}") };
    assert_eq!((error.code.as_str(), error.class), ("provider_connection", ErrorClass::Network));
    assert_eq!((report.messages[0].content.as_str(), report.messages[0].finish), ("one", Some(Finish::Error)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_sent_again_unchanged_until_it_is_taken() {
    let mut world = World::start("echo/default", 1).await;
    world.answer(|answers| answers.report_errors = vec![ErrorCode::Internal, ErrorCode::Unavailable]);
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    let first = report_of(&mut world).await;
    assert_eq!(report_of(&mut world).await, first);
    assert_eq!(report_of(&mut world).await, first);
    // The end comes only now.
    while !matches!(chunk(&mut tokens).await.piece, Piece::End { .. }) {}
    // A refusal is final: no end, no repeat, and the slot is free.
    world.answer(|answers| answers.report_errors = vec![ErrorCode::StaleEpoch]);
    world.dispatch().await;
    report_of(&mut world).await;
    let next = world.dispatch().await;
    assert_eq!(report_of(&mut world).await.run_id, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_runs_are_taken_than_there_are_slots() {
    let mut world = World::start("echo/hang", 2).await;
    for _ in 0..5 {
        world.dispatch().await;
    }
    let first = within(world.claims.recv()).await.unwrap();
    let second = within(world.claims.recv()).await.unwrap();
    let none = tokio::time::timeout(Duration::from_secs(1), world.claims.recv()).await;
    assert!(none.is_err(), "both slots are taken");
    assert_ne!(first.claim_id, second.claim_id);
    let signal = ControlMessage { run_id: first.run_id, epoch: EPOCH, stop: Stop::Cancel };
    world.bus.publish_control(&signal).await.unwrap();
    assert_eq!(report_of(&mut world).await.run_id, first.run_id);
    within(world.claims.recv()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_worker_hands_back_what_it_has_not_begun() {
    let mut world = World::start("echo/default", 1).await;
    world.answer(|answers| answers.store_is_there = false);
    world.dispatch().await;
    within(world.claims.recv()).await.unwrap();
    world.stop();
    let report = report_of(&mut world).await;
    assert_eq!((outcome(&report).result.clone(), report.messages.len()), (AttemptResult::HandedBack, 0));
    world.announced(0).await;
    world.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_worker_lets_running_attempts_finish() {
    let mut world = World::start("echo/delay=100,tokens=10", 2).await;
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    first_text(&mut tokens).await;
    world.stop();
    world.announced(0).await;
    // Nothing new is begun.
    world.dispatch().await;
    let report = report_of(&mut world).await;
    assert_eq!(outcome(&report).result, AttemptResult::Completed { finish: Finish::Stop });
    world.ended().await.unwrap();
    world.claims.recv().await.unwrap();
    assert!(world.claims.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_finish_in_time_is_cut_off_and_reported() {
    let change = |config| WorkerConfig { drain: Duration::from_millis(200), ..config };
    let mut world = World::start_with("echo/delay=10,tokens=100000", 1, change).await;
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    first_text(&mut tokens).await;
    world.stop();
    let report = report_of(&mut world).await;
    let AttemptResult::Failed { error } = &outcome(&report).result else { panic!("{report:?}") };
    assert_eq!((error.code.as_str(), error.retryable), ("worker_left", true));
    assert!(report.messages[0].content.starts_with("one"));
    world.ended().await.unwrap();
}
