//! What each answer to a publish and to a read proves.

use bytes::Bytes;
use laneway_contract::Timestamp;

use super::{Flight, PublishOutcome, ReadOutcome, Step, Verdict};
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
        (PublishOutcome::WrongLast { last: 6 }, missing(7, 7)),
        (PublishOutcome::WrongLast { last: 0 }, missing(1, 7)),
        (PublishOutcome::WrongLast { last: 7 }, Verdict::Open),
        (PublishOutcome::WrongLast { last: 8 }, Verdict::Open),
        (PublishOutcome::Failed, Verdict::Open),
    ];
    for (outcome, verdict) in cases {
        assert_eq!(sent().published(&outcome, at(200)), verdict, "{outcome:?}");
    }
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
fn a_refusal_is_read_and_not_published_again() {
    let mut flight = reading();
    assert_eq!(flight.read(ReadOutcome::Failed, at(300)), Verdict::Open);
    assert!(matches!(flight.poll(at(400)), Some(Step::Read { number: NUMBER })));
    assert_eq!(
        flight.published(&PublishOutcome::Acked { seq: 8 }, at(500)),
        Verdict::Open,
        "an answer to an older send"
    );
}
