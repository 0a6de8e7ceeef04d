//! Requests about sessions from flags and files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

fn create_from(line: &str) -> Result<CreateSession, CliError> {
    let cli = Cli::try_parse_from(std::iter::once("laneway").chain(line.split_whitespace())).unwrap();
    let Command::Session(SessionCommand::Create(args)) = cli.command else { panic!("{line} is no session create") };
    create_request(args)
}

#[test]
fn a_create_has_an_id_and_a_memory_policy() {
    let request = create_from("session create echo/default --role coder --wp w --label a=b=c").unwrap();
    assert!(request.session_id.is_some());
    assert_eq!(request.memory_policy, MemoryPolicy::SessionScoped);
    assert_eq!((request.role.as_deref(), request.wp_id.as_deref()), (Some("coder"), Some("w")));
    assert_eq!(request.labels, BTreeMap::from([("a".to_owned(), "b=c".to_owned())]));
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r#"{"model_id": "echo/file", "role": "validator", "memory_policy": "EPHEMERAL", "budget_tokens": 9}"#,
    )
    .unwrap();
    let line = format!("session create echo/flag --request {}", file.path().display());
    let request = create_from(&line).unwrap();
    assert_eq!(request.model_id.as_str(), "echo/flag");
    assert_eq!(request.memory_policy, MemoryPolicy::Ephemeral);
    assert_eq!((request.role.as_deref(), request.budget_tokens), (Some("validator"), Some(9)));
}

#[test]
fn what_the_service_would_refuse_as_malformed_is_a_usage_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (text, reason) in [
        (r#"{"model_id": "echo/a", "colour": 1}"#, "unknown field colour"),
        ("[]", "expected one JSON object"),
        ("{", "EOF"),
        ("{}", "missing field `model_id`"),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let error = create_from(&format!("session create --request {}", file.path().display())).unwrap_err();
        assert!(matches!(&error, CliError::Usage(what) if what.contains(reason)), "{text}: {error}");
    }
}
