//! What each answer to a publish and to a read proves.

use bytes::Bytes;
use laneway_contract::Timestamp;

use super::{Flight, LOST_AFTER_ANSWERS, PublishOutcome, ReadOutcome, Step, Verdict};
use crate::chain::{Fault, Loss};
use crate::clock::{BootMillis, Now};

const NUMBER: u64 = 8;

fn at(boot: u64) -> Now {
    Now { boot: BootMillis::from_millis(boot), wall: Timestamp::ZERO }
}

fn ours() -> Bytes {
    Bytes::from_static(b"ours")
}

fn sent() -> Flight {
    let mut flight = Flight::new(NUMBER, ours());
    assert!(matches!(flight.poll(at(100)), Some(Step::Publish { expected_last: 7, .. })));
    flight
}

fn reading() -> Flight {
    let mut flight = sent();
    assert_eq!(flight.published(&PublishOutcome::WrongLast { last: 9 }, at(200)), Verdict::Open);
    assert!(matches!(flight.poll(at(200)), Some(Step::Read { number: NUMBER })));
    flight
}

fn missing(first: u64, last: u64) -> Verdict {
    Verdict::Lost(Fault::DataLoss { first, last, loss: Loss::Missing })
}

#[test]
fn answers_to_a_publish() {
    let cases = [
        (PublishOutcome::Acked { seq: 8 }, Verdict::Committed),
        (PublishOutcome::Acked { seq: 9 }, missing(8, 8)),
        (PublishOutcome::Acked { seq: 5 }, missing(5, 8)),
        // A server that lost its cluster answers from the past.
        (PublishOutcome::WrongLast { last: 6 }, Verdict::Open),
        (PublishOutcome::WrongLast { last: 0 }, Verdict::Open),
        (PublishOutcome::WrongLast { last: 7 }, Verdict::Open),
        (PublishOutcome::WrongLast { last: 8 }, Verdict::Open),
        (PublishOutcome::Failed, Verdict::Open),
    ];
    for (outcome, verdict) in cases {
        assert_eq!(sent().published(&outcome, at(200)), verdict, "{outcome:?}");
    }
}

#[test]
fn frames_are_lost_when_every_answer_says_so_for_longer_than_a_server_is_deceived() {
    let behind = PublishOutcome::WrongLast { last: 4 };
    let refuse = |flight: &mut Flight, times: u32| {
        for time in 0..times {
            assert_eq!(flight.published(&behind, at(1_000)), Verdict::Open, "refusal {time}");
            assert!(flight.poll(at(1_000)).is_none(), "waits before it asks again");
            assert!(matches!(flight.poll(at(2_000)), Some(Step::Publish { expected_last: 7, .. })));
        }
    };
    let mut flight = sent();
    refuse(&mut flight, LOST_AFTER_ANSWERS - 1);
    // No answer says nothing; another answer says that it was not so.
    assert_eq!(flight.published(&PublishOutcome::Failed, at(1_000)), Verdict::Open);
    assert!(flight.poll(at(2_000)).is_some());
    assert_eq!(flight.published(&behind, at(3_000)), missing(5, 7));
    let mut flight = sent();
    refuse(&mut flight, LOST_AFTER_ANSWERS - 1);
    assert_eq!(flight.published(&PublishOutcome::WrongLast { last: 7 }, at(1_000)), Verdict::Open);
    assert!(flight.poll(at(2_000)).is_some());
    refuse(&mut flight, LOST_AFTER_ANSWERS - 1);
}

#[test]
fn answers_to_a_read() {
    let cases = [
        (ReadOutcome::Found(ours()), Verdict::Committed),
        (ReadOutcome::Found(Bytes::from_static(b"theirs")), Verdict::Refused(Bytes::from_static(b"theirs"))),
        // A read may be stale: absence proves nothing, unless a later message is there.
        (ReadOutcome::Missing { last: 3 }, Verdict::Open),
        (ReadOutcome::Missing { last: 8 }, Verdict::Open),
        (ReadOutcome::Missing { last: 9 }, missing(8, 8)),
        (ReadOutcome::Failed, Verdict::Open),
    ];
    for (outcome, verdict) in cases {
        assert_eq!(reading().read(outcome.clone(), at(300)), verdict, "{outcome:?}");
    }
}

#[test]
fn the_same_bytes_are_published_until_answered_and_the_lease_counts_from_the_first() {
    let mut flight = sent();
    for round in 1..20 {
        let now = at(100 + round * 1_000);
        assert_eq!(flight.published(&PublishOutcome::Failed, now), Verdict::Open);
        assert!(flight.poll(now).is_none(), "waits before it asks again");
        let Some(Step::Publish { bytes, expected_last }) = flight.poll(at(120 + round * 1_000)) else {
            unreachable!("publishes again");
        };
        assert_eq!((bytes, expected_last), (ours(), 7));
    }
    assert_eq!(flight.first_sent(), BootMillis::from_millis(100));
}

#[test]
fn a_refusal_is_read_until_there_is_an_answer() {
    let mut flight = reading();
    assert_eq!(flight.read(ReadOutcome::Failed, at(300)), Verdict::Open);
    assert!(matches!(flight.poll(at(400)), Some(Step::Read { number: NUMBER })));
    assert_eq!(
        flight.published(&PublishOutcome::Acked { seq: 8 }, at(500)),
        Verdict::Open,
        "an answer to an older send"
    );
}

#[test]
fn what_was_refused_for_a_message_that_never_came_is_published_again() {
    let mut flight = reading();
    assert_eq!(flight.read(ReadOutcome::Missing { last: 7 }, at(300)), Verdict::Open);
    assert!(matches!(flight.poll(at(400)), Some(Step::Publish { expected_last: 7, .. })));
    assert_eq!(flight.published(&PublishOutcome::Acked { seq: 8 }, at(500)), Verdict::Committed);
    assert_eq!(flight.first_sent(), at(100).boot, "any of the sends may be the one stored");
}
