#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! A reader applies only what continues the chain.

use bytes::Bytes;
use laneway_contract::Timestamp;
use uuid::Uuid;

use super::{Base, Chain, Fault, Link, Loss};
use crate::draft::{Draft, Envelope};
use crate::frame::{FORMAT, Formats, FrameHash, Position};

const JOURNAL: Uuid = Uuid::from_u128(1);

fn envelope(number: u64, epoch: u64, prev: &[u8], time: i64) -> Envelope {
    let prev = if prev.is_empty() { FrameHash::ZERO } else { FrameHash::of(prev) };
    Envelope {
        format: FORMAT,
        journal_id: JOURNAL,
        epoch,
        number,
        prev,
        time: Timestamp::from_millis(time),
        snapshot: 0,
    }
}

fn start(instance: &str) -> Draft<'_> {
    Draft::Started { instance, process: Uuid::from_u128(7), attempt: 1 }
}

fn started() -> Bytes {
    envelope(1, 1, b"", 100).seal(start("a"))
}

fn after_first() -> Chain {
    let mut chain = Chain::default();
    assert!(matches!(chain.accept::<u64>(1, &started()), Ok(Link::Next(_))));
    chain
}

#[test]
fn the_next_frame_is_taken_and_others_are_not() {
    let mut chain = after_first();
    let second = envelope(2, 1, &started(), 100).seal(Draft::Turns(&[]));
    assert!(matches!(chain.accept::<u64>(3, &second), Ok(Link::Gap)));
    assert!(matches!(chain.accept::<u64>(1, &started()), Ok(Link::Repeat)));
    assert!(matches!(chain.accept::<u64>(2, &second), Ok(Link::Next(_))));
    assert_eq!(chain.position.hash, FrameHash::of(&second));
}

#[test]
fn what_does_not_continue_the_chain_is_refused() {
    let first = started();
    let turns = Draft::Turns(&[]);
    let naming = |snapshot| Envelope { snapshot, ..envelope(2, 1, &first, 100) }.seal(turns);
    let cases = [
        ("a snapshot of frames that nobody has read", naming(1), Loss::Disordered),
        ("a snapshot of frames to come", naming(3), Loss::Disordered),
        ("time falls", envelope(2, 1, &first, 99).seal(turns), Loss::Disordered),
        ("epoch rises without a start", envelope(2, 2, &first, 100).seal(turns), Loss::Disordered),
        ("epoch falls", envelope(2, 0, &first, 100).seal(turns), Loss::Disordered),
        ("a start skips an epoch", envelope(2, 3, &first, 100).seal(start("b")), Loss::Disordered),
        ("a start of the same epoch", envelope(2, 1, &first, 100).seal(start("b")), Loss::Disordered),
        ("number is not the sequence", envelope(3, 1, &first, 100).seal(turns), Loss::Disordered),
        ("no frame", Bytes::from_static(&[0x98, 0x03, 0xc1]), Loss::Unreadable),
    ];
    for (name, bytes, expected) in cases {
        match after_first().accept::<u64>(2, &bytes) {
            Err(Fault::DataLoss { first: 2, last: 2, loss }) => assert_eq!(loss, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_frame_behind_another_than_was_read_is_refused() {
    let second = envelope(2, 1, b"other", 100).seal(Draft::Turns(&[]));
    let fault = Fault::DataLoss { first: 1, last: 2, loss: Loss::Changed };
    assert_eq!(after_first().accept::<u64>(2, &second).unwrap_err(), fault);
}

#[test]
fn a_fault_says_what_is_wrong_with_which_frames_and_what_to_run() {
    let says = |fault: Fault, text: &str| assert_eq!(fault.halt(), text);
    says(
        Fault::DataLoss { first: 3, last: 5, loss: Loss::Missing },
        "data_loss: frames 3 to 5 of the journal are missing; run: laneway journal check",
    );
    says(
        Fault::OtherJournal { number: 1, expected: Uuid::nil(), found: JOURNAL },
        "other_journal: frame 1 belongs to journal 00000000-0000-0000-0000-000000000001, not to \
         00000000-0000-0000-0000-000000000000; run: laneway journal check",
    );
    // Nothing is damaged: another program reads it.
    says(
        Fault::NewerFormat { number: 2, format: 99 },
        &format!("newer_format: from frame 2 on the journal has format 99, this program reads up to {FORMAT}"),
    );
}

#[test]
fn the_newest_snapshot_is_named_by_its_own_frame_and_by_all_behind_it() {
    let mut chain = after_first();
    let second = Envelope { snapshot: 2, ..envelope(2, 1, &started(), 100) }.seal(Draft::Turns(&[]));
    assert!(matches!(chain.accept::<u64>(2, &second), Ok(Link::Next(_))));
    let third = |snapshot| Envelope { snapshot, ..envelope(3, 1, &second, 100) }.seal(Draft::Turns(&[]));
    for (snapshot, follows) in [(0, false), (1, false), (2, true), (3, true), (4, false)] {
        assert_eq!(chain.clone().accept::<u64>(3, &third(snapshot)).is_ok(), follows, "{snapshot}");
    }
}

#[test]
fn another_frame_at_the_own_position_is_noticed() {
    let other = envelope(1, 1, b"", 101).seal(start("a"));
    let fault = Fault::DataLoss { first: 1, last: 1, loss: Loss::Replaced };
    assert_eq!(after_first().accept::<u64>(1, &other).unwrap_err(), fault);
}

#[test]
fn another_journal_is_refused_also_from_its_start() {
    let mut envelope = envelope(1, 1, b"", 100);
    envelope.journal_id = Uuid::from_u128(2);
    let other = envelope.seal(start("a"));
    let fault = Fault::OtherJournal { number: 1, expected: JOURNAL, found: Uuid::from_u128(2) };
    assert_eq!(after_first().restart().accept::<u64>(1, &other).unwrap_err(), fault);
}

#[test]
fn a_newer_format_stops_the_reader() {
    let fault = Fault::NewerFormat { number: 2, format: 4 };
    assert_eq!(after_first().accept::<u64>(2, &[0x98, 0x04]).unwrap_err(), fault);
}

/// A journal of format 3 that is raised to 4, and then goes on.
fn raised() -> [Bytes; 4] {
    let first = started();
    let raise = envelope(2, 1, &first, 100).seal(Draft::FormatRaised { to: 4 });
    let third = Envelope { format: 4, ..envelope(3, 1, &raise, 100) }.seal(Draft::Turns(&[]));
    let fourth = Envelope { format: 4, ..envelope(4, 2, &third, 100) }.seal(start("b"));
    [first, raise, third, fourth]
}

#[test]
fn a_raise_stops_a_reader_that_does_not_know_the_format_before_it_applies_anything_of_it() {
    let [_, raise, third, _] = raised();
    let mut chain = after_first();
    let before = chain.position;
    let fault = Fault::NewerFormat { number: 3, format: 4 };
    assert_eq!(chain.accept::<u64>(2, &raise).unwrap_err(), fault);
    assert_eq!(chain.position, before);
    // Nor does it begin behind that frame, or read any that follows.
    let position = |number, bytes: &Bytes| Position { number, hash: FrameHash::of(bytes) };
    assert_eq!(Base::at::<u64>(position(2, &raise), &raise).unwrap_err(), fault);
    assert_eq!(Base::at::<u64>(position(3, &third), &third).unwrap_err(), fault);
}

#[test]
fn behind_a_raise_every_frame_has_the_new_format_and_before_it_none() {
    let reads = Formats { oldest: FORMAT, newest: 4 };
    let mut chain = Chain { reads, ..Chain::default() };
    for (number, bytes) in (1..).zip(&raised()) {
        assert!(matches!(chain.accept::<u64>(number, bytes), Ok(Link::Next(_))), "frame {number}");
        assert_eq!(chain.format, if number == 1 { FORMAT } else { 4 });
    }
    let [_, _, third, _] = raised();
    chain = Chain { reads, ..after_first() };
    let refused = |chain: &Chain, number, bytes: &Bytes| {
        let fault = chain.clone().accept::<u64>(number, bytes).unwrap_err();
        assert_eq!(fault, Fault::DataLoss { first: number, last: number, loss: Loss::Disordered });
    };
    let early = Envelope { format: 4, ..envelope(2, 1, &started(), 100) };
    refused(&chain, 2, &early.seal(Draft::Turns(&[])));
    refused(&chain, 2, &envelope(2, 1, &started(), 100).seal(Draft::FormatRaised { to: FORMAT }));
    for (number, bytes) in (2..).zip(&raised()[1..3]) {
        assert!(matches!(chain.accept::<u64>(number, bytes), Ok(Link::Next(_))), "frame {number}");
    }
    refused(&chain, 4, &envelope(4, 1, &third, 100).seal(Draft::Turns(&[])));
}

#[test]
fn a_format_that_was_never_released_stops_the_reader() {
    let fault = Fault::UnreleasedFormat { number: 2, format: 2 };
    assert_eq!(after_first().accept::<u64>(2, &[0x97, 0x02]).unwrap_err(), fault);
}

#[test]
fn the_time_since_the_frame_before_comes_with_each_frame() {
    let mut chain = Chain::default();
    let mut gap = |number, bytes: &Bytes| match chain.accept::<u64>(number, bytes) {
        Ok(Link::Next(committed)) => committed.gap_ms,
        other => panic!("{other:?}"),
    };
    let first = started();
    let second = envelope(2, 1, &first, 100).seal(Draft::Turns(&[]));
    let third = envelope(3, 2, &second, 4_100).seal(start("b"));
    assert_eq!((gap(1, &first), gap(2, &second), gap(3, &third)), (0, 0, 4_000));
}

#[test]
fn after_a_stop_only_a_start_follows() {
    let mut chain = after_first();
    let stopped = envelope(2, 1, &started(), 100).seal(Draft::Stopped);
    assert!(matches!(chain.accept::<u64>(2, &stopped), Ok(Link::Next(_))));
    let turns = envelope(3, 1, &stopped, 100).seal(Draft::Turns(&[]));
    assert!(chain.clone().accept::<u64>(3, &turns).is_err());
    let start = envelope(3, 2, &stopped, 100).seal(start("b"));
    assert!(matches!(chain.accept::<u64>(3, &start), Ok(Link::Next(_))));
}
