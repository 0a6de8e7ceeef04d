//! The view stays what the journal says, also when frames come again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use fjall::{Database, KeyspaceCreateOptions};
use laneway_contract::{Event, Fingerprint, JobState, MessageRole, SessionState};

use super::*;
use crate::testing::*;

/// A life of two sessions, a frame for each step.
fn lived() -> World {
    let mut world = World::new();
    world.commit(vec![created(session(1, 10)), created(session(2, 20))]);
    let [content, said] = appended(message(1, 1, MessageRole::User, "hello"), "hello");
    let key = Event::AppendKeyTaken {
        session_id: session_id(1),
        key: "k1".to_owned(),
        fingerprint: Fingerprint(9),
        first_seq: 1,
        last_seq: 1,
    };
    world.commit(vec![content, said, key]);
    for round in 0..3 {
        let from = if round == 0 { SessionState::Created } else { SessionState::Idle };
        world.commit(vec![claimed(1, round, 1, 1, 1), changed(1, from, SessionState::Active, 30)]);
        world.commit(vec![
            settled(run(1, round, JobState::Completed)),
            changed(1, SessionState::Active, SessionState::Idle, 40),
        ]);
    }
    world.commit(vec![changed(2, SessionState::Created, SessionState::Paused, 50)]);
    world.commit(vec![touched(1, SessionState::Idle, 40, 9)]);
    world
}

fn states(world: &World, n: u128) -> Vec<&'static str> {
    let moment = Moment::new(at(n as i64 * 10), session_id(n));
    let reading = world.read();
    let listed = |state: &&SessionState| reading.has(Space::SessionIndex, IndexKey::State(**state).at(moment)).unwrap();
    SessionState::ALL.iter().filter(listed).map(|state| state.as_str()).collect()
}

#[test]
fn a_replay_from_the_synced_position_ends_in_the_same_view() {
    let whole = lived();
    for synced_at in 0..=whole.journal.len() {
        let mut world = World::new();
        world.journal.clone_from(&whole.journal);
        if synced_at >= 2 {
            let frames = world.journal[2..synced_at].to_vec();
            world.writer().apply(&frames).unwrap();
            world.writer().sync().unwrap();
        }
        // All of it is applied and visible; then the process dies, and only the synced position counts.
        world.apply();
        world = world.reopened();
        assert_eq!(world.view.applied().number, if synced_at >= 2 { synced_at as u64 } else { 0 });
        world.apply();
        assert_eq!(world.dump(), whole.dump(), "synced at {synced_at}");
    }
}

#[test]
fn one_batch_and_many_give_the_same_view() {
    let whole = lived();
    let mut world = World::new();
    world.journal.clone_from(&whole.journal);
    world.apply();
    assert_eq!(world.dump(), whole.dump());
}

#[test]
fn a_session_is_listed_under_one_state_only() {
    let mut world = lived();
    assert_eq!((states(&world, 1), states(&world, 2)), (vec!["IDLE"], vec!["PAUSED"]));
    // While a replay passes old states again, it takes them back again.
    world = world.reopened();
    for frame in world.journal.clone() {
        world.writer().apply(&[frame]).unwrap();
    }
    assert_eq!((states(&world, 1), states(&world, 2)), (vec!["IDLE"], vec!["PAUSED"]));
}

#[test]
fn new_totals_leave_a_session_where_it_is_listed() {
    let mut world = lived();
    let status = |world: &World| {
        let value = world.read().value(Space::Statuses, session_key(session_id(1))).unwrap().unwrap();
        decode::<laneway_contract::SessionStatus>(Space::Statuses, &value).unwrap()
    };
    let before = status(&world);
    assert_eq!((before.state, before.total_tokens), (SessionState::Idle, 9));
    world.commit(vec![touched(1, SessionState::Idle, 40, 30)]);
    assert_eq!(status(&world), laneway_contract::SessionStatus { total_tokens: 30, ..before });
    assert_eq!(states(&world, 1), ["IDLE"]);
}

#[test]
fn readers_see_whole_frames_at_one_position() {
    let mut world = lived();
    let before = world.read();
    world.commit(vec![created(session(3, 30))]);
    assert_eq!(before.position.number + 1, world.read().position.number);
    assert!(before.creation(session_id(3)).unwrap().is_none());
    assert!(world.read().creation(session_id(3)).unwrap().is_some());
}

#[test]
fn frames_that_do_not_follow_are_refused() {
    let mut world = lived();
    let frames = world.journal.clone();
    let last = frames.len() - 1;
    let check = |world: &mut World, frame: Committed<Event>, what: &str| {
        let before = world.dump();
        assert!(matches!(world.writer().apply(&[frame]), Err(ViewError::Gap { .. })), "{what}");
        assert_eq!(world.dump(), before, "{what}");
    };
    check(&mut world, frames[last].clone(), "the last frame again");
    check(&mut world, frames[0].clone(), "the first frame again");
    world.frame(Body::Stopped);
    world.frame(Body::Stopped);
    let gap = world.journal.last().unwrap().clone();
    check(&mut world, gap, "a frame left out");
    let mut foreign = world.journal[last + 1].clone();
    foreign.frame.prev = laneway_journal::FrameHash::ZERO;
    check(&mut world, foreign, "another journal");
}

#[test]
fn an_event_of_a_session_that_was_never_made_stops_the_view() {
    let mut world = World::new();
    let before = world.view.applied();
    let events = vec![created(session(1, 10)), changed(8, SessionState::Created, SessionState::Paused, 1)];
    world.frame(Body::Turns(vec![laneway_journal::Turn { at: at(0), events }]));
    let frame = world.journal.last().unwrap().clone();
    assert!(matches!(world.writer().apply(&[frame]), Err(ViewError::Orphan { what: "session", .. })));
    assert_eq!(world.view.applied(), before);
    assert!(world.read().creation(session_id(1)).unwrap().is_none(), "nothing of the frame is there");
}

#[test]
fn the_hash_key_is_there_again_after_a_restart() {
    let mut world = World::new();
    world.writer().sync().unwrap();
    world = world.reopened();
    assert_eq!(world.view.hash_key(), Some(&hash_key()));
}

#[test]
fn a_view_is_open_once() {
    let world = World::new();
    assert!(matches!(View::open(world.folder.path()), Err(ViewError::InUse(_))));
}

#[test]
fn another_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::builder(folder.path()).open().unwrap();
    let meta = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    meta.insert(keys::LAYOUT, [LAYOUT + 1]).unwrap();
    drop((meta, database));
    let Err(error) = View::open(folder.path()) else { panic!("opened") };
    assert!(matches!(error, ViewError::OtherLayout { found, .. } if found == LAYOUT + 1), "{error}");
}

#[test]
fn keys_sort_as_they_are_read() {
    let moments = [(-5, 9), (-1, 1), (0, 2), (1, 1), (1, 2), (300, 1)];
    let keys: Vec<_> = moments
        .iter()
        .map(|(at, id)| Moment::new(laneway_contract::Timestamp::from_millis(*at), session_id(*id)))
        .collect();
    assert!(keys.is_sorted());
    let label = |name, value| IndexKey::Label(name, value).at(Moment::FIRST);
    assert_ne!(label("ab", "c"), label("a", "bc"));
    assert_eq!(Moment::of_key(&label("a", "b")), Some(Moment::FIRST));
    assert!(message_key(session_id(1), 255) < message_key(session_id(1), 256));
}
