//! Sessions and their threads.

use laneway_contract::*;

use super::world::*;
use crate::*;

fn append(world: &mut World, session_id: SessionId, key: &str, print: u128) -> Append {
    Append {
        session_id,
        messages: vec![world.draft(MessageRole::User, key)],
        artifacts: vec![artifact(key)],
        key: key.to_owned(),
        fingerprint: Fingerprint(print),
        expected_tail: None,
    }
}

fn refused(world: &mut World, command: &Command) -> ErrorCode {
    world.run(command).unwrap_err().code
}

#[test]
fn seqs_are_dense_and_a_repeat_appends_nothing() {
    let mut world = World::new();
    let session = world.create("echo/a");
    for n in 0..5_u128 {
        let command = append(&mut world, session, &format!("k{n}"), n);
        assert!(!world.run(&Command::Append(Box::new(command.clone()))).unwrap().is_empty());
        assert!(world.run(&Command::Append(Box::new(command))).unwrap().is_empty());
    }
    let seqs: Vec<u64> = world.thread(session).iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[test]
fn several_messages_of_one_request_follow_each_other() {
    let mut world = World::new();
    let mut command = world.create_command(Mode::SessionPersistent, "echo/a");
    command.session.messages = vec![world.draft(MessageRole::System, "be kind"), world.draft(MessageRole::User, "hi")];
    let session = command.session.session_id;
    world.run(&Command::Create(Box::new(command))).unwrap();
    let mut several = append(&mut world, session, "k", 1);
    several.messages.push(world.draft(MessageRole::User, "and"));
    world.run(&Command::Append(Box::new(several))).unwrap();
    let seqs: Vec<u64> = world.thread(session).iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    let taken = world.state.session(session).unwrap().keys["k"];
    assert_eq!((taken.first_seq, taken.last_seq), (3, 4));
}

#[test]
fn the_same_key_with_other_content_is_a_conflict() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let first = append(&mut world, session, "k", 1);
    world.run(&Command::Append(Box::new(first))).unwrap();
    let other = append(&mut world, session, "k", 2);
    assert_eq!(refused(&mut world, &Command::Append(Box::new(other))), ErrorCode::IdempotencyConflict);
}

#[test]
fn appends_are_refused_with_their_codes() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let mut wrong_tail = append(&mut world, session, "a", 1);
    wrong_tail.expected_tail = Some(3);
    assert_eq!(refused(&mut world, &Command::Append(Box::new(wrong_tail))), ErrorCode::TailMismatch);
    let mut assistant = append(&mut world, session, "b", 1);
    assistant.messages[0].role = MessageRole::Assistant;
    assert_eq!(refused(&mut world, &Command::Append(Box::new(assistant))), ErrorCode::RoleForbidden);
    let mut empty = append(&mut world, session, "c", 1);
    empty.messages.clear();
    assert_eq!(refused(&mut world, &Command::Append(Box::new(empty))), ErrorCode::BadRequest);
    let nowhere = append(&mut world, SessionId::from_uuid(uuid::Uuid::from_u128(999)), "d", 1);
    assert_eq!(refused(&mut world, &Command::Append(Box::new(nowhere))), ErrorCode::NotFound);
}

#[test]
fn creating_again_is_a_repeat_a_conflict_or_an_attempt_on_the_memory_policy() {
    let mut world = World::new();
    let command = world.create_command(Mode::SessionPersistent, "echo/a");
    assert!(!world.run(&Command::Create(Box::new(command.clone()))).unwrap().is_empty());
    assert!(world.run(&Command::Create(Box::new(command.clone()))).unwrap().is_empty());
    let mut other = command.clone();
    other.fingerprint = Fingerprint(9);
    assert_eq!(refused(&mut world, &Command::Create(Box::new(other.clone()))), ErrorCode::IdempotencyConflict);
    other.session.fields.memory_policy = MemoryPolicy::WorkspaceScoped;
    assert_eq!(refused(&mut world, &Command::Create(Box::new(other))), ErrorCode::MemoryPolicyImmutable);
}

#[test]
fn ten_inputs_submitted_at_once_read_as_question_and_answer() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let runs: Vec<RunId> = (0..10).map(|_| world.submit(session)).collect();
    for run in &runs {
        let epoch = world.claim(*run);
        world.complete(*run, epoch);
    }
    let thread = world.thread(session);
    let roles: Vec<MessageRole> = thread.iter().map(|message| message.role).collect();
    assert_eq!(roles, [MessageRole::User, MessageRole::Assistant].repeat(10));
    let order: Vec<RunId> = thread.iter().step_by(2).filter_map(|message| message.run_id).collect();
    assert_eq!(order, runs);
}

#[test]
fn a_message_appended_while_a_run_executes_is_in_the_next_window_and_starts_no_run() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let run = world.submit(session);
    let epoch = world.claim(run);
    let extra = append(&mut world, session, "extra", 1);
    let events = world.run(&Command::Append(Box::new(extra))).unwrap();
    assert!(!events.iter().any(|event| matches!(event, Event::RunQueued { .. })));
    world.complete(run, epoch);
    let next = world.submit(session);
    world.claim(next);
    assert_eq!(world.state.run(run).map(|run| run.upto_seq), None);
    assert_eq!(world.state.run(next).unwrap().upto_seq, Some(4), "question, extra, answer, question");
}

#[test]
fn a_run_cancelled_while_queued_leaves_nothing_in_the_thread() {
    let mut world = World::new();
    let session = world.create("echo/a");
    let first = world.submit(session);
    let second = world.submit(session);
    world.cancel(CancelTarget::Run(second));
    let epoch = world.claim(first);
    world.complete(first, epoch);
    assert_eq!(world.job_state(second), JobState::Cancelled);
    assert_eq!(world.thread(session).len(), 2);
}
