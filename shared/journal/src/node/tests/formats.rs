//! A leader that raises the format of the journal.

use super::*;

fn apply(desk: &mut Desk) -> Frame<Payload> {
    match desk.poll() {
        Some(Action::Apply(committed)) => committed.frame,
        other => panic!("expected a frame, not {other:?}"),
    }
}

#[test]
fn a_new_journal_begins_with_the_oldest_format_and_is_raised_in_a_frame_of_it() {
    let mut desk = Desk::leading();
    assert_eq!((read(&desk.stream[0]).format, desk.node.format()), (FORMAT, FORMAT));
    desk.node.raise_format(FORMAT + 1);
    assert_eq!(desk.publish_and_ack(), Body::FormatRaised { to: FORMAT + 1 });
    let frame = apply(&mut desk);
    assert_eq!((frame.format, frame.epoch, desk.node.format()), (FORMAT, 1, FORMAT + 1));
    desk.push(&[event(1)], "first of the new format");
    desk.publish_and_ack();
    assert_eq!(read(&desk.stream[2]).format, FORMAT + 1);
    desk.released();
    desk.node.stop();
    desk.publish_and_ack();
    assert_eq!(read(&desk.stream[3]).format, FORMAT + 1);
}

#[test]
fn turns_that_were_handed_over_go_first_and_none_is_begun_until_it_is_raised() {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "in flight");
    let first = desk.publish();
    desk.push(&[event(2)], "waits");
    desk.node.raise_format(FORMAT + 1);
    assert!(desk.node.begin(desk.now()).is_none());
    desk.ack(first);
    assert!(matches!(desk.publish_and_ack(), Body::Turns(turns) if turns.len() == 1));
    assert_eq!(desk.publish_and_ack(), Body::FormatRaised { to: FORMAT + 1 });
    assert!(desk.stream.iter().all(|bytes| read(bytes).format == FORMAT));
    assert!(desk.node.begin(desk.now()).is_some(), "turns go on");
    apply(&mut desk);
    assert_eq!(desk.released().effects, ["in flight"]);
    assert_eq!(desk.released().effects, ["waits"]);
    desk.push(&[event(3)], "after");
    desk.publish_and_ack();
    assert_eq!(read(desk.stream.last().unwrap()).format, FORMAT + 1);
}

#[test]
fn a_raise_is_given_up_with_the_lease_and_a_turn_begun_before_it_does_not_get_behind_it() {
    let mut desk = Desk::leading();
    let turn = desk.node.begin(desk.now()).unwrap();
    desk.node.raise_format(FORMAT + 1);
    let raise = desk.publish();
    assert_eq!(desk.node.push(turn, "begun before"), Err(NotLeading));
    // Nobody knows whether it is stored; when it is, the leader goes on in the new format, with a new `Started`.
    desk.boot += LEASE_MS;
    desk.ack(raise);
    let frames = [apply(&mut desk).format, {
        desk.publish_and_ack();
        read(&desk.stream[2]).format
    }];
    assert_eq!(frames, [FORMAT, FORMAT + 1]);
    assert!(matches!(read(&desk.stream[2]).body, Body::Started { .. }));

    let mut desk = Desk::leading();
    desk.boot += LEASE_MS;
    desk.node.raise_format(FORMAT + 1);
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }));
    apply(&mut desk);
    assert!(matches!(desk.poll(), Some(Action::Lead { resumed: true, .. })));
    assert!(desk.poll().is_none(), "nothing is left to be raised");
    assert_eq!(desk.node.format(), FORMAT);
}

#[test]
fn only_a_newer_format_that_the_node_writes_is_raised_and_only_by_a_leader() {
    let mut desk = Desk::leading();
    for format in [0, FORMAT - 1, FORMAT, FORMAT + 3] {
        desk.node.raise_format(format);
        assert!(desk.poll().is_none(), "{format}");
    }
    let mut desk = Desk::new();
    desk.node.raise_format(FORMAT + 1);
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }));
    apply(&mut desk);
    assert!(matches!(desk.poll(), Some(Action::Lead { .. })));
    assert!(desk.poll().is_none(), "what a standby is told is not done later");
}
