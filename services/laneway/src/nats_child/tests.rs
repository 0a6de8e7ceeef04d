//! The configuration of the own server, and who may use a data folder.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn the_configuration_syncs_every_write_and_stays_on_this_machine() {
    let text = config_text(Path::new("/data/a \"b\""), 4222, "laneway-1");
    for line in ["  sync_interval: always", "listen: \"127.0.0.1:4222\"", "ping_interval: \"5s\"", "ping_max: 2"] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.contains(r#"store_dir: "/data/a \"b\"/nats""#), "{text}");
}

#[test]
fn the_name_reads_back_from_the_folder() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(name_in(data.path()), None);
    std::fs::write(data.path().join("nats-server.conf"), config_text(data.path(), 1, "laneway-7f")).unwrap();
    assert_eq!(name_in(data.path()).as_deref(), Some("laneway-7f"));
}

#[test]
fn a_second_holder_of_a_folder_is_refused_until_the_first_has_gone() {
    let data = tempfile::tempdir().unwrap();
    let first = lock(data.path()).unwrap();
    let refused = lock(data.path()).unwrap_err();
    assert!(matches!(refused, NatsChildError::InUse { .. }));
    assert!(refused.to_string().contains("in use by another `laneway up`"), "{refused}");
    drop(first);
    lock(data.path()).unwrap();
}
