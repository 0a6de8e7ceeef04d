//! Requests about runs from flags and files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;
use laneway_contract::{
    Actor, ApiError, Counterfactual, ErrorCode, ExplainReply, Explanation, Hold, Holder, Input, Lane, OnBusy,
    RetriedRun, RetryRuns, Timestamp, WaitReason,
};
use std::collections::{BTreeMap, VecDeque};

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

#[test]
fn the_turn_of_a_run_is_in_its_submit() {
    let line = "hello --model echo/a --lane BACKGROUND --priority 3 --group nightly --fairness-key acme/alice --on-busy INTERRUPT \
        --not-before 2026-01-31T12:00:00Z --deadline 2026-01-31T13:00:00+00:00 --queue-timeout-ms 500 --max-tokens-budget 900";
    let request = submit_from(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
    assert_eq!((request.lane, request.priority), (Some(Lane::Background), Some(3)));
    assert_eq!(request.concurrency_group.as_deref(), Some("nightly"));
    assert_eq!(request.fairness_key.as_deref(), Some("acme/alice"));
    assert_eq!(request.on_busy, Some(OnBusy::Interrupt));
    let noon = Timestamp::from_millis(1_769_860_800_000);
    assert_eq!((request.not_before, request.deadline), (Some(noon), Some(noon.plus_millis(3_600_000))));
    assert_eq!((request.queue_timeout_ms, request.max_tokens_budget), (Some(500), Some(900)));
}

fn retry_from(line: &str) -> VecDeque<RetryRuns> {
    let line = ["laneway", "run", "retry"].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(line).unwrap();
    let Command::Run(RunCommand::Retry(args)) = cli.command else { panic!("no run retry") };
    decisions::retry_requests(args, &Actor::runtime())
}

#[test]
fn named_runs_are_retried_in_pages_and_a_filter_from_its_start() {
    let runs: Vec<_> = (0..450).map(|_| RunId::generate()).collect();
    let line = runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let requests = retry_from(&format!("{line} --key again"));
    let asked: Vec<_> = requests.iter().map(|request| request.run_ids.clone().unwrap()).collect();
    assert_eq!(asked.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 50]);
    assert_eq!(asked.concat(), runs);
    assert!(requests.iter().all(|request| request.key.as_deref() == Some("again") && !request.dry_run));

    let requests = retry_from("--state poisoned --error-code worker_lost --ended-after 2026-01-31T12:00:00Z --dry-run");
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.state, request.error_code.as_deref()), (Some(JobState::Poisoned), Some("worker_lost")));
    assert_eq!(request.ended_after, Some(Timestamp::from_millis(1_769_860_800_000)));
    assert!(request.dry_run && request.run_ids.is_none());
}

fn run(number: u8) -> RunId {
    RunId::parse(&format!("0197c2f4-8f6c-7cc1-9c1b-0000000000{number:02x}")).unwrap()
}

#[test]
fn retried_runs_show_their_new_ids_or_why_there_is_none() {
    let row = |number, retried_as, repeated, error| RetriedRun { run_id: run(number), retried_as, repeated, error };
    let not_found = ApiError::new(ErrorCode::NotFound, "no such run");
    let rows =
        [row(1, Some(run(9)), false, None), row(2, Some(run(8)), true, None), row(3, None, false, Some(not_found))];
    let text = decisions::retried(&rows, false);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].starts_with(&format!("{}  {}", run(1), run(9))), "{text}");
    assert!(lines[2].ends_with("was retried before") && lines[3].ends_with("not_found: no such run"), "{text}");
    assert!(decisions::retried(&rows[..1], true).contains("--dry-run"));
    assert_eq!(decisions::retried(&[], false), "no run to try again");
}

#[test]
fn an_explanation_shows_holds_with_their_holders_and_the_command_that_helps() {
    let session_id = SessionId::generate();
    let holder = |number| Holder { run_id: run(number), session_id, since: None };
    let hold = |reason, name: &str, level, limit, holders| Hold {
        reason,
        name: name.to_owned(),
        limit: Some(limit),
        level: Some(level),
        needs: Some(1),
        until: None,
        holders,
    };
    let holds = vec![
        hold(WaitReason::Provider, "provider:openai", 4, 4, vec![holder(1), holder(2)]),
        hold(WaitReason::TokensPerMinute, "provider:openai", -20, 900, Vec::new()),
    ];
    let changes = BTreeMap::from([("group:my team".to_owned(), 3), ("provider:openai".to_owned(), 5)]);
    let explanation = Explanation {
        state: JobState::Queued,
        lane: Lane::Primary,
        place: Some(2),
        reason: WaitReason::Provider,
        holds,
        earliest_start: Some(Timestamp::from_millis(1_769_860_800_000)),
        counterfactual: Some(Counterfactual { changes, text: "with more it would start now".to_owned() }),
        summary: "number 2 in PRIMARY".to_owned(),
    };
    let reply = ExplainReply { run_id: run(7), explanation, journal_seq: 1 };
    let text = decisions::explanation(&reply);
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(text.lines().next(), Some("number 2 in PRIMARY"));
    let (first, second) = (run(1).to_string(), run(2).to_string());
    assert_eq!(words[3], ["provider", "provider:openai", "4", "of", "4", "1", "-", first.as_str(), "-"]);
    assert_eq!(words[4], [second.as_str(), "-"]);
    assert_eq!(words[5][..6], ["tokens_per_minute", "provider:openai", "-20", "of", "900", "left"]);
    assert!(text.contains("not before 2026-01-31T12:00:00.000Z"), "{text}");
    assert!(text.ends_with("  laneway limits set 'group:my team=3' provider:openai=5"), "{text}");
}
