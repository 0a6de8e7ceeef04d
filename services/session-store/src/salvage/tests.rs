#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! A view made from a journal that is then cut: what was salvaged gives it back.

use laneway_contract::{Event, Fingerprint, JobState, MessageRole, RunRecord, SessionState};
use laneway_journal::{Body, Committed, Turn};
use tempfile::TempDir;

use super::{Salvage, SalvageError, Salvaged, look};
use crate::testing::{
    World, appended, at, changed, claimed, created, message, produced, run, run_id, session, session_id, stored,
};
use crate::view::Space;

type Dump = Vec<(&'static str, Vec<u8>, Vec<u8>)>;

/// A world with two sessions, one of which has a thread, an append under a key and an ended run.
fn before() -> World {
    let mut world = World::new();
    world.commit(vec![created(session(1, 1)), created(session(2, 2))]);
    let [content, first] = appended(message(1, 1, MessageRole::User, "hello"), "hello");
    world.commit(vec![content, first, key(1, "k1", 1, 1)]);
    world.commit(vec![queued(run(1, 1, JobState::Queued)), queued(run(1, 2, JobState::Queued))]);
    world.commit(vec![claimed(1, 1, 1, 1, 1), changed(1, SessionState::Created, SessionState::Active, 5)]);
    world
}

/// What comes after the cut: messages, a new session with a run of its own, the end of the first run, a pause.
fn after(world: &mut World) {
    let answer = produced(message(1, 2, MessageRole::Assistant, "hi there"), 1, 1);
    let mut events = appended(answer, "hi there").to_vec();
    events.push(settled(run(1, 1, JobState::Completed)));
    events.push(changed(1, SessionState::Active, SessionState::Idle, 9));
    world.commit(events);
    world.commit(vec![created(session(3, 10)), queued(run(3, 3, JobState::Queued)), claimed(3, 3, 1, 2, 1)]);
    let [content, note] = appended(message(3, 1, MessageRole::User, "note"), "note");
    world.commit(vec![
        content,
        note,
        key(3, "k2", 1, 1),
        settled(RunRecord { status: ended(2), ..run(3, 3, JobState::Failed) }),
    ]);
    world.commit(vec![changed(3, SessionState::Created, SessionState::Idle, 11), stored("alone")]);
    world.commit(vec![changed(2, SessionState::Created, SessionState::Cancelled, 12)]);
}

fn ended(epoch: u64) -> laneway_contract::RunStatus {
    laneway_contract::RunStatus { epoch, ..run(3, 3, JobState::Failed).status }
}

fn queued(run: RunRecord) -> Event {
    let run =
        RunRecord { status: laneway_contract::RunStatus { attempt: 0, epoch: 0, ended_at: None, ..run.status }, ..run };
    Event::RunQueued {
        run: Box::new(run),
        fingerprint: Fingerprint(3),
        estimate: laneway_contract::Estimate::default(),
    }
}

fn settled(run: RunRecord) -> Event {
    Event::RunSettled { run: Box::new(run), reports: 1, duration_ms: 1, output: None }
}

fn key(n: u128, key: &str, first_seq: u64, last_seq: u64) -> Event {
    let (session_id, fingerprint) = (session_id(n), Fingerprint(7));
    Event::AppendKeyTaken { session_id, key: key.to_owned(), fingerprint, first_seq, last_seq }
}

/// Ends the store, cuts its journal behind `kept` frames, and salvages what is in its folder.
fn salvage(mut world: World, kept: usize) -> (Result<Salvaged, SalvageError>, Vec<Committed<Event>>, TempDir) {
    world.writer().sync().unwrap();
    let frames = world.journal[..kept].to_vec();
    let folder = world.close();
    let scratch = tempfile::tempdir().unwrap();
    let mut salvage = Salvage::open(folder.path(), scratch.path()).unwrap();
    salvage.keep(&frames).unwrap();
    (salvage.find(at(1_000)), frames, folder)
}

/// What a store holds that reads the frames that were kept and then those of the repair.
fn rebuilt(frames: Vec<Committed<Event>>, events: Vec<Event>) -> Dump {
    let mut world = World::empty();
    world.journal = frames;
    world.frame(Body::Turns(vec![Turn { at: at(1_000), events }]));
    world.apply();
    world.dump()
}

#[test]
fn what_was_salvaged_folds_into_what_the_store_held() {
    let mut world = before();
    let kept = world.journal.len();
    after(&mut world);
    let held = world.dump();
    let (found, frames, _folder) = salvage(world, kept);
    let found = found.unwrap();
    assert_eq!((found.sessions, found.messages, found.append_keys, found.runs), (1, 2, 1, 2));
    assert_eq!((found.artifacts, found.resumed.len(), found.lost.len(), found.broken.len()), (3, 0, 0, 0));
    let rebuilt = rebuilt(frames, found.events);
    assert_eq!(rebuilt.len(), held.len());
    for (again, before) in rebuilt.iter().zip(&held) {
        assert_eq!(again, before, "in {}", before.0);
    }
}

#[test]
fn a_journal_of_which_nothing_is_kept_comes_back_whole() {
    let mut world = before();
    after(&mut world);
    let held = world.dump();
    let (found, frames, _folder) = salvage(world, 1);
    let found = found.unwrap();
    assert!(matches!(found.events[0], Event::HashKeyCreated { .. }), "before all that is named by it");
    // The second run only waited: a store does not know of it.
    assert_eq!((found.sessions, found.runs), (3, 2));
    assert_eq!(rebuilt(frames, found.events), held);
}

#[test]
fn a_run_claimed_behind_the_cut_goes_on_as_with_a_lost_worker() {
    let mut world = before();
    let kept = world.journal.len();
    world.commit(vec![settled(run(1, 1, JobState::Completed)), claimed(1, 2, 1, 5, 1)]);
    let [content, input] = appended(message(1, 2, MessageRole::User, "more"), "more");
    world.commit(vec![content, input, claimed(2, 9, 1, 6, 0)]);
    let (found, ..) = salvage(world, kept);
    let found = found.unwrap();
    assert_eq!(found.resumed, [run_id(2)]);
    assert_eq!(found.lost, [(run_id(9), session_id(2))], "nobody knows what it was to do");
    let place = |wanted: &dyn Fn(&Event) -> bool| found.events.iter().position(wanted).unwrap();
    let settled = place(&|event| matches!(event, Event::RunSettled { .. }));
    let again = place(
        &|event| matches!(event, Event::RunClaimed { run_id: found, epoch: 5, upto_seq: 1, .. } if *found == run_id(2)),
    );
    let input = place(&|event| matches!(event, Event::MessageAppended(_)));
    assert!(settled < again && again < input, "one at a time, and its input once: {:?}", found.events);
}

#[test]
fn a_store_that_is_behind_the_cut_has_nothing_to_give() {
    let world = before();
    let kept = world.journal.len();
    let (found, ..) = salvage(world, kept);
    assert_eq!(found.unwrap(), Salvaged::default());
}

#[test]
fn a_store_of_another_journal_is_refused() {
    let mut world = before();
    let kept = world.journal.len();
    // Another message under the same number: it was made from frames that this journal never had.
    let mut other = World::new();
    other.commit(vec![created(session(1, 1)), created(session(2, 2))]);
    let [content, first] = appended(message(1, 1, MessageRole::User, "other"), "other");
    other.commit(vec![content, first]);
    for _ in other.journal.len()..=kept {
        other.commit(Vec::new());
    }
    world.writer().sync().unwrap();
    other.writer().sync().unwrap();
    let frames = world.journal.clone();
    let (folder, scratch) = (other.close(), tempfile::tempdir().unwrap());
    let mut salvage = Salvage::open(folder.path(), scratch.path()).unwrap();
    salvage.keep(&frames).unwrap();
    let refused = salvage.find(at(1_000)).unwrap_err();
    assert!(matches!(refused, SalvageError::OtherJournal { space } if space == Space::Messages.name()), "{refused}");
}

#[test]
fn a_thread_with_a_gap_comes_back_up_to_it() {
    let mut world = before();
    let kept = world.journal.len();
    // As after a power loss: the third message is on disk and the second is not.
    let [content, third] = appended(message(1, 3, MessageRole::User, "third"), "third");
    world.commit(vec![content, third]);
    let (found, ..) = salvage(world, kept);
    let found = found.unwrap();
    assert_eq!((found.messages, found.broken), (0, vec![(session_id(1), 2)]));
}

#[test]
fn a_folder_is_looked_at_without_being_made_or_changed() {
    let mut world = before();
    let applied = world.view.applied();
    world.writer().sync().unwrap();
    let folder = world.close();
    let held = look(folder.path()).unwrap();
    assert_eq!((held.applied, held.synced), (applied, applied));
    assert_eq!(look(folder.path()).unwrap(), held);
    let nothing = tempfile::tempdir().unwrap();
    assert!(look(nothing.path()).is_err());
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
}
