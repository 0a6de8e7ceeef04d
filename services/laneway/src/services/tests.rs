//! Names of workers.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn any_instance_name_gives_a_worker_name() {
    let cases = [
        ("host-1f2e", "host-1f2e".to_owned()),
        ("my.host.example-1f", "my-host-example-1f".to_owned()),
        ("gürtel-1", "g-rtel-1".to_owned()),
        (&format!("{}-1f2e", "x".repeat(80)), format!("{}-1f2e", "x".repeat(59))),
    ];
    for (instance, worker) in cases {
        assert_eq!(worker_id(instance).unwrap().as_str(), worker);
    }
    assert!(worker_id("").is_err());
}
