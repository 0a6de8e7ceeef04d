//! What the doctor makes of what it sees.

use super::*;

#[test]
fn versions_are_compared_as_numbers() {
    for (version, new_enough) in
        [("2.14.0", true), ("2.15.1", true), ("2.9.25", false), ("2.13.9", false), ("3.0.0-beta", true), ("", false)]
    {
        assert_eq!(checks::is_new_enough(version), new_enough, "{version}");
    }
}

#[test]
fn the_sync_mode_is_read_from_the_monitoring_port() {
    let reply = |body: &str| format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
    let cases = [
        (
            r#"{"server_id":"A","jetstream":{"config":{"sync_interval":120000000000,"sync_always":true}}}"#,
            Some(monitor::Seen { server_id: "A".to_owned(), sync_always: true }),
        ),
        (
            r#"{"server_id":"A","jetstream":{"config":{"sync_interval":120000000000}}}"#,
            Some(monitor::Seen { server_id: "A".to_owned(), sync_always: false }),
        ),
        (r#"{"jetstream":{}}"#, None),
        ("not json", None),
    ];
    for (body, always) in cases {
        assert_eq!(monitor::read(&reply(body)), always, "{body}");
    }
}

#[test]
fn what_is_wrong_is_followed_by_how_to_mend_it() {
    let findings = vec![Finding::ok("leader", "a"), Finding::not_ok("workers", Verdict::Wrong, "none", "start one")];
    let text = people(&Report { ok: false, findings });
    assert!(
        text.contains("WRONG") && text.contains("workers: start one") && text.ends_with("something is wrong"),
        "{text}"
    );
}

#[test]
fn what_is_unknown_is_said_in_the_last_line() {
    let findings = vec![Finding::ok("leader", "a"), Finding::not_ok("sync", Verdict::Unknown, "no answer", "look")];
    let text = people(&Report { ok: true, findings });
    assert!(text.ends_with("\n\nnothing is wrong; UNKNOWN: sync"), "{text}");
}

#[test]
fn the_monitoring_port_is_looked_for_at_the_hosts_of_the_servers() {
    for (nats, urls) in [
        ("nats://127.0.0.1:4222", &["http://127.0.0.1:8222"][..]),
        ("tls://a:4222, b", &["http://a:8222", "http://b:8222"]),
        ("nats://me:secret@nats:4222", &["http://nats:8222"]),
        ("nats://[::1]:4222", &["http://[::1]:8222"]),
    ] {
        assert_eq!(monitor::likely_urls(nats), urls, "{nats}");
    }
}
