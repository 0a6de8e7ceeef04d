#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
//! The stored format: golden bytes, limits, and what a reader refuses.

use bytes::Bytes;
use laneway_contract::Timestamp;
use uuid::Uuid;

use super::{Body, FORMAT, Frame, FrameHash, MAX_FRAME_BYTES, MAX_TURN_BYTES, Turn, Undecodable};
use crate::draft::{Draft, Envelope, TurnDraft, TurnTooLarge};

fn envelope() -> Envelope {
    Envelope {
        format: FORMAT,
        journal_id: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        epoch: 3,
        number: 70_000,
        prev: FrameHash::from_bytes([7; 32]),
        time: Timestamp::from_millis(1_767_225_600_123),
        snapshot: 69_000,
    }
}

fn turns() -> Vec<Turn<String>> {
    let turn = |at, events: &[&str]| Turn {
        at: Timestamp::from_millis(at),
        events: events.iter().map(|&event| event.to_owned()).collect(),
    };
    vec![turn(1_767_225_600_120, &["a", "bc"]), turn(1_767_225_600_121, &["d"])]
}

fn seal(turns: &[Turn<String>]) -> Bytes {
    let encoded: Vec<_> = turns
        .iter()
        .map(|turn| {
            let mut draft = TurnDraft::new(3, turn.at);
            draft.add(&turn.events).unwrap();
            draft.encoded()
        })
        .collect();
    envelope().seal(Draft::Turns(&encoded))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// IMPORTANT: frames of a released format are never edited. What changes gets a new format.
#[test]
fn golden_bytes_of_format_3() {
    let head = "9803c4100123456789abcdef0123456789abcdef03ce00011170\
                c4200707070707070707070707070707070707070707070707070707070707070707\
                cf0000019b76daa87bce00010d88";
    let cases = [
        (seal(&turns()), "81a55475726e739292cf0000019b76daa87892a161a2626392cf0000019b76daa87991a164"),
        (seal(&[]), "81a55475726e7390"),
        (envelope().seal(Draft::Stopped), "a753746f70706564"),
        (envelope().seal(Draft::FormatRaised { to: 4 }), "81ac466f726d61745261697365649104"),
        (
            envelope().seal(Draft::Started { instance: "one", process: Uuid::from_u128(0xff), attempt: 200 }),
            "81a75374617274656493a36f6e65c410000000000000000000000000000000ffccc8",
        ),
    ];
    for (bytes, body) in cases {
        assert_eq!(hex(&bytes), format!("{head}{body}"));
        assert_eq!(rmp_serde::to_vec(&Frame::<String>::decode(&bytes).unwrap()).unwrap(), bytes);
    }
    assert_eq!(
        FrameHash::of(&seal(&[])).to_string(),
        "14adfaab7916bf8f51e782c156240397dce919e11bd91dea1020848ba1157e29"
    );
}

#[test]
fn an_assembled_frame_is_what_serde_writes_and_reads() {
    let many: Vec<_> = (0..70_000)
        .map(|at| Turn { at: Timestamp::from_millis(at), events: vec!["x".repeat(at as usize % 40)] })
        .collect();
    let long = vec![Turn { at: Timestamp::from_millis(5), events: vec![String::new(); 300] }];
    for turns in [turns(), Vec::new(), many, long] {
        let bytes = seal(&turns);
        let frame = Frame::<String>::decode(&bytes).unwrap();
        assert_eq!(frame.body, Body::Turns(turns));
        assert_eq!(rmp_serde::to_vec(&frame).unwrap(), bytes);
    }
}

#[test]
fn a_newer_format_is_refused_before_anything_else() {
    let cases: [(&[u8], u16); 3] =
        [(&[0x97, 0x04], 4), (&[0x9f, 0xcc, 0xff, 0xc1], 255), (&[0x91, 0xcd, 0x01, 0x00], 256)];
    for (bytes, format) in cases {
        assert_eq!(Frame::<String>::decode(bytes), Err(Undecodable::NewerFormat { format }));
    }
    let unreadable: [&[u8]; 4] = [&[], &[0x97], &[0xa1, 0x61], &[0x98, FORMAT as u8, 0xc1]];
    for bytes in unreadable {
        assert!(matches!(Frame::<String>::decode(bytes), Err(Undecodable::Malformed(_))));
    }
}

#[test]
fn a_format_that_was_never_released_is_refused() {
    for format in [0, 1, 2] {
        let error = Frame::<String>::decode(&[0x97, format, 0xc1]).unwrap_err();
        assert_eq!(error, Undecodable::UnreleasedFormat { format: u16::from(format) });
        assert!(error.to_string().ends_with("start with an empty journal"), "{error}");
    }
}

#[test]
fn a_turn_that_no_frame_can_hold_is_refused_whole() {
    let mut turn = TurnDraft::new(1, Timestamp::ZERO);
    turn.add(&["x".repeat(MAX_TURN_BYTES / 2)]).unwrap();
    let more = ["y".to_owned(), "z".repeat(MAX_TURN_BYTES / 2)];
    assert!(matches!(turn.add(&more), Err(TurnTooLarge::Bytes { bytes }) if bytes > MAX_TURN_BYTES));
    turn.add(&["w".repeat(MAX_TURN_BYTES / 2 - 100)]).unwrap();
    let bytes = envelope().seal(Draft::Turns(&[turn.encoded()]));
    assert!(bytes.len() <= MAX_FRAME_BYTES);
    let Body::Turns(turns) = Frame::<String>::decode(&bytes).unwrap().body else { unreachable!("turns") };
    assert_eq!(turns[0].events.len(), 2, "nothing of the refused events was taken");
}
