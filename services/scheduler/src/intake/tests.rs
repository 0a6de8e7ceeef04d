//! Which messages of the intake are the same, and which come again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::{MESSAGE_ID, RUN_ID};
use laneway_contract::{Catalog, HashKey, Timestamp};
use serde_json::json;

use super::letter::{MAX_KEPT_BYTES, letter};
use super::*;
use crate::edge::Edge;

const RUN: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e";

fn message<'a>(body: &'a Bytes, headers: Option<&'a HeaderMap>) -> Message<'a> {
    Message { subject: "laneway.intake.runs", headers, body, stream_seq: 4, published_nanos: 1_000_000_007 }
}

fn edge() -> Edge {
    Edge::new(HashKey::from_bytes([7; 32]), Arc::new(Catalog::built_in().unwrap()))
}

fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.insert(*name, *value);
    }
    headers
}

#[test]
fn a_message_that_comes_again_is_the_same_run() {
    let body = Bytes::new();
    let once = message(&body, None);
    let run = |message: Message<'_>| message.unnamed_run().unwrap();
    assert_eq!(run(once), run(message(&Bytes::from_static(b"other"), None)));
    assert_ne!(run(once), run(Message { stream_seq: 5, ..once }));
    assert_ne!(run(once), run(Message { published_nanos: 1_000_000_008, ..once }), "a stream made again");
    assert_ne!(run(once), run(Message { subject: "other.intake.runs", ..once }));
    let named = headers(&[(RUN_ID, RUN)]);
    assert_eq!(run(message(&body, Some(&named))).to_string(), RUN);
    let wrong = headers(&[(RUN_ID, "no id")]);
    assert_eq!(message(&body, Some(&wrong)).unnamed_run().unwrap_err().code, ErrorCode::BadRequest);
}

/// A letter names the run that its message would be, so that sending it again is that run.
#[test]
fn a_letter_names_its_run_however_wrong_the_body_is() {
    let named = headers(&[(RUN_ID, RUN)]);
    let packed = headers(&[("Content-Type", "application/msgpack")]);
    let wrong = headers(&[(RUN_ID, "no id")]);
    let in_msgpack = Format::MessagePack.encode(&json!({"run_id": RUN, "colour": 1})).unwrap();
    let derived = message(&Bytes::new(), None).unnamed_run().unwrap().to_string();
    for (body, headers, run) in [
        (json!({"run_id": RUN, "colour": 1}).to_string().into_bytes(), None, RUN),
        (in_msgpack, Some(&packed), RUN),
        (b"hello".to_vec(), None, &*derived),
        (b"hello".to_vec(), Some(&named), RUN),
        (b"{}".to_vec(), Some(&wrong), &*derived),
        (json!({"run_id": "x"}).to_string().into_bytes(), None, &*derived),
        (json!({"run_id": 7}).to_string().into_bytes(), Some(&packed), &*derived),
    ] {
        let body = Bytes::from(body);
        let (_, letter) = letter(&edge(), message(&body, headers), &ApiError::new(ErrorCode::BadRequest, "no"));
        assert_eq!(letter.run_id.to_string(), run, "{body:?} {headers:?}");
    }
}

#[test]
fn a_letter_keeps_of_the_headers_what_is_of_use_and_no_content() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let given = |content_type, id, traceparent| {
        let headers = headers(&[("Content-Type", content_type), (MESSAGE_ID, id), (TRACEPARENT, traceparent)]);
        let body = Bytes::from_static(b"{}");
        let error = ApiError::new(ErrorCode::UnknownModel, "no");
        let (_, letter) = letter(&edge(), message(&body, Some(&headers)), &error);
        assert_eq!((letter.subject.as_str(), letter.stream_seq), ("laneway.intake.runs", 4));
        assert_eq!(letter.published_at, Timestamp::from_millis(1_000));
        (letter.content_type, letter.msg_id, letter.traceparent)
    };
    let all = ["text/xml; charset=utf-8", "order-7", trace].map(|text| Some(text.to_owned()));
    assert_eq!(given("text/xml; charset=utf-8", "order-7", trace), all.into());
    let long = "x".repeat(129);
    for (content_type, id, traceparent) in [("a\tb", "two words", "see below"), (&long, &long, &long), ("", "", "")] {
        assert_eq!(given(content_type, id, traceparent), (None, None, None));
    }
}

#[test]
fn what_passes_comes_again_and_what_does_not_is_a_dead_letter() {
    let after = |code, faults| again_after(&ApiError::new(code, ""), faults, 1);
    for code in ErrorCode::ALL {
        let passes =
            matches!(code, ErrorCode::QueueFull | ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::Internal);
        assert_eq!(after(*code, 1).is_some(), passes, "{code}");
    }
    assert_eq!(after(ErrorCode::Internal, MAX_FAULTS), None);
    assert!(after(ErrorCode::Internal, MAX_FAULTS - 1).is_some());
}

/// Else all that wait for a full queue come back each second for ever.
#[test]
fn what_is_refused_for_now_comes_less_and_less_often() {
    let waits = |code, asked: u64| -> Vec<_> {
        let error = ApiError::new(code, "").with_details(json!({"retry_after_ms": asked}));
        let deliveries = [1, 2, 3, 4, 5, 6, 7, 8, u64::MAX];
        let waits = deliveries.map(|deliveries| again_after(&error, 0, deliveries).unwrap());
        let least = Duration::from_millis(asked);
        assert!(waits.iter().all(|waits| *waits.start() == least), "{code}: {waits:?}");
        waits.map(|waits| waits.end().as_millis()).to_vec()
    };
    let doubled = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 64_000, 64_000];
    for code in [ErrorCode::QueueFull, ErrorCode::Overloaded] {
        assert_eq!(waits(code, 250), doubled, "{code}");
        assert_eq!(waits(code, 5_000)[..4], [5_000, 5_000, 5_000, 8_000], "{code}: at least what it asks for");
    }
    assert_eq!(waits(ErrorCode::Unavailable, 250), [250; 9], "as soon as somebody answers again");
}

#[test]
fn what_was_refused_together_comes_apart_and_before_its_deadline() {
    let second = Duration::from_secs(1);
    let waits = |left| -> Vec<_> { (0..1_000).map(|_| drawn(&(second..=64 * second), || left)).collect() };
    for (left, most) in [(None, 64), (Some(30), 15), (Some(1), 1), (Some(0), 1), (Some(1_000), 64)] {
        let waits = waits(left.map(|left| left * second));
        assert!(waits.iter().all(|wait| (second..=most * second).contains(wait)), "{left:?}: {waits:?}");
        let early = waits.iter().filter(|wait| **wait < (most + 1) * second / 2).count();
        assert!(most == 1 || (300..700).contains(&early), "{early} of 1,000 in the first half of {most} s");
    }
    let left = |body: &serde_json::Value| time_left(message(&Bytes::from(body.to_string()), None));
    assert_eq!(left(&json!({"model_id": "echo/default"})), None);
    assert_eq!(left(&json!({"deadline": Timestamp::from_millis(0)})), Some(Duration::ZERO));
    let later = left(&json!({"deadline": wall_now().plus_millis(60_000)})).unwrap();
    assert!(later > 50 * second && later <= 60 * second, "{later:?}");
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_named_by_its_hash() {
    let error = ApiError::new(ErrorCode::BadRequest, "no");
    for (size, is_kept) in [(10, true), (MAX_KEPT_BYTES, true), (MAX_KEPT_BYTES + 1, false)] {
        let body = Bytes::from(vec![b'x'; size]);
        let hash = HashKey::from_bytes([7; 32]).artifact_id(&body);
        let (kept, letter) = letter(&edge(), message(&body, None), &error);
        assert_eq!(kept.map(|artifact| artifact.id), is_kept.then_some(hash), "{size}");
        assert_eq!((letter.content_hash, letter.size, letter.code), (hash, size as u64, ErrorCode::BadRequest));
        assert_eq!(letter.artifact_id, is_kept.then_some(hash), "{size}");
    }
}
