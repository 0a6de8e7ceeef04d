//! People, tools, and what one run does to others: approvals, stalls, interrupts, cool-downs, budgets.

use laneway_contract::*;

use super::world::*;
use crate::*;

fn decide(world: &mut World, run_id: RunId, decision: Decision) -> Result<Vec<Event>, ApiError> {
    let (actor, reason) = (actor(), "because".to_owned());
    world.run(&Command::Decide(Decide { run_id, decision, approval_id: None, actor, reason }))
}

/// A run that executes.
fn executing(world: &mut World) -> (SessionId, RunId, Epoch) {
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    (session, run, epoch)
}

fn ask(world: &mut World, run: RunId, epoch: Epoch) {
    world.report(run, epoch, AttemptResult::AwaitingApproval { approval_id: "a1".to_owned() }).unwrap();
}

fn call_a_tool(world: &mut World, run: RunId, epoch: Epoch) {
    let mut command = world.report_command(run, epoch, AttemptResult::HandedBack);
    command.outcome = None;
    command.messages[0].role = MessageRole::ToolCall;
    command.messages[0].tool_call_id = Some("call-1".to_owned());
    command.messages[0].finish = None;
    world.run(&Command::Report(Box::new(command))).unwrap();
}

#[test]
fn an_approval_goes_on_with_the_same_attempt_also_after_a_hand_back() {
    let mut world = World::new();
    let (session, run, epoch) = executing(&mut world);
    ask(&mut world, run, epoch);
    assert_eq!((world.job_state(run), world.session_state(session)), (JobState::AwaitingUser, SessionState::Blocked));
    assert!(world.state.slots().is_idle(), "one that waits for a person holds nothing");
    decide(&mut world, run, Decision::Approve).unwrap();
    let epoch = world.claim(run);
    world.report(run, epoch, AttemptResult::HandedBack).unwrap();
    let epoch = world.claim(run);
    let status = &world.state.run(run).unwrap().record.status;
    assert_eq!((status.attempt, status.approval_id.as_deref()), (1, Some("a1")));
    world.report(run, epoch, failed(ErrorClass::Server, true, None)).unwrap();
    world.advance(60_000);
    world.claim(run);
    let status = &world.state.run(run).unwrap().record.status;
    assert_eq!((status.attempt, status.approval_id.as_deref()), (2, None), "another attempt asks again");
}

#[test]
fn what_has_called_a_tool_is_never_repeated_by_itself() {
    for lose in [true, false] {
        let mut world = World::new();
        let (session, run, epoch) = executing(&mut world);
        call_a_tool(&mut world, run, epoch);
        if lose {
            let events = world.advance(ATTEMPT_LEASE_MS as i64);
            assert!(matches!(&events[0], Event::LeaseExpired { action, .. } if action == "stall"), "{events:?}");
        } else {
            let mut command = world.report_command(run, epoch, failed(ErrorClass::WorkerLost, true, None));
            command.report_no = 1;
            let command = Command::Report(Box::new(command));
            assert!(!world.run(&command).unwrap().is_empty());
            assert!(world.run(&command).unwrap().is_empty(), "a repeat gets its first answer");
            let run = world.state.run(run).unwrap();
            assert_eq!((run.record.status.usage.total(), run.lost), (7, 0), "it has left, and was not lost");
            let (tokens, _) = world.state.session_budget(session).unwrap().lines();
            assert_eq!((tokens.used, tokens.reserved), (7, 0));
        }
        assert_eq!((world.job_state(run), world.session_state(session)), (JobState::Stalled, SessionState::Blocked));
        assert_eq!(world.state.run(run).unwrap().record.status.pending_tool_call_ids, ["call-1"]);
        let refused = decide(&mut world, run, Decision::Approve).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Busy);
        decide(&mut world, run, Decision::Fail).unwrap();
        assert_eq!(world.settled(run).status.error.unwrap().code, "decided");
        assert_eq!(decide(&mut world, run, Decision::Fail).unwrap_err().code, ErrorCode::RunTerminal);
    }
}

#[test]
fn a_call_of_the_last_report_is_among_those_that_nobody_has_answered() {
    let mut world = World::new();
    let (_, run, epoch) = executing(&mut world);
    let mut command = world.report_command(run, epoch, failed(ErrorClass::WorkerLost, true, None));
    let call = MessageDraft { tool_call_id: Some("call-1".to_owned()), ..world.draft(MessageRole::ToolCall, "call") };
    command.artifacts.push(artifact("call"));
    command.messages.insert(0, call);
    let events = world.run(&Command::Report(Box::new(command))).unwrap();
    let pending = events.iter().find_map(|event| match event {
        Event::RunStalled { pending_tool_call_ids, .. } => Some(pending_tool_call_ids.as_slice()),
        _ => None,
    });
    assert_eq!(pending, Some(&["call-1".to_owned()][..]));
}

#[test]
fn a_tool_called_before_an_approval_still_stalls_after_it() {
    let mut world = World::new();
    let (_, run, epoch) = executing(&mut world);
    call_a_tool(&mut world, run, epoch);
    let mut command =
        world.report_command(run, epoch, AttemptResult::AwaitingApproval { approval_id: "a1".to_owned() });
    command.report_no = 1;
    world.run(&Command::Report(Box::new(command))).unwrap();
    decide(&mut world, run, Decision::Approve).unwrap();
    world.claim(run);
    world.advance(ATTEMPT_LEASE_MS as i64);
    assert_eq!(world.job_state(run), JobState::Stalled);
}

#[test]
fn an_interrupt_stops_the_current_run_and_goes_first() {
    let mut world = World::new();
    let (session, run, epoch) = executing(&mut world);
    let waiting = world.submit(session);
    let mut command = world.submit_command(Some(session));
    command.on_busy = OnBusy::Interrupt;
    let urgent = world.submit_with(command);
    world.report(run, epoch, AttemptResult::Stopped { stop: Stop::Cancel }).unwrap();
    assert_eq!(world.job_state(run), JobState::Cancelled);
    assert!(world.settled(run).status.cancel.unwrap().reason.contains(&urgent.to_string()));
    assert_eq!((world.job_state(urgent), world.job_state(waiting)), (JobState::Dispatched, JobState::Queued));
}

#[test]
fn a_replacing_run_cancels_a_thousand_that_wait_within_the_bound_of_a_turn() {
    let mut world = World::new();
    let (session, run, _) = executing(&mut world);
    let waiting: Vec<RunId> = (0..999).map(|_| world.submit(session)).collect();
    let mut command = world.submit_command(Some(session));
    command.on_busy = OnBusy::ReplaceQueued;
    let newest = world.submit_with(command);
    assert!(waiting.iter().all(|run| world.job_state(*run) == JobState::Cancelled));
    assert_eq!((world.job_state(run), world.job_state(newest)), (JobState::Running, JobState::Queued));
}

#[test]
fn a_pause_that_interrupts_cancels_the_executing_run() {
    let mut world = World::new();
    let (session_id, run, epoch) = executing(&mut world);
    let pause = PauseSession { session_id, paused: true, interrupt: true, actor: actor(), reason: "stop".to_owned() };
    world.run(&Command::Pause(pause)).unwrap();
    world.report(run, epoch, AttemptResult::Stopped { stop: Stop::Cancel }).unwrap();
    assert_eq!((world.job_state(run), world.session_state(session_id)), (JobState::Cancelled, SessionState::Paused));
}

#[test]
fn a_run_is_given_up_in_the_queue_and_at_its_deadline() {
    let mut world = World::new();
    let (session, _, _) = executing(&mut world);
    let mut command = world.submit_command(Some(session));
    command.queue_timeout_ms = Some(1_000);
    let impatient = world.submit_with(command);
    let mut command = world.submit_command(Some(session));
    command.deadline = Some(world.now.plus_millis(2_000));
    let late = world.submit_with(command);
    let mut command = world.submit_command(Some(session));
    command.deadline = Some(world.now);
    let refused = world.run(&Command::Submit(Box::new(command))).unwrap_err();
    assert_eq!(refused.details["path"], "deadline");
    world.advance(1_000);
    assert_eq!(world.settled(impatient).status.error.unwrap().code, "queue_timeout");
    world.advance(1_000);
    assert_eq!(world.settled(late).status.error.unwrap().code, "deadline_exceeded");
}

/// What holds a fresh run of the model now.
fn held(world: &mut World, model_id: &str) -> WaitReason {
    let session = world.create(model_id);
    let run = world.submit(session);
    let live = world.state.run(run).cloned();
    let reason = live.map_or(WaitReason::None, |run| world.state.wait_reason(&run, &world.hints, world.now));
    world.cancel(CancelTarget::Run(run));
    reason
}

#[test]
fn a_refusal_holds_the_whole_model_for_as_long_as_the_provider_asks() {
    let mut world = World::new();
    let (_, run, epoch) = executing(&mut world);
    world.report(run, epoch, failed(ErrorClass::RateLimit, true, Some(20_000))).unwrap();
    assert_eq!(held(&mut world, "echo/a"), WaitReason::CoolDown);
    assert_eq!(held(&mut world, "echo/b"), WaitReason::None, "another model of the provider goes on");
    world.advance(19_999);
    assert_eq!(held(&mut world, "echo/a"), WaitReason::CoolDown);
    world.advance(1);
    // The run itself goes ahead alone; after its success the rest follows.
    assert_eq!(world.job_state(run), JobState::Dispatched);
    assert_eq!(held(&mut world, "echo/a"), WaitReason::CoolDown);
    let epoch = world.claim(run);
    world.complete(run, epoch);
    assert_eq!(held(&mut world, "echo/a"), WaitReason::None);
}

#[test]
fn server_errors_in_a_row_hold_the_provider_and_a_failed_probe_holds_it_longer() {
    let mut world = World::new();
    let fail = |world: &mut World, model_id: &str| {
        let session = world.create(model_id);
        let mut command = world.submit_command(Some(session));
        command.max_retries = 0;
        let run = world.submit_with(command);
        let epoch = world.claim(run);
        world.report(run, epoch, failed(ErrorClass::Server, true, None)).unwrap();
    };
    for n in 0..COOL_DOWN_AFTER {
        assert_eq!(held(&mut world, "echo/b"), WaitReason::None, "after {n}");
        fail(&mut world, "echo/a");
    }
    assert_eq!(held(&mut world, "echo/b"), WaitReason::CoolDown);
    assert_eq!(held(&mut world, "other/c"), WaitReason::None);
    world.advance(1_000);
    fail(&mut world, "echo/a");
    world.advance(1_999);
    assert_eq!(held(&mut world, "echo/b"), WaitReason::CoolDown);
    world.advance(1);
    assert_eq!(held(&mut world, "echo/b"), WaitReason::None);
}

/// A run of the model that executes.
fn begin(world: &mut World, model_id: &str) -> (RunId, Epoch) {
    let session = world.create(model_id);
    let mut command = world.submit_command(Some(session));
    command.max_retries = 0;
    let run = world.submit_with(command);
    let epoch = world.claim(run);
    (run, epoch)
}

#[test]
fn a_server_error_that_says_when_to_come_back_holds_the_provider_until_then() {
    let mut world = World::new();
    let (run, epoch) = begin(&mut world, "echo/a");
    world.report(run, epoch, failed(ErrorClass::Server, true, Some(30_000))).unwrap();
    assert_eq!(held(&mut world, "echo/b"), WaitReason::CoolDown);
    // One that says nothing opens nothing.
    world.advance(29_999);
    assert_eq!(held(&mut world, "echo/b"), WaitReason::CoolDown);
    world.advance(1);
    let (run, epoch) = begin(&mut world, "echo/b");
    world.report(run, epoch, failed(ErrorClass::Server, true, None)).unwrap();
    let (probe, epoch) = begin(&mut world, "echo/a");
    assert_eq!(held(&mut world, "echo/b"), WaitReason::CoolDown, "one goes ahead, as before");
    world.complete(probe, epoch);
    assert_eq!(held(&mut world, "echo/b"), WaitReason::None);
}

#[test]
fn calls_from_before_a_cool_down_neither_end_it_nor_stand_in_its_way() {
    let mut world = World::new();
    world.set_limits(Limits { per_model: 8, per_provider: 8, ..Limits::default() });
    let old: Vec<_> = (0..3).map(|_| begin(&mut world, "echo/a")).collect();
    let (run, epoch) = begin(&mut world, "echo/a");
    world.report(run, epoch, failed(ErrorClass::RateLimit, true, Some(10_000))).unwrap();
    world.advance(10_000);
    let (run, epoch) = old[0];
    world.complete(run, epoch);
    let (probe, epoch) = begin(&mut world, "echo/a");
    assert_eq!(held(&mut world, "echo/a"), WaitReason::CoolDown, "only one tries it out");
    let explained = {
        let session = world.create("echo/a");
        let run = world.submit(session);
        world.state.explain(world.state.run(run).unwrap(), &world.hints, world.now)
    };
    let [hold] = &explained.holds[..] else { panic!("{explained:?}") };
    assert_eq!((hold.name.as_str(), hold.limit, hold.level), ("model:echo/a", Some(1), Some(1)));
    assert_eq!(hold.holders.iter().map(|holder| holder.run_id).collect::<Vec<_>>(), [probe]);
    // An answer without a call proves nothing.
    let mut command = world.report_command(probe, epoch, AttemptResult::Completed { finish: Finish::Budget });
    let outcome = command.outcome.as_mut().unwrap();
    (outcome.usage, outcome.first_token_after_ms) = (Usage::default(), None);
    world.run(&Command::Report(Box::new(command))).unwrap();
    let waiting = world.state.dispatched().map(|run| run.record.run_id).collect::<Vec<_>>();
    assert_eq!(waiting.len(), 1, "the next tries it out alone");
    let epoch = world.claim(waiting[0]);
    world.complete(waiting[0], epoch);
    begin(&mut world, "echo/a");
    begin(&mut world, "echo/a");
    assert_eq!(held(&mut world, "echo/a"), WaitReason::CoolDown, "and then two");
}

#[test]
fn an_attempt_that_stops_by_itself_at_the_deadline_has_missed_the_deadline() {
    for (deadline_ms, code) in [(20_000, "deadline_exceeded"), (200_000, "timeout")] {
        let mut world = World::new();
        let session = world.create("echo/a");
        let mut command = world.submit_command(Some(session));
        (command.deadline, command.max_retries) = (Some(world.now.plus_millis(deadline_ms)), 0);
        let run = world.submit_with(command);
        let epoch = world.claim(run);
        world.report(run, epoch, AttemptResult::Stopped { stop: Stop::Timeout }).unwrap();
        assert_eq!(world.settled(run).status.error.unwrap().code, code);
    }
}

#[test]
fn a_budget_of_a_session_warns_at_once_and_ends_with_it() {
    let mut world = World::new();
    let (session, run, epoch) = executing(&mut world);
    world.complete(run, epoch);
    let set = |tokens| {
        let owner = BudgetOwner::Session(session);
        Command::SetBudget(crate::SetBudget { owner, tokens, usd: None, actor: actor() })
    };
    // 7 are used.
    let events = world.run(&set(Some(8))).unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::BudgetWarned { current_value: 7, .. })), "{events:?}");
    world.run(&set(Some(u64::MAX))).unwrap();
    let (actor, reason) = (actor(), String::new());
    let end = EndSession { session_id: session, end: SessionState::Completed, cancel_runs: false, actor, reason };
    world.run(&Command::End(end)).unwrap();
    assert!(world.run(&set(Some(u64::MAX))).unwrap().is_empty(), "as it is");
    assert_eq!(world.run(&set(None)).unwrap_err().code, ErrorCode::SessionTerminal);
}

#[test]
fn a_budget_warns_once_and_then_holds() {
    let mut world = World::new();
    let mut command = world.create_command(Mode::SessionPersistent, "echo/a");
    command.session.fields.wp_id = Some("wp".to_owned());
    let session = command.session.session_id;
    world.run(&Command::Create(Box::new(command))).unwrap();
    let owner = BudgetOwner::WorkPacket("wp".to_owned());
    let set = crate::SetBudget { owner, tokens: Some(1_000), usd: None, actor: actor() };
    world.run(&Command::SetBudget(set)).unwrap();
    let run_of = |world: &mut World, used: u64| {
        let mut command = world.submit_command(Some(session));
        command.estimated_tokens = Some(300);
        let run = world.submit_with(command);
        if world.job_state(run) != JobState::Dispatched {
            return world.state.wait_reason(world.state.run(run).unwrap(), &world.hints, world.now);
        }
        let epoch = world.claim(run);
        let mut command = world.report_command(run, epoch, AttemptResult::Completed { finish: Finish::Stop });
        command.outcome.as_mut().unwrap().usage = Usage { input_tokens: used, ..Usage::default() };
        world.run(&Command::Report(Box::new(command))).unwrap();
        WaitReason::None
    };
    for used in [500, 200, 110] {
        assert_eq!(run_of(&mut world, used), WaitReason::None, "{used}");
    }
    assert_eq!(run_of(&mut world, 0), WaitReason::Budget, "190 are left, and 300 needed");
    let warnings = world.journal.iter().filter_map(|(_, event)| match event {
        Event::BudgetWarned { current_value, threshold_value, .. } => Some((*current_value, *threshold_value)),
        _ => None,
    });
    assert_eq!(warnings.collect::<Vec<_>>(), [(810, 800)]);
}

#[test]
fn a_budget_of_two_sessions_that_change_together_warns_once() {
    let mut world = World::new();
    let owner = BudgetOwner::WorkPacket("wp".to_owned());
    for _ in 0..2 {
        let mut command = world.create_command(Mode::SessionPersistent, "echo/a");
        command.session.fields.wp_id = Some("wp".to_owned());
        let session = command.session.session_id;
        world.run(&Command::Create(Box::new(command))).unwrap();
        let run = world.submit(session);
        let epoch = world.claim(run);
        world.complete(run, epoch);
        let mut waits = world.submit_command(Some(session));
        (waits.not_before, waits.cancellation_token) = (Some(world.now.plus_millis(1_000)), Some("token".to_owned()));
        world.submit_with(waits);
    }
    // All of it is used.
    let used = world.state.work_packet_budget("wp").lines().0.used;
    let set = crate::SetBudget { owner: owner.clone(), tokens: Some(used), usd: None, actor: actor() };
    world.run(&Command::SetBudget(set)).unwrap();
    let events = world.cancel(CancelTarget::Token("token".to_owned()));
    let settled = events.iter().filter(|event| matches!(event, Event::RunSettled { .. })).count();
    let warned: Vec<_> = events.iter().filter(|event| matches!(event, Event::BudgetWarned { .. })).collect();
    assert_eq!((settled, warned.len()), (2, 1), "{events:?}");
}
