//! A node that begins behind a frame up to which somebody has the state.

use super::*;
use crate::frame::{FrameHash, Position};
use crate::node::Base;

/// The stream of a leader that has written a turn and, marked, a second one, and stopped.
fn written() -> Vec<Bytes> {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "first");
    desk.publish_and_ack();
    desk.released();
    let mut turn = desk.node.begin(desk.now()).unwrap();
    turn.add(&[event(2)]).unwrap();
    turn.mark_snapshot();
    desk.node.push(turn, "snapshot").unwrap();
    desk.publish_and_ack();
    desk.released();
    desk.node.stop();
    desk.publish_and_ack();
    desk.stream
}

fn base(bytes: &Bytes, number: u64) -> Base {
    Base::at::<Payload>(Position { number, hash: FrameHash::of(bytes) }, bytes).unwrap()
}

#[test]
fn a_marked_turn_is_named_by_its_frame_and_by_those_behind_it() {
    let named: Vec<u64> = written().iter().map(|bytes| Frame::<Payload>::decode(bytes).unwrap().snapshot).collect();
    assert_eq!(named, [0, 0, 3, 3]);
}

#[test]
fn it_goes_on_with_the_next_frame_and_leads_with_the_next_epoch() {
    let stream = written();
    let mut desk = Desk::with(None, "another");
    desk.node.begin_behind(desk.now(), base(&stream[1], 2));
    assert_eq!(desk.node.position().number, 2);
    desk.stream.clone_from(&stream);
    for number in [3, 4] {
        desk.node.on_frame(desk.now(), number, &stream[number as usize - 1]);
        assert!(matches!(desk.poll(), Some(Action::Apply(committed)) if committed.position.number == number));
    }
    let bytes = desk.publish();
    let started = Frame::<Payload>::decode(&bytes).unwrap();
    assert_eq!((started.epoch, started.snapshot), (2, 3), "who takes over goes on naming the snapshot");
}

#[test]
fn what_was_given_up_goes_on_behind_it_too() {
    let stream = written();
    let mut desk = Desk::leading();
    desk.node.abandon(desk.now());
    assert!(matches!(desk.poll(), Some(Action::Deposed)));
    desk.node.begin_behind(desk.now(), base(&stream[1], 2));
    assert_eq!(desk.node.position().number, 2);
}

#[test]
fn a_frame_that_is_another_or_of_another_journal_is_a_fault() {
    let stream = written();
    let position = Position { number: 2, hash: FrameHash::of(&stream[0]) };
    let fault = Base::at::<Payload>(position, &stream[1]).unwrap_err();
    assert_eq!(fault, Fault::DataLoss { first: 2, last: 2, loss: Loss::Replaced });

    let mut desk = Desk::with(Some(Uuid::from_u128(9)), "other");
    desk.publish_and_ack();
    desk.node.abandon(desk.now());
    assert!(matches!(desk.poll(), Some(Action::Deposed)), "its own start was applied, or not yet");
    desk.node.begin_behind(desk.now(), base(&stream[1], 2));
    assert!(matches!(desk.poll(), Some(Action::Fault(Fault::OtherJournal { number: 2, .. }))));
}

#[test]
fn a_journal_that_ends_before_what_it_has_had_is_a_fault() {
    let stream = written();
    let mut desk = Desk::with(None, "another");
    desk.stream.clone_from(&stream);
    desk.node.begin_behind(desk.now(), base(&stream[3], 4));
    desk.node.has_had(9);
    for _ in 0..LOST_AFTER_ANSWERS {
        let Some(Action::Read { number: 5 }) = desk.poll() else { panic!("does not look for the next frame") };
        desk.node.on_read(desk.now(), ReadOutcome::Missing { last: 4 });
        desk.boot += 100;
    }
    let fault = Fault::DataLoss { first: 5, last: 9, loss: Loss::Missing };
    assert!(matches!(desk.poll(), Some(Action::Fault(found)) if found == fault));
}

#[test]
fn who_has_read_already_stays_where_it_is() {
    let stream = written();
    let mut desk = Desk::leading();
    desk.node.begin_behind(desk.now(), base(&stream[1], 2));
    assert_eq!(desk.node.position().number, 1);
}
