//! What a snapshot holds, and what is refused. That a state read back decides the same is for the simulation.

use laneway_contract::*;

use super::world::*;
use crate::SetBudget;
use crate::*;

/// One of each: work packet, owner, session, run that waits, run that executes, ended run, bucket.
fn world() -> World {
    let mut world = World::new();
    let scope = Scope::Provider("other".to_owned());
    world.set_limits(Limits {
        requests_per_minute: PerScope { providers: [("other".to_owned(), 60)].into(), ..PerScope::default() },
        ..Limits::default()
    });
    assert_eq!(world.state.bucket_level(RateKind::Requests, &scope, world.now), Some(60));
    let owner = BudgetOwner::WorkPacket("packet".to_owned());
    let set = SetBudget { owner, tokens: Some(5_000), usd: None, actor: actor() };
    world.run(&Command::SetBudget(set)).unwrap();
    let mut create = world.create_command(Mode::SessionPersistent, "other/c");
    create.session.fields.wp_id = Some("packet".to_owned());
    let session = create.session.session_id;
    world.run(&Command::Create(Box::new(create))).unwrap();
    for _ in 0..3 {
        world.submit(session);
    }
    let first = world.state.dispatched().next().unwrap().record.run_id;
    let epoch = world.claim(first);
    world.complete(first, epoch);
    let second = world.state.dispatched().next().unwrap().record.run_id;
    world.claim(second);
    world
}

fn read(bytes: &[u8]) -> Result<State, SnapshotError> {
    State::read_snapshot(bytes, |_, _| ())
}

#[test]
fn it_has_every_record_once() {
    let state = world().state;
    let records = state.write_snapshot(&mut Vec::new()).unwrap();
    let expected = SnapshotRecords { work_packets: 1, owners: 1, sessions: 1, runs: 2, ended: 1 };
    assert_eq!(records, expected);
    let empty = State::default();
    assert_eq!(empty.write_snapshot(&mut Vec::new()).unwrap().total(), 0);
    assert_eq!(read(&snapshot(&empty)).unwrap().full_digest(), empty.full_digest());
}

/// IMPORTANT: when this fails, a record has another shape: raise `SNAPSHOT_FORMAT`, so that programs of before do not take
/// it for theirs. They go back to an older snapshot, or to the first frame.
#[test]
fn golden_bytes_of_format_1() {
    let bytes = snapshot(&world().state);
    assert_eq!(bytes[0], SNAPSHOT_FORMAT as u8);
    assert_eq!(
        (bytes.len(), blake3::hash(&bytes).to_hex().as_str()),
        (1_260, "a2f38cb5c3c1dfd960aee290138a8a0c10ab265827c8a6a0bd05ec1f250c4e44")
    );
}

#[test]
fn another_format_is_refused_before_anything_else() {
    for (bytes, format) in [(&[0x02_u8][..], 2), (&[0xcd, 0x01, 0x00], 256), (&[0x00], 0)] {
        assert_eq!(read(bytes).unwrap_err(), SnapshotError::OtherFormat { format });
    }
}

#[test]
fn what_ends_too_early_or_goes_on_is_refused() {
    let mut bytes = snapshot(&world().state);
    for end in 0..bytes.len() {
        let error = read(&bytes[..end]).unwrap_err();
        assert!(matches!(error, SnapshotError::Unreadable { .. }), "cut at {end}: {error}");
    }
    bytes.push(0xc0);
    assert_eq!(read(&bytes).unwrap_err(), SnapshotError::TooLong);
}

#[test]
fn what_was_changed_is_refused() {
    let bytes = snapshot(&world().state);
    for at in 1..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(read(&changed).is_err(), "byte {at} with {flip:#x} makes no difference");
        }
    }
}

#[test]
fn it_says_how_far_it_is() {
    let mut world = World::new();
    for _ in 0..1_500 {
        world.create("echo/a");
    }
    let mut said = Vec::new();
    State::read_snapshot(&snapshot(&world.state)[..], |done, of| said.push((done, of))).unwrap();
    assert_eq!(said, [(1_024, 1_500)]);
}
