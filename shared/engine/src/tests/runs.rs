//! Submit, retry, report, cancel.

use laneway_contract::*;

use super::world::*;
use crate::*;

#[test]
fn a_one_request_run_makes_a_session_that_ends_with_it() {
    let mut world = World::new();
    let command = world.submit_command(None);
    let session = command.new_session.as_ref().unwrap().session_id;
    let run = world.submit_with(command.clone());
    assert!(world.run(&Command::Submit(Box::new(command.clone()))).unwrap().is_empty(), "a repeat does nothing");
    let epoch = world.claim(run);
    assert_eq!(world.session_state(session), SessionState::Active);
    let second = world.submit_command(Some(session));
    assert_eq!(world.run(&Command::Submit(Box::new(second.clone()))).unwrap_err().code, ErrorCode::Busy);
    world.complete(run, epoch);
    assert_eq!(world.session_state(session), SessionState::Completed);
    assert!(world.run(&Command::Submit(Box::new(command.clone()))).unwrap().is_empty(), "also after the end");
    let mut other = command;
    other.fingerprint = Fingerprint(77);
    assert_eq!(world.run(&Command::Submit(Box::new(other))).unwrap_err().code, ErrorCode::IdempotencyConflict);
    assert_eq!(world.run(&Command::Submit(Box::new(second))).unwrap_err().code, ErrorCode::SessionTerminal);
}

#[test]
fn reject_refuses_while_the_session_has_a_run() {
    let mut world = World::new();
    let session = world.create("echo/a");
    world.submit(session);
    let mut second = world.submit_command(Some(session));
    second.on_busy = OnBusy::Reject;
    assert_eq!(world.run(&Command::Submit(Box::new(second))).unwrap_err().code, ErrorCode::Busy);
}

#[test]
fn priority_is_strict_in_a_lane_and_equal_ones_go_in_submit_order() {
    let mut world = World::new();
    let limits = Limits { global: 0, ..Limits::default() };
    world.set_limits(limits);
    let mut expected = Vec::new();
    for (priority, place) in [(50, 2), (10, 0), (50, 3), (90, 4), (10, 1)] {
        let session = world.create("echo/a");
        let mut command = world.submit_command(Some(session));
        command.priority = priority;
        expected.push((place, world.submit_with(command)));
    }
    expected.sort_unstable();
    let limits = Limits { per_provider: 9, per_model: 9, ..Limits::default() };
    let events = world.set_limits(limits);
    let order: Vec<RunId> = events
        .iter()
        .filter_map(|event| match event {
            Event::RunDispatched { run_id, .. } => Some(*run_id),
            _ => None,
        })
        .collect();
    assert_eq!(order, expected.into_iter().map(|(_, run)| run).collect::<Vec<_>>());
}

#[test]
fn a_retryable_error_waits_and_tries_again_until_attempts_run_out() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let mut command = world.submit_command(Some(session));
    command.max_retries = 2;
    let run = world.submit_with(command);
    for attempt in 1..=3 {
        let epoch = world.claim(run);
        assert_eq!(world.state.run(run).unwrap().record.status.attempt, attempt);
        world.report(run, epoch, failed(ErrorClass::Server, true, None)).unwrap();
        if attempt < 3 {
            assert!(world.state.slots().is_idle(), "a backoff holds no slot");
            assert_eq!(world.session_state(session), SessionState::Idle);
            world.advance(60_000);
        }
    }
    let record = world.settled(run);
    assert_eq!(record.status.state, JobState::Failed);
    assert_eq!(record.status.usage.total(), 21, "every attempt is counted");
    assert_eq!(record.status.cost_usd, Some(MicroUsd(15)));
    assert_eq!(record.status.output_message_ids.len(), 3);
}

#[test]
fn an_error_that_cannot_be_retried_ends_the_run() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    world.report(run, epoch, failed(ErrorClass::InvalidRequest, false, None)).unwrap();
    assert_eq!(world.job_state(run), JobState::Failed);
}

#[test]
fn a_wait_for_a_rate_is_recorded_once_and_lasts_as_long_as_the_provider_says() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    for _ in 0..2 {
        let epoch = world.claim(run);
        world.report(run, epoch, failed(ErrorClass::RateLimit, true, Some(90_000))).unwrap();
        world.advance(89_999);
        assert!(matches!(world.state.run(run).unwrap().phase, Phase::Backoff { .. }));
        world.advance(1);
        assert_eq!(world.job_state(run), JobState::Dispatched);
    }
    let recorded = world.journal.iter().filter(|(_, event)| matches!(event, Event::RunRateLimited { .. })).count();
    assert_eq!(recorded, 1);
}

#[test]
fn the_backoff_doubles_within_its_spread() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let mut run = world.state.run(run).unwrap().clone();
    for (attempt, base) in [(1, 1_000), (2, 2_000), (3, 4_000), (7, 60_000), (20, 60_000)] {
        run.record.status.attempt = attempt;
        let wait = run.backoff_ms(None);
        assert!((base * 8 / 10..=base * 12 / 10).contains(&wait), "attempt {attempt}: {wait}");
        assert_eq!(wait, run.backoff_ms(None));
    }
}

#[test]
fn a_repeated_report_gets_its_answer_and_a_gap_is_refused() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    let mut part = world.report_command(run, epoch, AttemptResult::Completed { finish: Finish::Stop });
    let outcome = part.outcome.take();
    assert!(!world.run(&Command::Report(Box::new(part.clone()))).unwrap().is_empty());
    assert!(world.run(&Command::Report(Box::new(part.clone()))).unwrap().is_empty());
    part.report_no = 2;
    assert_eq!(world.run(&Command::Report(Box::new(part.clone()))).unwrap_err().code, ErrorCode::BadRequest);
    part.report_no = 1;
    part.outcome = outcome;
    world.run(&Command::Report(Box::new(part.clone()))).unwrap();
    assert!(world.run(&Command::Report(Box::new(part.clone()))).unwrap().is_empty(), "also after the run has ended");
    part.report_no = 2;
    assert_eq!(world.run(&Command::Report(Box::new(part))).unwrap_err().code, ErrorCode::RunTerminal);
    assert_eq!(world.thread(session).len(), 3);
}

#[test]
fn a_cancel_of_an_executing_run_is_a_request() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    world.now = world.now.plus_millis(10);
    let events = world.cancel(CancelTarget::Run(run));
    assert!(matches!(events[..], [Event::RunStopRequested { cause: StopCause::Cancel { .. }, .. }]));
    assert_eq!(world.job_state(run), JobState::Running);
    assert!(world.cancel(CancelTarget::Run(run)).is_empty(), "a second one changes nothing");
    world.now = world.now.plus_millis(10);
    let mut report = world.report_command(run, epoch, AttemptResult::Stopped { stop: Stop::Cancel });
    let outcome = report.outcome.as_mut().unwrap();
    // Counted from the claim, which was 20 ms ago.
    (outcome.told_after_ms, outcome.closed_after_ms) = (Some(13), Some(14));
    world.run(&Command::Report(Box::new(report))).unwrap();
    let record = world.settled(run);
    assert_eq!(record.status.state, JobState::Cancelled);
    let receipt = record.status.cancel.unwrap();
    assert_eq!((&receipt.by, receipt.too_late), (&actor(), false));
    let after = |at: Option<Timestamp>| at.unwrap().millis_since(receipt.requested_at);
    let steps = [receipt.worker_told_at, receipt.provider_closed_at, receipt.settled_at].map(after);
    assert_eq!(steps, [3, 4, 10]);
    assert_eq!(receipt.billed, Some(record.status.usage));
    assert_eq!(world.thread(session).last().unwrap().finish, Some(Finish::Cancelled), "the partial answer is kept");
}

#[test]
fn a_complete_answer_after_the_cancel_is_kept_and_the_run_is_cancelled() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    world.cancel(CancelTarget::Run(run));
    world.complete(run, epoch);
    let record = world.settled(run);
    assert_eq!((record.status.state, record.status.finish), (JobState::Cancelled, Some(Finish::Stop)));
    let receipt = record.status.cancel.unwrap();
    assert_eq!((receipt.worker_told_at, receipt.provider_closed_at), (None, None), "its answer was there before");
    assert_eq!(receipt.billed, Some(record.status.usage));
    assert!(world.cancel(CancelTarget::Run(run)).is_empty(), "a cancel of an ended run is no error");
}

#[test]
fn cancelled_is_never_failed_and_failed_never_cancelled() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let cancelled = world.submit(session);
    let epoch = world.claim(cancelled);
    world.cancel(CancelTarget::Run(cancelled));
    world.report(cancelled, epoch, failed(ErrorClass::Network, true, None)).unwrap();
    assert_eq!(world.job_state(cancelled), JobState::Cancelled);
    let stopped = world.submit(session);
    let mut command = world.report_command(stopped, 0, AttemptResult::Stopped { stop: Stop::Cancel });
    command.epoch = world.claim(stopped);
    world.run(&Command::Report(Box::new(command))).unwrap();
    assert_ne!(world.job_state(stopped), JobState::Cancelled, "nobody asked for it");
}

#[test]
fn a_token_cancels_every_run_that_carries_it() {
    let mut world = World::new();
    let mut runs = Vec::new();
    for n in 0..3 {
        let session = world.create("echo/a");
        let mut command = world.submit_command(Some(session));
        command.cancellation_token = (n > 0).then(|| "t".to_owned());
        runs.push(world.submit_with(command));
    }
    let epoch = world.claim(runs[0]);
    world.cancel(CancelTarget::Token("t".to_owned()));
    assert_eq!(world.job_state(runs[1]), JobState::Cancelled);
    assert_eq!(world.job_state(runs[2]), JobState::Cancelled);
    world.complete(runs[0], epoch);
    assert_eq!(world.job_state(runs[0]), JobState::Completed);
}

/// A request that is sent again must not reach what came after its first sending.
#[test]
fn a_cancel_leaves_runs_alone_that_were_submitted_later() {
    let targets: [fn(SessionId) -> CancelTarget; 2] = [CancelTarget::Session, |_| CancelTarget::Token("t".to_owned())];
    for target in targets {
        let mut world = World::new();
        let session = world.create("echo/a");
        let mut submit = || {
            world.advance(1);
            let mut command = world.submit_command(Some(session));
            command.cancellation_token = Some("t".to_owned());
            (world.submit_with(command), world.now)
        };
        let ((before, _), (at, submitted_before), (after, _)) = (submit(), submit(), submit());
        let cancel = Cancel {
            target: target(session),
            submitted_before: Some(submitted_before),
            actor: actor(),
            reason: "test".to_owned(),
        };
        world.run(&Command::Cancel(cancel.clone())).unwrap();
        assert_eq!(world.job_state(before), JobState::Cancelled);
        assert!([at, after].iter().all(|run| !world.job_state(*run).is_terminal()));
        assert!(world.run(&Command::Cancel(cancel)).unwrap().is_empty(), "a repeat finds nothing");
    }
}

#[test]
fn a_truncated_answer_is_completed_with_issues() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    world.report(run, epoch, AttemptResult::Completed { finish: Finish::Length }).unwrap();
    let record = world.settled(run);
    assert_eq!(record.status.state, JobState::CompletedWithIssues);
    assert_eq!(record.status.issues.len(), 1);
}

#[test]
fn an_attempt_reports_only_what_a_model_says() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    let mut report = world.report_command(run, epoch, AttemptResult::Completed { finish: Finish::Stop });
    report.messages[0].role = MessageRole::System;
    assert_eq!(world.run(&Command::Report(Box::new(report))).unwrap_err().code, ErrorCode::RoleForbidden);
}
