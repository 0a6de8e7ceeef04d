//! The answers of nats-server 2.15.1 to a publish, as recorded.

use super::read_ack;
use crate::fence::PublishOutcome;

#[test]
fn answers_to_a_publish() {
    let cases = [
        (r#"{"stream":"J","seq":1}"#, PublishOutcome::Acked { seq: 1 }),
        (r#"{"stream":"J","seq":7,"duplicate":true}"#, PublishOutcome::Acked { seq: 7 }),
        (
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 12"},"stream":"J","seq":0}"#,
            PublishOutcome::WrongLast { last: 12 },
        ),
        (
            r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"J","seq":0}"#,
            PublishOutcome::Failed,
        ),
        (
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#,
            PublishOutcome::Failed,
        ),
        (r#"{"stream":"J"}"#, PublishOutcome::Failed),
        ("", PublishOutcome::Failed),
    ];
    for (payload, outcome) in cases {
        assert_eq!(read_ack(payload.as_bytes()), outcome, "{payload}");
    }
}
