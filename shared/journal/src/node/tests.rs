#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! One node at a desk: every answer comes from the test, and time moves when the test says so.

use bytes::Bytes;
use laneway_contract::Timestamp;
use uuid::Uuid;

use super::{Action, Node, NotLeading, PublishOutcome, ReadOutcome, Released, ServerInfo, Settings};
use crate::chain::{Fault, Loss};
use crate::clock::{BootMillis, Now};
use crate::fence::LOST_AFTER_ANSWERS;
use crate::frame::{Body, FORMAT, FRAME_CLOSES_AT, Formats, Frame, FrameHash, Position};

const LEASE_MS: u64 = 3_000;
const MARGIN_MS: u64 = 1_000;
const FORMATS: Formats = Formats { oldest: FORMAT, newest: FORMAT + 2 };
const WALL: i64 = 1_700_000_000_000;

type Payload = Vec<u8>;

/// A node, the stream it writes to, and the time.
struct Desk {
    node: Node<Payload, &'static str>,
    stream: Vec<Bytes>,
    boot: u64,
    wall_ahead: i64,
}

impl Desk {
    fn new() -> Self {
        Self::with(Some(Uuid::from_u128(1)), "one")
    }

    fn with(new_journal: Option<Uuid>, process: &str) -> Self {
        let process = Uuid::from_u128(process.len() as u128);
        let settings = Settings {
            instance: "scheduler".to_owned(),
            process,
            new_journal,
            lease_ms: LEASE_MS,
            margin_ms: MARGIN_MS,
            formats: FORMATS,
        };
        let start = Now { boot: BootMillis::default(), wall: Timestamp::from_millis(WALL) };
        Self { node: Node::new(settings, start), stream: Vec::new(), boot: 0, wall_ahead: 0 }
    }

    /// A node that has just become the first leader.
    fn leading() -> Self {
        let mut desk = Self::new();
        desk.publish_and_ack();
        assert!(matches!(desk.poll(), Some(Action::Apply(_))));
        assert!(!desk.node.may_answer(desk.now()), "its own start is not yet applied");
        assert!(matches!(desk.poll(), Some(Action::Lead { epoch: 1, resumed: false })));
        assert!(desk.poll().is_none());
        desk
    }

    fn now(&self) -> Now {
        let wall = WALL + self.boot as i64 + self.wall_ahead;
        Now { boot: BootMillis::from_millis(self.boot), wall: Timestamp::from_millis(wall) }
    }

    /// The next action that is not a question about the clock, which is answered at once and rightly.
    fn poll(&mut self) -> Option<Action<Payload, &'static str>> {
        loop {
            let action = self.node.poll(self.now())?;
            if !matches!(action, Action::CheckClock) {
                return Some(action);
            }
            let time = Timestamp::from_millis(WALL + self.boot as i64);
            let info = ServerInfo { time, last: self.stream.len() as u64 };
            self.node.on_server_info(self.now(), Some(info));
        }
    }

    fn publish(&mut self) -> Bytes {
        match self.poll() {
            Some(Action::Publish { bytes, expected_last }) => {
                assert_eq!(expected_last, self.stream.len() as u64);
                bytes
            }
            other => panic!("expected a publish, not {other:?}"),
        }
    }

    fn ack(&mut self, bytes: Bytes) {
        self.stream.push(bytes);
        let seq = self.stream.len() as u64;
        self.node.on_published(self.now(), &PublishOutcome::Acked { seq });
    }

    fn publish_and_ack(&mut self) -> Body<Payload> {
        let bytes = self.publish();
        self.ack(bytes.clone());
        read(&bytes).body
    }

    fn push(&mut self, events: &[Payload], effect: &'static str) {
        let mut turn = self.node.begin(self.now()).unwrap();
        turn.add(events).unwrap();
        self.node.push(turn, effect).unwrap();
    }

    fn released(&mut self) -> Released<&'static str> {
        match self.poll() {
            Some(Action::Release(released)) => released,
            other => panic!("expected a release, not {other:?}"),
        }
    }

    fn idle_until(&mut self, boot: u64) {
        self.boot = boot - 1;
        assert!(self.poll().is_none(), "does nothing before {boot} ms");
        self.boot = boot;
    }
}

/// A frame of any format that the node knows.
fn read(bytes: &[u8]) -> Frame<Payload> {
    Frame::decode_of(bytes, FORMATS).unwrap()
}

fn event(bytes: usize) -> Payload {
    vec![0; bytes]
}

#[test]
fn an_empty_stream_is_led_at_once() {
    let mut desk = Desk::new();
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }));
}

#[test]
fn an_idle_leader_writes_a_heartbeat_every_third_of_its_lease() {
    let mut desk = Desk::leading();
    for beat in 1..=5 {
        desk.idle_until(beat * LEASE_MS / 3);
        assert_eq!(desk.publish_and_ack(), Body::Turns(Vec::new()));
    }
    assert!(desk.poll().is_none());
    assert_eq!(desk.node.next_wakeup(), Some(BootMillis::from_millis(6 * LEASE_MS / 3)));
}

#[test]
fn a_standby_waits_a_lease_and_a_margin_without_frames() {
    let leader = Desk::leading();
    let mut standby = Desk::with(None, "standby");
    standby.boot = 500;
    standby.stream.clone_from(&leader.stream);
    standby.node.on_frame(standby.now(), 1, &leader.stream[0]);
    assert!(matches!(standby.poll(), Some(Action::Apply(_))));
    standby.idle_until(500 + LEASE_MS + MARGIN_MS);
    assert!(matches!(standby.publish_and_ack(), Body::Started { .. }));
    assert_eq!(standby.node.epoch(), 2);
}

#[test]
fn a_standby_starts_at_once_when_the_leader_has_stopped() {
    let mut leader = Desk::leading();
    leader.push(&[event(1)], "last");
    leader.node.stop();
    assert!(leader.node.begin(leader.now()).is_none());
    assert!(matches!(leader.publish_and_ack(), Body::Turns(_)));
    assert_eq!(leader.released().effects, ["last"]);
    assert_eq!(leader.publish_and_ack(), Body::Stopped);
    assert!(matches!(leader.poll(), Some(Action::Stopped)));

    let mut standby = Desk::with(None, "standby");
    standby.stream.clone_from(&leader.stream);
    for (number, bytes) in (1..).zip(&leader.stream) {
        standby.node.on_frame(standby.now(), number, bytes);
        assert!(matches!(standby.poll(), Some(Action::Apply(_))));
    }
    assert!(matches!(standby.publish_and_ack(), Body::Started { .. }));
}

#[test]
fn effects_wait_for_their_frame_and_one_frame_is_in_flight() {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "first");
    let first = desk.publish();
    desk.push(&[event(2)], "second");
    desk.push(&[], "read");
    assert!(desk.poll().is_none(), "nothing more while a frame is in flight");
    desk.ack(first);
    let second = desk.publish();
    assert_eq!(desk.released(), Released { epoch: 1, number: 2, effects: vec!["first"] });
    assert!(desk.poll().is_none());
    desk.ack(second);
    assert_eq!(desk.released(), Released { epoch: 1, number: 3, effects: vec!["second", "read"] });
}

#[test]
fn a_turn_without_events_waits_for_what_was_handed_over_before() {
    let mut desk = Desk::leading();
    desk.push(&[], "at once");
    assert_eq!(desk.released(), Released { epoch: 1, number: 1, effects: vec!["at once"] });
    desk.boot = LEASE_MS / 3;
    let heartbeat = desk.publish();
    desk.push(&[], "behind the heartbeat");
    assert!(desk.poll().is_none());
    desk.ack(heartbeat);
    assert_eq!(desk.released().effects, ["behind the heartbeat"]);
}

#[test]
fn effects_are_held_when_the_lease_has_run_out_until_a_start_on_top_is_in_the_journal() {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "held");
    let bytes = desk.publish();
    desk.boot = LEASE_MS;
    assert!(!desk.node.may_answer(desk.now()));
    desk.ack(bytes);
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }), "and nothing was released before");
    assert!(matches!(desk.poll(), Some(Action::Apply(_))));
    assert!(matches!(desk.poll(), Some(Action::Lead { epoch: 2, resumed: true })));
    assert_eq!(desk.released(), Released { epoch: 2, number: 2, effects: vec!["held"] });
    assert!(desk.node.may_answer(desk.now()));
}

#[test]
fn a_lease_that_ran_out_while_a_frame_was_in_flight_is_not_mended_by_its_acknowledgement() {
    let mut desk = Desk::leading();
    desk.boot = LEASE_MS - 100;
    desk.push(&[event(1)], "held");
    let bytes = desk.publish();
    desk.boot = LEASE_MS + 100;
    desk.ack(bytes);
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }), "what waited out a lease starts again");
}

#[test]
fn the_lease_is_looked_at_when_effects_leave() {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "late");
    let bytes = desk.publish();
    desk.ack(bytes);
    desk.boot = LEASE_MS - 1;
    assert!(desk.node.may_answer(desk.now()));
    desk.boot = LEASE_MS;
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }));
}

#[test]
fn a_deposed_leader_drops_everything() {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "lost");
    let turn = desk.node.begin(desk.now()).unwrap();
    desk.publish();
    desk.node.on_published(desk.now(), &PublishOutcome::WrongLast { last: 2 });
    assert!(matches!(desk.poll(), Some(Action::Read { number: 2 })));
    desk.node.on_read(desk.now(), ReadOutcome::Found(Bytes::from_static(b"another's")));
    assert!(matches!(desk.poll(), Some(Action::Deposed)));
    assert_eq!(desk.node.push(turn, "stale"), Err(NotLeading));
    assert_eq!(desk.node.position().number, 0);
}

#[test]
fn no_attempt_to_lead_writes_the_bytes_of_an_earlier_one() {
    let leader = Desk::leading();
    let mut attempts: Vec<Bytes> = Vec::new();
    for process in ["standby", "standby, run again"] {
        let mut desk = Desk::with(None, process);
        desk.stream.clone_from(&leader.stream);
        // The last frame is later than this wall clock, so that time alone does not tell the attempts apart.
        desk.wall_ahead = -30_000;
        for _ in 0..2 {
            desk.node.on_frame(desk.now(), 1, &leader.stream[0]);
            assert!(matches!(desk.poll(), Some(Action::Apply(_))));
            desk.boot += LEASE_MS + MARGIN_MS;
            let attempt = desk.publish();
            assert!(!attempts.contains(&attempt));
            attempts.push(attempt);
            desk.node.abandon(desk.now());
            assert!(matches!(desk.poll(), Some(Action::Deposed)));
        }
    }
}

#[test]
fn a_turn_of_an_earlier_leadership_is_refused() {
    let mut desk = Desk::leading();
    let turn = desk.node.begin(desk.now()).unwrap();
    desk.boot = LEASE_MS;
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }));
    assert_eq!(desk.node.push(turn, "stale"), Err(NotLeading));
}

#[test]
fn a_frame_closes_at_its_limit_and_a_large_turn_has_its_own() {
    let mut desk = Desk::leading();
    let heartbeat_due = LEASE_MS / 3;
    desk.boot = heartbeat_due;
    let heartbeat = desk.publish();
    let sizes = [100, 100, FRAME_CLOSES_AT / 2, FRAME_CLOSES_AT / 2, 900 * 1024, 100];
    for size in sizes {
        desk.push(&[event(size)], "");
    }
    assert!(desk.node.backlog() > sizes.iter().sum());
    desk.ack(heartbeat);
    let mut turns_in_frame = Vec::new();
    for _ in 0..4 {
        let bytes = desk.publish();
        let Body::Turns(turns) = read(&bytes).body else { panic!("turns") };
        assert!(bytes.len() <= FRAME_CLOSES_AT || turns.len() == 1);
        turns_in_frame.push(turns.len());
        desk.ack(bytes);
    }
    assert_eq!(turns_in_frame, [3, 1, 1, 1]);
    assert_eq!(desk.node.backlog(), 0);
}

#[test]
fn journal_time_steps_forward_only_with_a_new_start() {
    let mut desk = Desk::leading();
    let before = desk.node.time(desk.now());
    desk.wall_ahead = 10_001;
    desk.boot = 10;
    let answer_later = desk.node.poll(desk.now());
    assert!(matches!(answer_later, Some(Action::CheckClock)));
    assert!(desk.node.may_answer(desk.now()), "goes on while the server is asked");
    let time = Timestamp::from_millis(WALL + 10);
    desk.node.on_server_info(desk.now(), Some(ServerInfo { time, last: 1 }));
    desk.push(&[event(1)], "before the step");
    assert!(matches!(desk.publish_and_ack(), Body::Turns(_)));
    assert!(desk.node.begin(desk.now()).is_none(), "turns wait for the new start");
    assert_eq!(desk.released().epoch, 1);
    assert!(matches!(desk.publish_and_ack(), Body::Started { .. }));
    assert_eq!(desk.node.time(desk.now()), desk.now().wall);
    assert!(desk.node.time(desk.now()) > before);
}

#[test]
fn a_wall_clock_a_minute_off_does_not_lead_and_says_so() {
    for (wall_ahead, leads) in [(60_000, true), (-60_000, true), (60_001, false), (-60_001, false)] {
        let mut desk = Desk::new();
        desk.wall_ahead = wall_ahead;
        match desk.poll() {
            Some(Action::Publish { .. }) => assert!(leads, "{wall_ahead} ms"),
            Some(Action::ClockOff { ahead_ms }) => assert_eq!((leads, ahead_ms), (false, wall_ahead)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_journal_that_lost_frames_stops_the_leader() {
    let cases = [
        (PublishOutcome::WrongLast { last: 0 }, LOST_AFTER_ANSWERS, 1, 1),
        (PublishOutcome::Acked { seq: 1 }, 1, 1, 2),
        (PublishOutcome::Acked { seq: 3 }, 1, 2, 2),
    ];
    for (outcome, answers, first, last) in cases {
        let mut desk = Desk::leading();
        desk.push(&[event(1)], "never");
        for _ in 0..answers {
            desk.publish();
            desk.node.on_published(desk.now(), &outcome);
            desk.boot += 100;
        }
        match desk.poll() {
            Some(Action::Fault(fault)) => assert_eq!(fault, Fault::DataLoss { first, last, loss: Loss::Missing }),
            other => panic!("{outcome:?}: {other:?}"),
        }
        assert!(desk.poll().is_none());
    }
}

#[test]
fn an_empty_stream_is_lost_data_where_no_journal_may_be_made() {
    let mut desk = Desk::with(None, "one");
    for _ in 0..LOST_AFTER_ANSWERS {
        assert!(matches!(desk.poll(), Some(Action::Read { number: 1 })));
        desk.node.on_read(desk.now(), ReadOutcome::Missing { last: 0 });
        desk.boot += 100;
    }
    let fault = Fault::DataLoss { first: 1, last: 1, loss: Loss::Missing };
    assert!(matches!(desk.poll(), Some(Action::Fault(found)) if found == fault));
}

#[test]
fn a_state_given_up_is_read_again_from_the_start() {
    let mut desk = Desk::leading();
    desk.push(&[event(1)], "never");
    let bytes = desk.publish();
    desk.node.abandon(desk.now());
    assert!(matches!(desk.poll(), Some(Action::Deposed)));
    desk.ack(bytes);
    for (number, bytes) in (1..).zip(desk.stream.clone()) {
        desk.node.on_frame(desk.now(), number, &bytes);
        assert!(matches!(desk.poll(), Some(Action::Apply(_))));
    }
    assert!(desk.poll().is_none(), "waits for its own lease to end like any standby");
}

#[test]
fn a_journal_that_was_read_once_is_not_made_again() {
    let mut desk = Desk::leading();
    desk.stream.clear();
    desk.node.abandon(desk.now());
    assert!(matches!(desk.poll(), Some(Action::Deposed)));
    for _ in 0..LOST_AFTER_ANSWERS {
        assert!(matches!(desk.poll(), Some(Action::Read { number: 1 })));
        desk.node.on_read(desk.now(), ReadOutcome::Missing { last: 0 });
        desk.boot += 100;
    }
    let fault = Fault::DataLoss { first: 1, last: 1, loss: Loss::Missing };
    assert!(matches!(desk.poll(), Some(Action::Fault(found)) if found == fault));
}

/// A standby that has read the first frame, and knows of another from a view.
fn standby_that_expects(number: u64, hash: FrameHash) -> Desk {
    let leader = Desk::leading();
    let mut standby = Desk::with(None, "standby");
    standby.node.expect(Position { number, hash });
    standby.stream.clone_from(&leader.stream);
    standby.node.on_frame(standby.now(), 1, &leader.stream[0]);
    standby
}

#[test]
fn nobody_leads_before_the_last_frame_that_a_view_has_had() {
    let mut standby = standby_that_expects(3, FrameHash::of(b"three"));
    assert!(matches!(standby.poll(), Some(Action::Apply(_))));
    // Longer than a lease and a margin: nobody else leads, either.
    standby.boot = 2 * (LEASE_MS + MARGIN_MS);
    for _ in 0..LOST_AFTER_ANSWERS {
        assert!(matches!(standby.poll(), Some(Action::Read { number: 2 })));
        standby.node.on_read(standby.now(), ReadOutcome::Missing { last: 1 });
        standby.boot += 100;
    }
    let fault = Fault::DataLoss { first: 2, last: 3, loss: Loss::Missing };
    assert!(matches!(standby.poll(), Some(Action::Fault(found)) if found == fault));
}

#[test]
fn another_frame_than_a_view_has_had_stops_the_node() {
    let mut standby = standby_that_expects(1, FrameHash::of(b"another"));
    let fault = Fault::DataLoss { first: 1, last: 1, loss: Loss::Replaced };
    assert!(matches!(standby.poll(), Some(Action::Fault(found)) if found == fault));
}

#[test]
fn a_leader_whose_stream_is_another_ends() {
    let mut desk = Desk::leading();
    let fault = Fault::DataLoss { first: 1, last: 1, loss: Loss::Replaced };
    desk.node.on_fault(desk.now(), fault.clone());
    assert!(!desk.node.may_answer(desk.now()));
    assert!(matches!(desk.poll(), Some(Action::Fault(found)) if found == fault));
}
mod behind;
mod formats;
