//! What `nats sub --translate 'laneway decode'` shows.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use laneway_contract::{CancelRuns, Format, Generation, GetRun, RunId, SessionId};

#[test]
fn a_request_in_message_pack_shows_as_its_json() {
    let request = GetRun { run_id: RunId::generate() };
    let shown = decode(&Format::MessagePack.encode(&request).unwrap()).unwrap();
    assert_eq!(shown.into_bytes(), Format::Json.encode(&request).unwrap());
}

#[test]
fn what_is_shown_reads_back_as_the_same_request() {
    let request = Generation { temperature: Some(0.5), stop: Some(vec!["ä".into()]), ..Generation::default() };
    let shown = decode(&Format::MessagePack.encode(&request).unwrap()).unwrap();
    assert_eq!(Format::Json.decode::<Generation>(shown.as_bytes()).unwrap(), request);
}

#[test]
fn json_text_and_nothing_pass_through() {
    let cases = [
        (&b"{\"a\": 1}\n"[..], "{\"a\": 1}"),
        (b"[1,2]", "[1,2]"),
        (b"", ""),
        (b"+OK plain words", "+OK plain words"),
        ("µ-law".as_bytes(), "µ-law"),
    ];
    for (bytes, shown) in cases {
        assert_eq!(decode(bytes).as_deref(), Ok(shown));
    }
}

#[test]
fn compact_records_show_as_arrays_with_binary_in_hex() {
    let id = SessionId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f").unwrap();
    let compact = rmp_serde::to_vec(&(7_u8, id, Option::<u8>::None)).unwrap();
    assert_eq!(decode(&compact).as_deref(), Ok(r#"[7,"hex:0197c2f48f6c7cc19c1b2f8f0a6b1d3f",null]"#));
}

#[test]
fn several_values_are_several_lines() {
    let mut bytes = rmp_serde::to_vec(&vec![1]).unwrap();
    bytes.extend(rmp_serde::to_vec(&vec![2]).unwrap());
    assert_eq!(decode(&bytes).as_deref(), Ok("[1]\n[2]"));
}

#[test]
fn broken_bytes_are_refused() {
    assert_eq!(decode(&[0xc1, 0xff]), Err(()));
    let whole = Format::MessagePack
        .encode(&CancelRuns {
            run_id: None,
            session_id: None,
            cancellation_token: Some("t".into()),
            submitted_before: None,
            actor: laneway_contract::Actor::runtime(),
            reason: String::new(),
            wait: false,
            wait_ms: None,
        })
        .unwrap();
    assert_eq!(decode(&whole[..whole.len() - 1]), Err(()));
}
