//! Requests about runs from flags and files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;
use laneway_contract::Input;

fn submit_from(line: &[&str]) -> Result<SubmitRun, CliError> {
    let cli = Cli::try_parse_from(["laneway", "run", "submit"].iter().chain(line)).unwrap();
    let Command::Run(RunCommand::Submit(args)) = cli.command else { panic!("{line:?} is no run submit") };
    submit_request(*args)
}

#[test]
fn a_submit_has_an_id_that_makes_it_safe_to_repeat() {
    let request = submit_from(&["hello there", "--model", "echo/default", "--temperature", "0.5", "--wait"]).unwrap();
    assert!(request.run_id.is_some() && request.wait);
    assert_eq!(request.input, Some(Input::Text("hello there".to_owned())));
    assert_eq!(request.generation.temperature, Some(0.5));
    assert_eq!((request.lane, request.session_id), (None, None));
}

#[test]
fn settings_of_file_and_flags_are_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"model_id": "echo/a", "generation": {"stop": ["x"], "max_output_tokens": 1}}"#)
        .unwrap();
    let path = file.path().to_str().unwrap();
    let request = submit_from(&["--request", path, "--max-output-tokens", "7"]).unwrap();
    assert_eq!(request.generation.stop, Some(vec!["x".to_owned()]));
    assert_eq!(request.generation.max_output_tokens, Some(7));
}
