//! What memory gives up, and how it comes back.

use laneway_contract::*;

use super::replica;
use super::world::*;
use crate::SetBudget;
use crate::*;

fn append(world: &mut World, session_id: SessionId, key: &str, print: u128) -> Command {
    let messages = vec![world.draft(MessageRole::User, key)];
    Command::Append(Box::new(Append {
        session_id,
        messages,
        artifacts: vec![artifact(key)],
        key: key.to_owned(),
        fingerprint: Fingerprint(print),
        expected_tail: None,
    }))
}

fn pause(session_id: SessionId, paused: bool) -> Command {
    let (actor, reason) = (actor(), "lunch".to_owned());
    Command::Pause(PauseSession { session_id, paused, interrupt: false, actor, reason })
}

fn end(session_id: SessionId, end: SessionState) -> Command {
    Command::End(EndSession { session_id, end, cancel_runs: false, actor: actor(), reason: "done".to_owned() })
}

fn budget(session_id: SessionId, tokens: u64) -> Command {
    let owner = BudgetOwner::Session(session_id);
    Command::SetBudget(SetBudget { owner, tokens: Some(tokens), usd: None, actor: actor() })
}

fn cancel(session_id: SessionId) -> Command {
    Command::Cancel(Cancel {
        target: CancelTarget::Session(session_id),
        submitted_before: None,
        actor: actor(),
        reason: "enough".to_owned(),
    })
}

/// A session with two messages, a key, a budget of which 7 tokens are used, and nothing that goes on.
fn lived(world: &mut World) -> SessionId {
    let mut create = world.create_command(Mode::SessionPersistent, "echo/a");
    create.session.fields.budget_tokens = Some(1_000);
    let id = create.session.session_id;
    world.run(&Command::Create(Box::new(create))).unwrap();
    let run = world.submit(id);
    let epoch = world.claim(run);
    world.complete(run, epoch);
    let command = append(world, id, "k", 1);
    world.run(&command).unwrap();
    id
}

/// Nothing is asked, and the answer is that somebody has to be.
fn refused_undecided(world: &World, command: &Command) -> Question {
    assert_eq!(world.state.decide(command, world.now).unwrap_err().code, ErrorCode::Unavailable, "{command:?}");
    world.state.needs_read(command, &[]).expect("a question")
}

#[test]
fn a_session_without_a_live_run_is_held_for_ten_minutes_after_its_last_change() {
    let mut world = World::new();
    let session = lived(&mut world);
    world.advance(599_000);
    let again = append(&mut world, session, "k2", 2);
    world.run(&again).unwrap();
    world.advance(600_999);
    assert!(world.state.session(session).is_some());
    assert_eq!(world.state.next_deadline(&world.hints, world.now), Some(world.now.plus_millis(1)));
    world.advance(1);
    assert!(world.state.session(session).is_none());
}

#[test]
fn of_too_many_sessions_those_go_that_changed_least_recently() {
    let mut world = World::new();
    world.hints.memory.sessions = 10;
    let sessions: Vec<SessionId> = (0..10)
        .map(|_| {
            world.advance(1);
            world.create("echo/a")
        })
        .collect();
    world.advance(1);
    let touched = append(&mut world, sessions[0], "k", 1);
    world.run(&touched).unwrap();
    let eleventh = world.create("echo/a");
    assert!(
        world.state.session(eleventh).is_some(),
        "the turn of a command gives nothing up: its answer is made of it"
    );
    world.tick();
    let held: Vec<bool> = sessions.iter().map(|id| world.state.session(*id).is_some()).collect();
    assert_eq!(held, [true, false, false, true, true, true, true, true, true, true]);
    assert!(world.state.session(eleventh).is_some());
    assert_eq!((world.state.live_session_count(), world.state.held_session_count()), (11, 9));
}

#[test]
fn the_turn_of_a_command_gives_nothing_up_since_its_answer_is_made_of_what_memory_holds() {
    let mut world = World::new();
    world.hints.memory.sessions = 0;
    let session = world.create("echo/a");
    assert!(world.state.session(session).is_some());
    world.tick();
    assert!(world.state.session(session).is_none());
}

#[test]
fn a_session_with_a_live_run_is_held() {
    let mut world = World::new();
    let (queued, running, parked) = (lived(&mut world), lived(&mut world), lived(&mut world));
    let run = world.submit(running);
    world.claim(run);
    let run = world.submit(parked);
    let epoch = world.claim(run);
    world.report(run, epoch, AttemptResult::AwaitingApproval { approval_id: "a".to_owned() }).unwrap();
    let mut later = world.submit_command(Some(queued));
    later.not_before = Some(world.now.plus_millis(86_400_000));
    world.submit_with(later);
    world.give_up_all();
    for id in [queued, running, parked] {
        assert!(world.state.session(id).is_some());
    }
}

#[test]
fn every_command_about_a_session_that_was_given_up_asks_first_and_then_does_what_it_would_have_done() {
    let check = |command: &dyn Fn(&mut World, SessionId) -> Command| {
        let (mut world, mut twin) = (World::new(), World::new());
        let id = lived(&mut world);
        assert_eq!(lived(&mut twin), id);
        world.give_up_all();
        let (asked, same) = (command(&mut world, id), command(&mut twin, id));
        assert_eq!(refused_undecided(&world, &asked).session_id, id);
        let (result, expected) = (world.run(&asked), twin.run(&same));
        assert_eq!(result, expected, "{asked:?}");
        assert_eq!(world.state.session(id).map(Session::record), twin.state.session(id).map(Session::record));
        assert_eq!(world.state.session_budget(id), twin.state.session_budget(id));
    };
    check(&|world, id| append(world, id, "new", 5));
    check(&|world, id| append(world, id, "k", 1));
    check(&|world, id| append(world, id, "k", 2));
    check(&|world, id| Command::Submit(Box::new(world.submit_command(Some(id)))));
    check(&|_, id| pause(id, true));
    check(&|_, id| pause(id, false));
    check(&|_, id| end(id, SessionState::Completed));
    check(&|_, id| budget(id, 7));
    check(&|_, id| budget(id, 1_000));
    check(&|_, id| cancel(id));
    check(&|world, id| {
        let mut create = world.create_command(Mode::SessionPersistent, "echo/a");
        create.session.session_id = id;
        create.session.fields.budget_tokens = Some(1_000);
        Command::Create(Box::new(create))
    });
    check(&|world, id| {
        let mut create = world.create_command(Mode::SessionPersistent, "echo/a");
        create.session.session_id = id;
        create.fingerprint = Fingerprint(99);
        Command::Create(Box::new(create))
    });
    check(&|world, id| {
        let mut create = world.create_command(Mode::SessionPersistent, "echo/a");
        create.session.fields.parent_session_id = Some(id);
        Command::Create(Box::new(create))
    });
}

#[test]
fn a_paused_and_an_ended_session_are_what_they_were() {
    let mut world = World::new();
    let (paused, ended) = (lived(&mut world), lived(&mut world));
    world.run(&pause(paused, true)).unwrap();
    world.run(&end(ended, SessionState::Failed)).unwrap();
    assert_eq!(world.state.live_session_count(), 1);
    world.give_up_all();
    assert_eq!((world.state.live_session_count(), world.state.held_session_count()), (1, 0));
    let run = world.submit(paused);
    assert_eq!((world.session_state(paused), world.job_state(run)), (SessionState::Paused, JobState::Queued));
    let late = append(&mut world, ended, "late", 9);
    assert_eq!(world.run(&late).unwrap_err().code, ErrorCode::SessionTerminal);
    assert!(world.run(&end(ended, SessionState::Failed)).unwrap().is_empty());
    assert_eq!(world.run(&end(ended, SessionState::Completed)).unwrap_err().code, ErrorCode::SessionTerminal);
    assert_eq!(world.state.live_session_count(), 1);
}

#[test]
fn without_an_eviction_nothing_is_asked() {
    let mut world = World::new();
    let nowhere = SessionId::from_uuid(uuid::Uuid::from_u128(999));
    let command = append(&mut world, nowhere, "k", 1);
    assert_eq!(world.state.needs_read(&command, &[]), None);
    assert_eq!(world.run(&command).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn what_never_was_is_not_found_only_by_a_replica_that_knows_of_every_eviction() {
    let mut world = World::new();
    lived(&mut world);
    let before = world.journal.len();
    world.give_up_all();
    let nowhere = SessionId::from_uuid(uuid::Uuid::from_u128(999));
    let command = append(&mut world, nowhere, "k", 1);
    let question = refused_undecided(&world, &command);
    let stale = replica::said(&world.journal[..before], &question);
    assert_eq!(stale.session, SessionSaid::Absent);
    assert_eq!(world.run_with(&command, &[stale]).unwrap_err().code, ErrorCode::Unavailable);
    let said = replica::said(&world.journal, &question);
    assert_eq!(world.run_with(&command, &[said]).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn a_record_that_was_read_before_the_last_eviction_is_refused() {
    let mut world = World::new();
    let session = lived(&mut world);
    world.give_up_all();
    let command = append(&mut world, session, "late", 5);
    let question = refused_undecided(&world, &command);
    let stale = replica::said(&world.journal, &question);
    // Meanwhile it is loaded, changed and given up again.
    let between = append(&mut world, session, "between", 6);
    world.run(&between).unwrap();
    world.give_up_all();
    let SessionSaid::Evicted(old) = stale.session.clone() else { panic!("{stale:?}") };
    let load = Command::Load(Box::new(Load { session: *old, read_at: stale.read_at }));
    assert_eq!(world.run_with(&load, &[]).unwrap_err().code, ErrorCode::Unavailable);
    assert_eq!(world.run_with(&command, &[stale]).unwrap_err().code, ErrorCode::Unavailable);
    world.run(&command).unwrap();
    let seqs: Vec<u64> = world.thread(session).iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[test]
fn a_session_is_loaded_once() {
    let mut world = World::new();
    let session = lived(&mut world);
    world.give_up_all();
    let command = append(&mut world, session, "new", 5);
    let said = replica::said(&world.journal, &refused_undecided(&world, &command));
    let SessionSaid::Evicted(stored) = said.session else { panic!("not given up") };
    let load = Command::Load(Box::new(Load { session: *stored, read_at: said.read_at }));
    assert_eq!(world.run_with(&load, &[]).unwrap().len(), 1);
    let appended = append(&mut world, session, "newer", 6);
    world.run(&appended).unwrap();
    assert!(world.run_with(&load, &[]).unwrap().is_empty(), "memory is newer than any read");
    assert_eq!(world.state.session(session).unwrap().tail, 4);
    assert_eq!(world.state.live_session_count(), 1);
}

#[test]
fn a_key_that_was_given_up_still_answers() {
    let mut world = World::new();
    world.hints.memory.keys = 2;
    let session = world.create("echo/a");
    for n in 0..4_u128 {
        let command = append(&mut world, session, &format!("k{n}"), n);
        world.run(&command).unwrap();
        world.advance(1);
    }
    let held: Vec<&str> = world.state.session(session).unwrap().keys.keys().map(String::as_str).collect();
    assert_eq!(held, ["k2", "k3"]);
    let repeat = append(&mut world, session, "k0", 0);
    assert_eq!(refused_undecided(&world, &repeat).key.as_deref(), Some("k0"));
    assert!(world.run(&repeat).unwrap().is_empty());
    let other = append(&mut world, session, "k0", 7);
    assert_eq!(world.run(&other).unwrap_err().code, ErrorCode::IdempotencyConflict);
    let kept = append(&mut world, session, "k3", 3);
    assert_eq!(world.state.needs_read(&kept, &[]), None, "memory has it");
    assert!(world.run(&kept).unwrap().is_empty());
    let new = append(&mut world, session, "k9", 9);
    assert!(!world.run(&new).unwrap().is_empty());
    assert_eq!(world.thread(session).len(), 5);
}

#[test]
fn what_was_said_of_a_key_before_keys_were_given_up_does_not_count() {
    let mut world = World::new();
    world.hints.memory.keys = 0;
    let session = world.create("echo/a");
    let first = append(&mut world, session, "a", 1);
    world.run(&first).unwrap();
    world.tick();
    let command = append(&mut world, session, "b", 2);
    let absent = replica::said(&world.journal, &refused_undecided(&world, &command));
    assert_eq!(absent.key, KeySaid::Absent);
    world.run(&command).unwrap();
    world.tick();
    assert_eq!(world.run_with(&command, &[absent]).unwrap_err().code, ErrorCode::Unavailable, "taken since");
    assert!(world.run(&command).unwrap().is_empty());
    assert_eq!(world.thread(session).len(), 2);
}

#[test]
fn keys_are_held_for_ten_minutes() {
    let mut world = World::new();
    world.hints.memory.session_ms = 86_400_000;
    let session = lived(&mut world);
    world.advance(600_999);
    assert_eq!(world.state.session(session).unwrap().keys.len(), 1);
    world.advance(1);
    assert!(world.state.session(session).unwrap().keys.is_empty());
}

#[test]
fn a_session_that_never_took_a_key_needs_no_word_about_one() {
    let mut world = World::new();
    let (loaded, other) = (world.create("echo/a"), lived(&mut world));
    world.give_up_all();
    let first = append(&mut world, loaded, "a", 1);
    world.run_with(&first, &[]).unwrap_err();
    world.run(&first).unwrap();
    let second = append(&mut world, loaded, "b", 2);
    assert_eq!(world.state.needs_read(&second, &[]), None);
    assert!(world.state.session(other).is_none());
}

#[test]
fn ended_runs_are_forgotten_by_number_and_by_age() {
    let mut world = World::new();
    world.hints.memory = MemoryLimits { ended_runs: 8, ..MemoryLimits::default() };
    let session = world.create("echo/a");
    let runs: Vec<RunId> = (0..9)
        .map(|_| {
            let run = world.submit(session);
            let epoch = world.claim(run);
            world.complete(run, epoch);
            world.now = world.now.plus_millis(1_000);
            run
        })
        .collect();
    let ended_at = world.state.ended_run(runs[1]).unwrap().ended_at;
    world.tick();
    let known: Vec<bool> = runs.iter().map(|run| world.state.ended_run(*run).is_some()).collect();
    assert_eq!(known, [false, false, true, true, true, true, true, true, true]);
    assert_eq!(world.state.forgotten_until(), Some(ended_at));
    // Whether it ever was only a store replica knows.
    assert!(world.cancel(CancelTarget::Run(runs[0])).is_empty());
    world.advance(86_400_000 + 1_000);
    assert_eq!(world.state.ended_run_count(), 0);
    assert_eq!(world.state.digest(), world.state.full_digest());
}

#[test]
fn a_run_that_is_tried_again_in_a_session_named_after_it_is_not_tried_twice() {
    let mut world = World::new();
    let mut submit = world.submit_command(None);
    submit.retry_of = Some(RunId::from_uuid(uuid::Uuid::from_u128(77)));
    let again = Command::Submit(Box::new(submit.clone()));
    let run = world.submit_with(submit);
    let epoch = world.claim(run);
    world.complete(run, epoch);
    world.hints.memory.ended_runs = 0;
    world.give_up_all();
    assert!(world.state.ended_run(run).is_none());
    refused_undecided(&world, &again);
    assert!(world.run(&again).unwrap().is_empty());
    assert!(world.state.run(run).is_none());
}

#[test]
fn a_child_has_its_root_and_depth_also_when_its_ancestors_were_given_up() {
    let mut world = World::new();
    let root = world.create("echo/a");
    let mut parent = root;
    for _ in 0..2 {
        world.give_up_all();
        let mut create = world.create_command(Mode::SessionPersistent, "echo/a");
        create.session.fields.parent_session_id = Some(parent);
        let child = create.session.session_id;
        world.run(&Command::Create(Box::new(create))).unwrap();
        assert_eq!(world.state.children(parent).collect::<Vec<_>>(), [child]);
        parent = child;
    }
    world.give_up_all();
    assert_eq!(world.state.children(parent).count(), 0);
    let run = world.submit(parent);
    assert!(world.state.session(root).is_none());
    let record = &world.state.run(run).unwrap().record;
    assert_eq!(record.fields.fairness_key, root.to_string());
    assert_eq!(world.state.session(parent).unwrap().creation.fields.spawn_depth, 2);
}
