//! Which messages of the intake are the same, and which come again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use laneway_contract::{Catalog, HashKey};
use serde_json::json;

use super::*;

#[test]
fn a_message_that_comes_again_is_the_same_run() {
    let place = Place { stream_seq: 4, published_nanos: 1_000, delivered: 1 };
    let run = derived("laneway.intake.runs", place);
    assert_eq!(run, derived("laneway.intake.runs", Place { delivered: 2, ..place }));
    assert_ne!(run, derived("laneway.intake.runs", Place { stream_seq: 5, ..place }));
    assert_ne!(run, derived("laneway.intake.runs", Place { published_nanos: 1_001, ..place }), "a stream made again");
    assert_ne!(run, derived("other.intake.runs", place));
}

#[test]
fn what_passes_comes_again_and_what_does_not_is_a_dead_letter() {
    let after = |code, delivered| again_after(&ApiError::new(code, ""), delivered);
    for code in ErrorCode::ALL {
        let passes =
            matches!(code, ErrorCode::QueueFull | ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::Internal);
        assert_eq!(after(*code, 1).is_some(), passes, "{code}");
    }
    assert_eq!(after(ErrorCode::Internal, MAX_FAULTS), None);
    assert!(after(ErrorCode::Unavailable, 1_000).is_some(), "lost after many deliveries");
    let asked = ApiError::new(ErrorCode::QueueFull, "").with_details(json!({"retry_after_ms": 250}));
    assert_eq!(again_after(&asked, 1), Some(Duration::from_millis(250)));
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_named_by_its_hash() {
    let edge = Edge::new(HashKey::from_bytes([7; 32]), Arc::new(Catalog::built_in().unwrap()));
    let error = ApiError::new(ErrorCode::BadRequest, "no");
    for (size, is_kept) in [(10, true), (MAX_KEPT_BYTES, true), (MAX_KEPT_BYTES + 1, false)] {
        let body = Bytes::from(vec![b'x'; size]);
        let hash = HashKey::from_bytes([7; 32]).artifact_id(&body);
        let (kept, letter) = letter(&edge, body, 4, &error);
        let letter = serde_json::to_value(&letter).unwrap();
        assert_eq!(kept.map(|artifact| artifact.id), is_kept.then_some(hash), "{size}");
        assert_eq!((&letter["content_hash"], &letter["size"]), (&json!(hash), &json!(size)));
        assert_eq!(letter["artifact_id"], if is_kept { json!(hash) } else { json!(null) }, "{size}");
    }
}
