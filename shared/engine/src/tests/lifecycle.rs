//! States of sessions.

use laneway_contract::*;

use super::world::*;
use crate::*;

fn end(world: &mut World, session_id: SessionId, end: SessionState, cancel_runs: bool) -> Result<Vec<Event>, ApiError> {
    let reason = "done".to_owned();
    world.run(&Command::End(EndSession { session_id, end, cancel_runs, actor: actor(), reason }))
}

fn pause(world: &mut World, session_id: SessionId, paused: bool) -> Result<Vec<Event>, ApiError> {
    let reason = "lunch".to_owned();
    world.run(&Command::Pause(PauseSession { session_id, paused, interrupt: false, actor: actor(), reason }))
}

#[test]
fn states_follow_the_runs() {
    let mut world = World::new();
    let session = world.create("echo/a");
    assert_eq!(world.session_state(session), SessionState::Created);
    let run = world.submit(session);
    assert_eq!(world.session_state(session), SessionState::Created, "dispatched is not executing");
    let epoch = world.claim(run);
    assert_eq!(world.session_state(session), SessionState::Active);
    world.complete(run, epoch);
    assert_eq!(world.session_state(session), SessionState::Idle);
    end(&mut world, session, SessionState::Completed, false).unwrap();
    assert_eq!(world.session_state(session), SessionState::Completed);
}

#[test]
fn a_pause_lets_the_executing_run_finish_and_starts_nothing() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let first = world.submit(session);
    let second = world.submit(session);
    let epoch = world.claim(first);
    pause(&mut world, session, true).unwrap();
    assert_eq!(world.session_state(session), SessionState::Active);
    world.complete(first, epoch);
    assert_eq!(world.session_state(session), SessionState::Paused);
    assert_eq!(world.job_state(second), JobState::Queued);
    pause(&mut world, session, false).unwrap();
    assert_eq!(world.session_state(session), SessionState::Idle);
    assert_eq!(world.job_state(second), JobState::Dispatched);
}

#[test]
fn a_pause_takes_back_a_dispatch_that_nobody_has_claimed() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let claim = world.claim_command(run);
    pause(&mut world, session, true).unwrap();
    assert_eq!(world.run(&Command::Claim(claim)).unwrap_err().code, ErrorCode::StaleEpoch);
    assert!(world.state.slots().is_idle());
}

#[test]
fn completing_is_refused_while_there_are_runs_unless_they_are_to_be_cancelled() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let executing = world.submit(session);
    let queued = world.submit(session);
    let epoch = world.claim(executing);
    assert_eq!(end(&mut world, session, SessionState::Completed, false).unwrap_err().code, ErrorCode::Busy);
    end(&mut world, session, SessionState::Completed, true).unwrap();
    assert_eq!(world.job_state(queued), JobState::Cancelled);
    assert_eq!(world.session_state(session), SessionState::Active, "until the executing run is settled");
    let submit = world.submit_command(Some(session));
    assert_eq!(world.run(&Command::Submit(Box::new(submit))).unwrap_err().code, ErrorCode::SessionTerminal);
    world.report(executing, epoch, AttemptResult::Stopped { stop: Stop::Cancel }).unwrap();
    assert_eq!(world.session_state(session), SessionState::Completed);
}

#[test]
fn cancelling_a_long_session_starts_none_of_its_runs() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let runs: Vec<RunId> = (0..500).map(|_| world.submit(session)).collect();
    let mut started = 0;
    loop {
        let events = world.cancel(CancelTarget::Session(session));
        started += events.iter().filter(|event| matches!(event, Event::RunDispatched { .. })).count();
        if events.is_empty() {
            break;
        }
    }
    assert_eq!(started, 0);
    assert!(runs.iter().all(|run| world.job_state(*run) == JobState::Cancelled));
}

#[test]
fn terminal_states_are_sticky_and_named() {
    for terminal in [SessionState::Completed, SessionState::Failed, SessionState::Cancelled] {
        let mut world = World::new();
        let session = world.create("echo/a");
        end(&mut world, session, terminal, true).unwrap();
        assert!(end(&mut world, session, terminal, true).unwrap().is_empty(), "a repeat");
        let other = if terminal == SessionState::Failed { SessionState::Cancelled } else { SessionState::Failed };
        let refusals = [end(&mut world, session, other, true), pause(&mut world, session, true)];
        for refusal in refusals {
            let error = refusal.unwrap_err();
            assert_eq!(error.code, ErrorCode::SessionTerminal);
            assert!(error.message.contains(terminal.as_str()), "{error}");
        }
        assert_eq!(world.session_state(session), terminal);
    }
}

#[test]
fn ending_a_session_with_a_thousand_queued_runs_stays_within_the_bound_of_a_turn() {
    let mut world = World::new();
    let session = world.create("echo/a");
    for _ in 0..MAX_QUEUED_PER_SESSION {
        world.submit(session);
    }
    let command = EndSession {
        session_id: session,
        end: SessionState::Cancelled,
        cancel_runs: true,
        actor: actor(),
        reason: String::new(),
    };
    let mut outcome = world.state.turn(&Command::End(command), &world.hints, world.now).unwrap();
    loop {
        assert!(outcome.events.len() <= MAX_TURN_EVENTS, "{}", outcome.events.len());
        if !outcome.more {
            break;
        }
        outcome = world.state.tick(&world.hints, world.now);
    }
    assert_eq!(world.session_state(session), SessionState::Cancelled);
    assert_eq!(world.state.live_runs(None).count(), 0);
}

#[test]
fn an_end_that_waits_for_its_worker_holds_up_no_other() {
    let mut world = World::new();
    let mut sessions: Vec<SessionId> = (0..3).map(|_| world.create("echo/a")).collect();
    sessions.sort_unstable();
    let executing = world.submit(sessions[0]);
    let epoch = world.claim(executing);
    for session in &sessions[1..] {
        world.submit(*session);
        world.submit(*session);
    }
    for session in &sessions {
        end(&mut world, *session, SessionState::Cancelled, true).unwrap();
    }
    assert_eq!(world.session_state(sessions[0]), SessionState::Active);
    for session in &sessions[1..] {
        assert_eq!(world.session_state(*session), SessionState::Cancelled);
    }
    world.report(executing, epoch, AttemptResult::Stopped { stop: Stop::Cancel }).unwrap();
    assert_eq!(world.session_state(sessions[0]), SessionState::Cancelled);
}

/// The largest turn that fits a frame of the journal, in bytes.
const FRAME_BYTES: usize = 900 * 1024;

fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(|event| rmp_serde::to_vec(event).unwrap().len()).sum()
}

#[test]
fn no_turn_outgrows_a_frame_however_large_its_runs_are() {
    let mut world = World::new();
    let (ended, cancelled) = (world.create("echo/a"), world.create("echo/b"));
    for session in [ended, cancelled] {
        for _ in 0..100 {
            let mut command = world.submit_command(Some(session));
            command.input = (0..MAX_MESSAGES).map(|_| world.draft(MessageRole::User, "question")).collect();
            command.cancellation_token = Some("t".to_owned());
            world.submit_with(command);
        }
    }
    end(&mut world, ended, SessionState::Cancelled, true).unwrap();
    let token = Cancel {
        target: CancelTarget::Token("t".to_owned()),
        submitted_before: None,
        actor: actor(),
        reason: String::new(),
    };
    loop {
        let outcome = world.state.turn(&Command::Cancel(token.clone()), &world.hints, world.now).unwrap();
        assert!(bytes_of(&outcome.events) < FRAME_BYTES, "{}", bytes_of(&outcome.events));
        for event in &outcome.events {
            assert!(crate::weight::weight(event) >= bytes_of(std::slice::from_ref(event)), "{event:?}");
        }
        if outcome.events.is_empty() {
            break;
        }
    }
    assert_eq!(world.state.live_runs(None).count(), 0);
    assert_eq!(world.session_state(ended), SessionState::Cancelled);
}
