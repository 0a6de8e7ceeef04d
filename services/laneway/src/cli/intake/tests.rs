//! How refused submits are shown.
#![allow(clippy::unwrap_used, reason = "tests")]

use laneway_contract::{ArtifactId, Reject, RunId};
use serde_json::{Value, json};

use super::*;

fn letter(artifact: bool) -> Letter {
    let hash = ArtifactId::from_bytes([7; 32]);
    let reject = Reject {
        code: ErrorCode::UnknownModel,
        message: "no such provider".to_owned(),
        content_hash: hash,
        artifact_id: artifact.then_some(hash),
        journal_seq: artifact.then_some(9),
        size: 12,
        content_type: None,
        run_id: RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap(),
        subject: "laneway.intake.runs".to_owned(),
        stream_seq: 4,
        published_at: Timestamp::from_millis(1_000),
        msg_id: None,
        traceparent: None,
    };
    Letter { seq: 17, rejected_at: Timestamp::from_millis(2_000), reject, repeats: None }
}

#[test]
fn a_page_names_what_replay_needs() {
    let text = table(&[letter(true)]);
    for part in ["17", "1970-01-01T00:00:02.000Z", "unknown_model", "12", "0197c2f4", "no such provider"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn a_body_is_shown_as_what_it_is() {
    let (kept, lost) = (letter(true), letter(false));
    for (letter, body, is, shows) in [
        (&kept, Body::Kept("{\"a\": 1}\n".into()), "text", "{\"a\": 1}"),
        (&kept, Body::Kept("\u{1b}[2Jx".into()), "text", "\u{fffd}[2Jx"),
        (&kept, Body::Kept(Bytes::from_static(b"\xff")), "binary", "--raw FILE"),
        (&lost, Body::TooLarge, "too_large", "artifacts.put"),
        (&kept, Body::Gone, "gone", "replay 17 --with FILE"),
    ] {
        let value = serde_json::to_value(shown(letter, &body)).unwrap();
        assert_eq!((&value["body_is"], &value["seq"], &value["stream_seq"]), (&json!(is), &json!(17), &json!(4)));
        assert_eq!(value["body"].is_null(), is != "text", "{value}");
        assert_ne!(value["rejected_at"], Value::Null);
        let text = for_people(letter, &body);
        assert!(text.contains(shows) && text.contains("unknown_model"), "{text}");
        assert_eq!(body.kept(17).is_ok(), is == "text" || is == "binary", "{is}");
    }
}
