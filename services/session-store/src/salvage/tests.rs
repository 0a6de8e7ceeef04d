#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! A view made from a journal that is then cut: what was salvaged gives it back.

use std::collections::BTreeSet;

use laneway_contract::{Event, Fingerprint, JobState, MessageRecord, MessageRole, RunRecord, SessionState};
use laneway_journal::{Body, Committed, Turn};
use tempfile::TempDir;

use super::{Salvage, SalvageError, Salvaged, look};
use crate::testing::{
    World, appended, artifact, at, changed, claimed, created, message, produced, run, run_id, session, session_id,
    stored,
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
    assert_eq!(found.lost, [run_id(9)].into(), "nobody knows what it was to do");
    assert!(found.with_input.is_empty(), "its input is in no thread");
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
fn a_lost_run_whose_input_is_in_the_thread_is_told_apart() {
    let mut world = before();
    let kept = world.journal.len();
    let [content, input] = appended(MessageRecord { run_id: Some(run_id(8)), ..user(2, "again") }, "again");
    world.commit(vec![queued(run(1, 8, JobState::Queued)), content, input, claimed(1, 8, 1, 5, 2)]);
    world.commit(vec![claimed(2, 9, 1, 6, 0)]);
    let (found, ..) = salvage(world, kept);
    let found = found.unwrap();
    assert_eq!((found.messages, found.lost), (1, [run_id(8), run_id(9)].into()));
    assert_eq!(found.with_input, [run_id(8)].into());
}

fn user(seq: u64, content: &str) -> MessageRecord {
    message(1, seq, MessageRole::User, content)
}

/// Salvages from a view of which a power loss has kept these entries alone, behind what the journal keeps.
fn torn(tables: &[Space], events: Vec<Event>) -> Salvaged {
    let mut world = before();
    let kept = world.journal.len();
    world.writer().sync().unwrap();
    let earlier: BTreeSet<_> = world.dump().into_iter().collect();
    world.commit(events);
    for (space, key, _) in world.dump().into_iter().filter(|entry| !earlier.contains(entry)) {
        let Some(lost) = Space::ALL.iter().find(|lost| lost.name() == space && !tables.contains(lost)) else {
            continue;
        };
        world.view.lose(*lost, &key);
    }
    let (found, frames, _folder) = salvage(world, kept);
    let found = found.unwrap();
    rebuilt(frames, found.events.clone());
    found
}

#[test]
fn a_key_whose_messages_are_not_on_disk_is_left_out() {
    let [content, second] = appended(user(2, "second"), "second");
    let found = torn(&[Space::AppendKeys, Space::Artifacts], vec![content, second, key(1, "k2", 2, 2)]);
    assert_eq!((found.messages, found.append_keys), (0, 0));
    assert_eq!(found.left_keys, [(session_id(1), "k2".to_owned())].into());
}

#[test]
fn a_thread_comes_back_up_to_a_message_whose_content_is_not_on_disk() {
    let [content, second] = appended(user(2, "second"), "second");
    let events = vec![content, second, appended(user(3, "hello"), "hello")[1].clone()];
    let found = torn(&[Space::Messages], events);
    assert_eq!((found.messages, found.broken), (0, vec![(session_id(1), 2)]));
    let attached = MessageRecord { attachments: vec![artifact("nowhere").id], ..user(2, "hello") };
    let found = torn(&[Space::Messages], appended(attached, "hello").to_vec());
    assert_eq!((found.messages, found.broken), (0, vec![(session_id(1), 2)]), "or its attachment");
}

#[test]
fn what_belongs_to_a_session_that_is_not_on_disk_is_left_out() {
    let [content, first] = appended(message(7, 1, MessageRole::User, "first"), "first");
    let mut events = vec![created(session(7, 20)), content, first, key(7, "k7", 1, 1)];
    events.extend([queued(run(7, 7, JobState::Queued)), settled(run(7, 7, JobState::Completed))]);
    events.push(changed(7, SessionState::Created, SessionState::Idle, 21));
    let tables = [Space::Messages, Space::Artifacts, Space::AppendKeys, Space::Runs, Space::RunIndex, Space::Statuses];
    let found = torn(&tables, events);
    assert_eq!((found.sessions, found.messages, found.append_keys, found.runs, found.artifacts), (0, 0, 0, 0, 1));
    assert_eq!(found.without_session, [session_id(7)].into());
    assert_eq!(found.left_runs, [run_id(7)].into());
    assert_eq!(found.left_keys, [(session_id(7), "k7".to_owned())].into());
}

#[test]
fn the_input_of_a_run_that_still_waits_is_left_to_its_claim() {
    let [content, input] = appended(MessageRecord { run_id: Some(run_id(2)), ..user(2, "more") }, "more");
    let found = torn(&[Space::Messages, Space::Artifacts], vec![content, input, claimed(1, 2, 1, 5, 2)]);
    assert_eq!((found.messages, found.broken), (0, vec![(session_id(1), 2)]), "its claim is not on disk");
    assert!(found.resumed.is_empty() && found.lost.is_empty());
}

#[test]
fn what_lies_behind_the_position_of_a_view_is_found() {
    let mut world = before();
    let (kept, position) = (world.journal.len(), world.view.applied());
    after(&mut world);
    let held = world.dump();
    world.writer.goes_back(position);
    let (found, frames, _folder) = salvage(world, kept);
    let rebuilt = rebuilt(frames, found.unwrap().events);
    assert_eq!(rebuilt, held);
}

#[test]
fn a_view_that_is_older_than_the_journal_takes_nothing_back() {
    let mut world = before();
    world.commit(vec![claimed(2, 9, 1, 6, 0)]);
    let (frames, position) = (world.journal.clone(), world.view.applied());
    let mut longer = before();
    longer.commit(vec![claimed(2, 9, 1, 6, 0)]);
    after(&mut longer);
    longer.commit(vec![settled(run(2, 9, JobState::Completed))]);
    assert_eq!((&longer.journal[..frames.len()], position), (&frames[..], frames.last().unwrap().position));
    world.writer().sync().unwrap();
    let (folder, scratch) = (world.close(), tempfile::tempdir().unwrap());
    let mut salvage = Salvage::open(folder.path(), scratch.path()).unwrap();
    salvage.keep(&longer.journal).unwrap();
    assert_eq!(salvage.find(at(1_000)).unwrap(), Salvaged::default());
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
