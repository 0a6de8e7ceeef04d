#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Each kind of damage, with the frames that it is in and those before it.

use bytes::Bytes;
use laneway_contract::Timestamp;
use uuid::Uuid;

use super::{Audit, Audited, Damage, Finding, Witness};
use crate::draft::{Draft, Envelope, TurnDraft};
use crate::frame::{FORMAT, FrameHash, Position};

const JOURNAL: Uuid = Uuid::from_u128(1);
const FRAMES: u64 = 9;

/// A frame with one event behind `prev`.
fn frame(journal_id: Uuid, number: u64, prev: FrameHash, time: i64) -> Bytes {
    let envelope = Envelope {
        format: FORMAT,
        journal_id,
        epoch: 1,
        number,
        prev,
        time: Timestamp::from_millis(time),
        snapshot: 0,
    };
    if number == 1 {
        return envelope.seal(Draft::Started { instance: "a", process: Uuid::nil(), attempt: 1 });
    }
    let mut turn = TurnDraft::<u64>::new(1, envelope.time);
    turn.add(&[number]).unwrap();
    envelope.seal(Draft::Turns(&[turn.encoded()]))
}

/// A journal of [`FRAMES`] frames.
fn journal(id: Uuid) -> Vec<(u64, Bytes)> {
    let mut prev = FrameHash::ZERO;
    let frames = (1..=FRAMES).map(|number| {
        let bytes = frame(id, number, prev, 100 + number as i64);
        prev = FrameHash::of(&bytes);
        (number, bytes)
    });
    frames.collect()
}

fn audit(stream: &[(u64, Bytes)], witnesses: Vec<Witness>) -> Audited {
    let mut audit = Audit::<u64>::new(witnesses);
    for (number, bytes) in stream {
        audit.take(*number, bytes);
    }
    audit.finish(stream.last().map_or(0, |(number, _)| *number))
}

/// What is found when `damage` is done to a journal, and where it ends to be right.
fn check(name: &str, damage: impl FnOnce(&mut Vec<(u64, Bytes)>), expected: &[(u64, u64, Damage)], right: u64) {
    let whole = journal(JOURNAL);
    let mut stream = whole.clone();
    damage(&mut stream);
    let audited = audit(&stream, Vec::new());
    let expected: Vec<_> = expected
        .iter()
        .map(|(first, last, damage)| Finding { first: *first, last: *last, damage: damage.clone() })
        .collect();
    assert_eq!(audited.findings, expected, "{name}");
    let hash = right.checked_sub(1).map_or(FrameHash::ZERO, |index| FrameHash::of(&whole[index as usize].1));
    assert_eq!(audited.right, Position { number: right, hash }, "{name}");
}

/// Turns one bit of the event's value over: what is left can still be read.
fn change(bytes: &mut Bytes) {
    let mut changed = bytes.to_vec();
    *changed.last_mut().unwrap() ^= 0x10;
    *bytes = changed.into();
}

#[test]
fn a_journal_without_damage_is_right_to_its_end() {
    check("whole", |_| {}, &[], FRAMES);
    let audited = audit(&journal(JOURNAL), Vec::new());
    assert_eq!((audited.frames, audited.events, audited.journal), (FRAMES, FRAMES - 1, Some(JOURNAL)));
    assert_eq!((audited.first_epoch, audited.last_epoch, audited.last), (1, 1, FRAMES));
    let times = (audited.first_time, audited.last_time);
    assert_eq!(times, (Some(Timestamp::from_millis(101)), Some(Timestamp::from_millis(109))));
}

#[test]
fn each_kind_of_damage_has_its_frames() {
    check("a hole", |s| drop(s.drain(3..6)), &[(4, 6, Damage::Missing)], 3);
    check("no beginning", |s| drop(s.drain(..2)), &[(1, 2, Damage::Missing)], 0);
    check("a changed byte", |s| change(&mut s[4].1), &[(5, 5, Damage::Changed)], 4);
    check("a changed byte in the frame before the last", |s| change(&mut s[7].1), &[(8, 9, Damage::Changed)], 7);
    check(
        "a changed byte, and the frame that would tell is missing",
        |s| {
            change(&mut s[3].1);
            s.remove(5);
        },
        &[(4, 5, Damage::Changed), (6, 6, Damage::Missing)],
        3,
    );
    check("no frame", |s| s[4].1 = Bytes::from_static(b"\x97\x03\xc1"), &[(5, 5, Damage::Unreadable)], 4);
    check(
        "a newer format",
        |s| s[4].1 = Bytes::from_static(b"\x97\x63"),
        &[(5, 5, Damage::OtherFormat { format: 99 })],
        4,
    );
    let (other, found) = (journal(Uuid::from_u128(2)), Uuid::from_u128(2));
    check(
        "another journal",
        |s| s.splice(5.., other[5..].to_vec()).for_each(drop),
        &[(6, 9, Damage::OtherJournal { found })],
        5,
    );
    let late = |s: &mut Vec<(u64, Bytes)>| {
        // As it was, but for a time before that of the frame before.
        s.truncate(4);
        s.push((5, frame(JOURNAL, 5, FrameHash::of(&s[3].1), 50)));
    };
    check("time falls", late, &[(5, 5, Damage::Disordered)], 4);
    check("an empty stream", Vec::clear, &[], 0);
}

#[test]
fn the_hash_that_was_changed_is_told_from_the_frame_that_was() {
    let other_prev = |s: &mut Vec<(u64, Bytes)>| s[4].1 = frame(JOURNAL, 5, FrameHash::of(b"other"), 105);
    check("its hash of the frame before", other_prev, &[(5, 5, Damage::Changed)], 4);
}

#[test]
fn views_know_of_frames_that_are_cut_off_or_others() {
    let whole = journal(JOURNAL);
    let witness = |number: u64| {
        let hash = FrameHash::of(&whole[number as usize - 1].1);
        Witness { name: format!("view of {number}").into(), position: Position { number, hash } }
    };
    let cut = audit(&whole[..6], vec![witness(8), witness(9), witness(3)]);
    let cut_off = Damage::CutOff { witness: "view of 9".into() };
    assert_eq!(cut.findings, [Finding { first: 7, last: 9, damage: cut_off }]);
    assert_eq!(cut.right.number, 6);

    let other = audit(&journal(Uuid::from_u128(2)), vec![witness(3)]);
    let replaced = Damage::Replaced { witness: "view of 3".into() };
    assert_eq!(other.findings, [Finding { first: 3, last: 3, damage: replaced }]);
    assert_eq!(other.right, Position::START, "all before may be another's, too");

    let one = |number| Witness { name: "one view".into(), ..witness(number) };
    let other = audit(&journal(Uuid::from_u128(2)), vec![one(1), one(3), one(7)]);
    let replaced = Damage::Replaced { witness: "one view".into() };
    assert_eq!(other.findings, [Finding { first: 1, last: 7, damage: replaced }], "and what is between");
    assert_eq!(other.right, Position::START);

    let mut last_changed = whole.clone();
    change(&mut last_changed[8].1);
    assert_eq!(audit(&last_changed, Vec::new()).findings, [], "nothing behind it says so");
    assert_eq!(
        audit(&last_changed, vec![witness(5), witness(9)]).right.number,
        5,
        "where a view was last seen to agree"
    );
    let mut changed = whole.clone();
    change(&mut changed[4].1);
    assert_eq!(audit(&changed, vec![witness(2), witness(5)]).right.number, 4, "the frame behind tells where");
}
