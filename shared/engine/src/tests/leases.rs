//! Claims, epochs, expiry.

use laneway_contract::*;

use super::world::*;
use crate::*;

fn refused(world: &mut World, claim: &Claim) -> ErrorCode {
    world.run(&Command::Claim(claim.clone())).unwrap_err().code
}

/// What became of the run of the lease that expired.
fn expired(events: &[Event]) -> &str {
    let Some(Event::LeaseExpired { action, .. }) = events.first() else { panic!("{events:?}") };
    action
}

#[test]
fn a_claim_is_repeatable_by_its_claimant_alone() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let claim = world.claim_command(run);
    world.run(&Command::Claim(claim.clone())).unwrap();
    let epoch = world.state.run(run).unwrap().record.status.epoch;
    assert!(world.run(&Command::Claim(claim.clone())).unwrap().is_empty());
    assert_eq!(world.state.run(run).unwrap().record.status.epoch, epoch);
    let other = Claim { claim_id: 2, ..claim.clone() };
    assert_eq!(refused(&mut world, &other), ErrorCode::AlreadyClaimed);
    world.complete(run, epoch);
    assert_eq!(refused(&mut world, &claim), ErrorCode::RunTerminal);
}

#[test]
fn a_dispatch_that_nobody_claims_returns_and_its_number_is_over() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let old = world.claim_command(run);
    let events = world.advance(DISPATCH_CLAIM_MS as i64);
    assert!(matches!(events[0], Event::RunReturned { cause: ReturnCause::Unclaimed, dispatch_no: 1, .. }));
    assert_eq!(world.state.run(run).unwrap().dispatch_no, 2, "returned and dispatched again");
    assert_eq!(refused(&mut world, &old), ErrorCode::StaleEpoch);
    world.claim(run);
}

#[test]
fn a_claim_that_comes_too_late_gets_no_lease() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let claim = world.claim_command(run);
    world.now = world.now.plus_millis(DISPATCH_CLAIM_MS as i64);
    assert_eq!(refused(&mut world, &claim), ErrorCode::StaleEpoch);
    assert_eq!(world.thread(session).len(), 0);
}

#[test]
fn a_lost_worker_costs_an_attempt_and_the_input_enters_the_thread_once() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let first = world.claim(run);
    world.advance(ATTEMPT_LEASE_MS as i64 - 1);
    assert_eq!(world.job_state(run), JobState::Running);
    assert_eq!(expired(&world.advance(1)), "retry");
    assert_eq!(world.job_state(run), JobState::Queued);
    world.advance(60_000);
    let second = world.claim(run);
    assert!(second > first, "epochs rise");
    assert_eq!(world.thread(session).len(), 1);
    assert_eq!(
        world.report(run, first, failed(ErrorClass::Server, true, None)).unwrap_err().code,
        ErrorCode::StaleEpoch
    );
    world.complete(run, second);
    assert_eq!(world.settled(run).status.attempt, 2);
}

#[test]
fn a_lost_worker_fails_a_run_that_has_no_try_left() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let mut command = world.submit_command(Some(session));
    command.max_retries = 0;
    let run = world.submit_with(command);
    world.claim(run);
    assert_eq!(expired(&world.advance(ATTEMPT_LEASE_MS as i64)), "fail");
    assert_eq!(world.job_state(run), JobState::Failed);
    assert_eq!(world.settled(run).status.error.unwrap().class, ErrorClass::WorkerLost);
}

#[test]
fn a_late_complete_answer_settles_while_no_newer_epoch_was_claimed() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    world.advance(ATTEMPT_LEASE_MS as i64);
    assert!(matches!(world.state.run(run).unwrap().phase, Phase::Backoff { .. }));
    assert!(world.report(run, epoch, failed(ErrorClass::Server, true, None)).is_err(), "only a complete one");
    world.complete(run, epoch);
    assert_eq!(world.job_state(run), JobState::Completed);
    assert_eq!(world.thread(session).len(), 2);
    let late = |(_, event): &(Timestamp, Event)| matches!(event, Event::LateAnswerTaken { epoch: 1, .. });
    assert_eq!(world.journal.iter().filter(|event| late(event)).count(), 1);
}

#[test]
fn a_run_that_kills_its_workers_is_poisoned() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let mut command = world.submit_command(Some(session));
    command.max_retries = 10;
    let run = world.submit_with(command);
    for kill in 1..=POISON_AFTER {
        world.claim(run);
        let action = if kill == POISON_AFTER { "poison" } else { "retry" };
        assert_eq!(expired(&world.advance(ATTEMPT_LEASE_MS as i64)), action);
        world.advance(60_000);
    }
    assert_eq!(world.job_state(run), JobState::Poisoned);
}

#[test]
fn a_cancel_that_meets_a_lost_worker_ends_as_cancelled() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    world.claim(run);
    world.cancel(CancelTarget::Run(run));
    world.advance(ATTEMPT_LEASE_MS as i64 - 1);
    assert_eq!(world.job_state(run), JobState::Running);
    let events = world.advance(1);
    assert_eq!(expired(&events), "cancel");
    assert_eq!(world.job_state(run), JobState::Cancelled);
    let receipt = world.settled(run).status.cancel.unwrap();
    assert_eq!((receipt.worker_told_at, receipt.provider_closed_at, receipt.billed), (None, None, None));
    assert_eq!(receipt.settled_at.unwrap().millis_since(receipt.requested_at), ATTEMPT_LEASE_MS);
}

#[test]
fn an_attempt_that_takes_too_long_is_asked_to_stop_and_tried_again() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let mut command = world.submit_command(Some(session));
    command.timeout_ms = 100;
    let run = world.submit_with(command);
    let epoch = world.claim(run);
    let events = world.advance(100);
    assert!(matches!(events[..], [Event::RunStopRequested { cause: StopCause::Timeout, .. }]));
    world.report(run, epoch, AttemptResult::Stopped { stop: Stop::Timeout }).unwrap();
    let run = world.state.run(run).unwrap();
    assert!(matches!(run.phase, Phase::Backoff { .. }));
    assert_eq!(run.record.status.error.as_ref().unwrap().class, ErrorClass::Timeout);
}

#[test]
fn an_attempt_that_is_handed_back_does_not_count() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let mut command = world.submit_command(Some(session));
    command.max_retries = 0;
    let run = world.submit_with(command);
    let epoch = world.claim(run);
    let mut report = world.report_command(run, epoch, AttemptResult::HandedBack);
    report.messages.clear();
    world.run(&Command::Report(Box::new(report))).unwrap();
    assert_eq!(world.job_state(run), JobState::Dispatched, "at once again");
    let epoch = world.claim(run);
    world.complete(run, epoch);
    assert_eq!(world.job_state(run), JobState::Completed);
}
