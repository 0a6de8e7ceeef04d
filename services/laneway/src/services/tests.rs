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

#[test]
fn a_worker_is_known_by_its_configured_name_or_its_host() {
    let id = |name: &str| worker_id(name).unwrap();
    let mut config = Config { instance: "w1".to_owned(), ..Config::default() };
    assert!(is_own_worker(&config, &id("w1")));
    assert!(is_own_worker(&config, &id(&format!("{}-1f2e3d4c", laneway_runtime::host()))));
    assert!(!is_own_worker(&config, &id("w2")) && !is_own_worker(&config, &id("elsewhere-1f2e3d4c")));
    config.worker.worker_id = Some(id("w2"));
    assert!(is_own_worker(&config, &id("w2")) && !is_own_worker(&config, &id("w1")));
}
