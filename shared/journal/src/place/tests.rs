#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn place() -> Place {
    let frame = Position { number: 7, hash: FrameHash::of(b"seven") };
    Place { frame, before: FrameHash::of(b"six"), index: 2 }
}

#[test]
fn headers_read_back() {
    assert_eq!(Place::from_headers(&place().headers()), Some(place()));
}

#[test]
fn a_message_without_every_header_is_not_the_recorders() {
    for name in [FRAME, FRAME_HASH, FRAME_BEFORE, INDEX] {
        let mut headers = place().headers();
        headers.insert(name, "x");
        assert_eq!(Place::from_headers(&headers), None, "{name}");
    }
    assert_eq!(Place::from_headers(&HeaderMap::new()), None);
}

#[test]
fn what_stands_at_the_place_or_before_it_is_stored() {
    for (seq, index, stored) in [(6, 9, true), (7, 0, true), (7, 2, true), (7, 3, false), (8, 0, false)] {
        assert_eq!(place().covers(FlightSource { seq, index }), stored, "{seq} {index}");
    }
}
