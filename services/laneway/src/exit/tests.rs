//! The numbers that scripts rely on.
#![allow(clippy::expect_used, reason = "tests")]

use super::*;

#[test]
fn each_error_has_its_documented_code() {
    let refused = |code| CliError::Refused(ApiError::new(code, "no"));
    let cases = [
        (refused(ErrorCode::SessionTerminal), 1),
        (refused(ErrorCode::NotFound), 1),
        (refused(ErrorCode::Internal), 1),
        (refused(ErrorCode::Unavailable), 3),
        (CliError::Usage("x".into()), 2),
        (CliError::NoNats { url: "nats://x".into(), seconds: 1 }, 3),
        (CliError::Demo("x".into()), 6),
        (CliError::Replay(ReplayError::Diverged { number: 3 }), 7),
        (CliError::Store("x".into()), 6),
        (CliError::Repair("x".into()), 6),
        (CliError::Output(io::ErrorKind::BrokenPipe.into()), 0),
        (CliError::Output(io::ErrorKind::StorageFull.into()), 6),
    ];
    for (error, code) in cases {
        assert_eq!(error.exit().code(), code, "{error}");
    }
}

#[test]
fn the_help_names_every_code() {
    let all = [
        Exit::Done,
        Exit::Refused,
        Exit::Usage,
        Exit::Unavailable,
        Exit::RunNotCompleted,
        Exit::CheckFailed,
        Exit::Fault,
        Exit::JournalDamaged,
        Exit::Interrupted,
    ];
    for exit in all {
        let code = exit.code().to_string();
        assert!(EXIT_CODES.lines().any(|line| line.split_whitespace().next() == Some(&code)), "{code}");
    }
}

#[test]
fn a_refusal_shows_its_code_and_as_json_its_body() {
    let error = CliError::Refused(
        ApiError::new(ErrorCode::TailMismatch, "the thread ends at 3").with_details(serde_json::json!({"tail": 3})),
    );
    assert_eq!(
        error.message(false).as_deref(),
        Some("error: tail_mismatch: the thread ends at 3\ndetails: {\"tail\":3}")
    );
    let body: ErrorBody = serde_json::from_str(&error.message(true).expect("a message")).expect("a body");
    assert_eq!(body.error.code, ErrorCode::TailMismatch);
}

#[test]
fn a_closed_pipe_says_nothing() {
    assert_eq!(CliError::Output(io::ErrorKind::BrokenPipe.into()).message(false), None);
}
