//! Sessions that the leader does not hold.

use laneway_contract::{
    AskStore, Event, Fingerprint, Format, KeyAnswer, KeySaid, ListRegistry, MessageRole, SessionSaid, SessionState,
    StoreQuestion, StoredSession,
};

use crate::testing::*;

fn said(world: &World, n: u128, key: Option<&str>) -> (u64, SessionSaid, KeySaid) {
    let ask = StoreQuestion::Session { session_id: session_id(n), key: key.map(str::to_owned) };
    let said = world.read().ask(&AskStore { min_seq: 0, ask }, Format::MessagePack).unwrap().said.unwrap();
    assert_eq!(said.session_id, session_id(n));
    (said.read_at, said.session, said.key)
}

fn kept(n: u128, tail: u64) -> SessionSaid {
    SessionSaid::Evicted(Box::new(StoredSession { creation: session(n, n as i64), record: evicted(n, tail) }))
}

#[test]
fn a_session_is_kept_as_it_was_given_up_over_restarts_and_rebuilds_until_it_is_loaded() {
    let mut world = World::new();
    world.commit(vec![created(session(1, 1)), created(session(2, 2))]);
    assert_eq!(said(&world, 1, None), (0, SessionSaid::Held, KeySaid::NotAsked));
    assert_eq!(said(&world, 9, None), (0, SessionSaid::Absent, KeySaid::NotAsked));
    world.commit(vec![given_up(1, vec![evicted(1, 4), evicted(2, 0)])]);
    world.commit(vec![loaded(2, 0, 1), given_up(2, vec![evicted(2, 7)]), loaded(1, 4, 2)]);
    let check = |world: &World| {
        assert_eq!(said(world, 1, None), (2, SessionSaid::Held, KeySaid::NotAsked));
        assert_eq!(said(world, 2, None), (2, kept(2, 7), KeySaid::NotAsked));
        assert_eq!(said(world, 9, None).0, 2);
    };
    check(&world);
    world.writer().sync().unwrap();
    let journal = world.journal.clone();
    world = world.reopened();
    check(&world);
    // From nothing, a frame at a time: what it says on the way was true then.
    let mut rebuilt = World::new();
    rebuilt.journal = journal;
    let frames = rebuilt.journal.split_off(3);
    rebuilt.apply();
    for (frame, expected) in frames.into_iter().zip([(1, kept(2, 0)), (2, kept(2, 7))]) {
        rebuilt.journal.push(frame);
        rebuilt.apply();
        let (read_at, session, _) = said(&rebuilt, 2, None);
        assert_eq!((read_at, session), expected);
    }
    check(&rebuilt);
    assert_eq!(rebuilt.dump(), world.dump());
}

#[test]
fn keys_are_kept_for_ever() {
    let mut world = World::new();
    world.commit(vec![created(session(1, 1))]);
    let [content, message] = appended(message(1, 1, MessageRole::User, "hello"), "hello");
    let (fingerprint, first_seq, last_seq) = (Fingerprint(9), 1, 1);
    let key =
        Event::AppendKeyTaken { session_id: session_id(1), key: "k".to_owned(), fingerprint, first_seq, last_seq };
    world.commit(vec![content, message, key, Event::KeysEvicted { number: 1, before: 2 }]);
    let answer = KeySaid::Taken(KeyAnswer { fingerprint, first_seq, last_seq });
    assert_eq!(said(&world, 1, Some("k")), (1, SessionSaid::Held, answer));
    assert_eq!(said(&world, 1, Some("other")), (1, SessionSaid::Held, KeySaid::Absent));
}

#[test]
fn sessions_that_have_not_ended_are_listed_by_id_with_their_children() {
    let mut world = World::new();
    for n in 1..8_u128 {
        let mut made = session(n, 100 - n as i64);
        made.fields.role = if n % 2 == 0 { "coder" } else { "validator" }.to_owned();
        made.fields.parent_session_id = (n > 5).then(|| session_id(2));
        world.commit(vec![created(made)]);
    }
    world.commit(vec![changed(3, SessionState::Created, SessionState::Idle, 200)]);
    for n in [4, 6] {
        world.commit(vec![changed(n, SessionState::Created, SessionState::Completed, 210)]);
    }
    let list = |world: &World, page: &ListRegistry, limit: u32| {
        let (mut page, mut found) = (ListRegistry { limit: Some(limit), ..page.clone() }, Vec::new());
        loop {
            let ask = StoreQuestion::Registry(page.clone());
            let answer = world.read().ask(&AskStore { min_seq: 0, ask }, Format::MessagePack).unwrap();
            found.extend(answer.sessions);
            page.cursor = answer.cursor;
            if page.cursor.is_none() {
                return found;
            }
        }
    };
    let ids = |world: &World, page: ListRegistry| {
        let whole = list(world, &page, 100);
        assert_eq!(list(world, &page, 1), whole);
        whole.into_iter().map(|row| row.session_id.uuid().as_u128() - 0x5e55_0000).collect::<Vec<_>>()
    };
    assert_eq!(ids(&world, ListRegistry::default()), [1, 2, 3, 5, 7]);
    assert_eq!(ids(&world, ListRegistry { state: Some(SessionState::Idle), ..ListRegistry::default() }), [3]);
    assert_eq!(ids(&world, ListRegistry { role: Some("coder".to_owned()), ..ListRegistry::default() }), [2]);
    let rows = list(&world, &ListRegistry::default(), 100);
    assert_eq!(rows[1].children, [session_id(7)]);
    assert_eq!(rows[4].parent_session_id, Some(session_id(2)));
    assert_eq!(rows[2].state, SessionState::Idle);
    // While a replay passes old states again, they are taken back again.
    world = world.reopened();
    for frame in world.journal.clone() {
        world.writer().apply(&[frame]).unwrap();
    }
    assert_eq!(ids(&world, ListRegistry::default()), [1, 2, 3, 5, 7]);
}
