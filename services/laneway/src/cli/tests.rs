//! What the command line takes and refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

const ID: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e";

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("laneway").chain(line.split_whitespace().map(|word| match word {
        "ID" => ID,
        word => word,
    })))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_is_taken() {
    for line in [
        "up --data d --port 4333 --slots 4",
        "up --nats nats://h:4222 --tls-ca a --tls-cert b --tls-key c --creds d",
        "serve session-store --path p --instance i --config laneway.toml",
        "serve scheduler --replicas 3 --prefix acme --log json",
        "serve worker --pool gpu --worker-id w1 --slots 2 --models echo/*,openai/gpt-5",
        "serve flight-recorder",
        "ask echo/default hello --session ID",
        "ask echo/default -",
        "session create echo/default --memory-policy WORKSPACE_SCOPED --label a=b --label c=d",
        "session list --state IDLE --wp wp1 --role coder --limit 5 --json",
        "session show ID",
        "session messages ID --from 2 --to 4 --no-content",
        "session append ID one two --key k --expected-tail 3",
        "session pause ID --reason lunch",
        "session pause ID --interrupt",
        "session resume ID",
        "session complete ID --cancel-runs",
        "session fail ID",
        "session cancel ID",
        "run submit hello --model echo/default --lane BACKGROUND --priority 10 --wait --wait-ms 1000",
        "run submit --request request.json",
        "run list --state completed_with_issues --session ID",
        "run show ID",
        "run watch ID",
        "run wait ID --wait-ms 5",
        "run cancel ID --reason no",
        "run cancel --session ID",
        "run cancel --token t",
        "run submit hello --model echo/default --on-busy REPLACE_QUEUED --queue-timeout-ms 5 --max-tokens-budget 9",
        "ask echo/default hello --lane SUBAGENT --priority 0 --group g --fairness-key a/b --on-busy INTERRUPT",
        "ask echo/default hello --not-before 2026-01-31T12:00:00Z --deadline 2026-01-31T13:00:00Z",
        "run explain ID --json",
        "run decide ID approve --approval a1 --reason fine",
        "run decide ID retry --reason again",
        "run retry ID ID --key again",
        "run retry --session ID --state failed --error-code rate_limited --ended-after 2026-01-31T12:00:00Z --dry-run",
        "run retry --state poisoned",
        "limits show",
        "limits set provider:openai=5 weight:PRIMARY= requests_per_minute:model:openai/gpt-5=600",
        "budget show --session ID",
        "budget set --wp nightly --tokens 100000 --usd 2.50",
        "intake rejects list --limit 1000 --cursor 7 --code unknown_model --since 2026-01-31T12:00:00Z",
        "intake rejects show 7",
        "intake rejects show 7 --raw -",
        "intake rejects replay 7 8 --keep",
        "intake rejects replay 7 --with mended.json --content-type application/msgpack",
        "intake rejects replay --all --code internal",
        "top",
        "top --once --seconds 20 --size 120x40 --svg docs/top.svg",
        "events tail --session ID --type run.completed --count 5 --no-follow",
        "events verify --from 7",
        "decode",
        "doctor --monitor http://127.0.0.1:8222",
        "doctor --ready flight-recorder",
        "doctor --ready scheduler --here",
        "provision --print --pool gpu",
        "provision --apply",
        "replay --from nats --save yesterday.journal",
        "replay --from yesterday.journal --until 2026-01-31T12:00:00Z --json",
        "replay --from yesterday.journal --policy p.toml --slots 16 --keys 20 --svg waits.svg",
        "completions zsh",
        "demo --echo",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "",
        "serve",
        "serve broker",
        "ask no-slash hello",
        "session show not-an-id",
        "session append ID",
        "session create --label nonsense",
        "session create --memory-policy FOREVER",
        "session list --state SLEEPING",
        "run cancel",
        "run cancel ID --session ID",
        "run submit --lane FAST",
        "run submit hello --wait-ms 5",
        "run submit hello --on-busy WAIT",
        "run submit hello --deadline tomorrow",
        "run decide ID",
        "run decide ID approve",
        "run decide ID ignore --reason x",
        "run retry",
        "run retry --dry-run",
        "run retry ID --session ID",
        "run retry --state completed",
        "limits set",
        "limits set global",
        "limits set speed=3",
        "limits set global=-1",
        "budget show",
        "budget set --session ID --wp w",
        "budget set --wp w --usd 1.2345678",
        "session resume ID --interrupt",
        "intake",
        "intake rejects list --limit 0",
        "intake rejects list --limit 1001",
        "intake rejects list --code unknown",
        "intake rejects list --since yesterday",
        "intake rejects show",
        "intake rejects show seven",
        "intake rejects replay",
        "intake rejects replay 7 --all",
        "intake rejects replay 7 --code internal",
        "intake rejects replay --code internal",
        "intake rejects replay --all --with mended.json",
        "intake rejects replay 7 --content-type text/xml",
        "top --svg top.svg",
        "top --once --size 10x5",
        "top --once --seconds 0",
        "top --seconds 5",
        "events tail --type run.unknown",
        "doctor --ready broker",
        "doctor --here",
        "provision",
        "provision --print --apply",
        "replay",
        "replay --from j --until yesterday",
        "replay --from j --svg waits.svg",
        "replay --from j --slots 4",
        "replay --from j --policy p.toml --slots 0",
        "up --tls-cert c",
        "up --log xml",
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line} was taken"));
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}

#[test]
fn flags_of_all_verbs_may_stand_behind_them() {
    let before = parse("--prefix acme --json run list").unwrap();
    let behind = parse("run list --prefix acme --json").unwrap();
    assert_eq!(before.globals.prefix, behind.globals.prefix);
    assert!(before.globals.json && behind.globals.json);
}

#[test]
fn flags_reach_the_configuration() {
    let cli = parse("serve worker --models echo/*,openai/gpt-5 --slots 3 --instance w1 --data d").unwrap();
    let overlay = cli.command.overlay();
    assert_eq!(overlay.worker.models, Some(vec!["echo/*".to_owned(), "openai/gpt-5".to_owned()]));
    assert_eq!((overlay.worker.slots, overlay.instance.as_deref()), (Some(3), Some("w1")));
    assert_eq!(overlay.data, Some(PathBuf::from("d")));
    let overlay = parse("serve session-store --path view").unwrap().command.overlay();
    assert_eq!(overlay.store.path, Some(PathBuf::from("view")));
}

#[test]
fn the_help_tells_the_exit_codes_and_describes_every_verb_and_flag() {
    let error = parse("--help").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    assert!(error.to_string().contains("130  interrupted"));
    describe(&Cli::command());
}

fn describe(command: &clap::Command) {
    for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
        assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
    }
    for verb in command.get_subcommands() {
        assert!(verb.get_about().is_some(), "{}", verb.get_name());
        describe(verb);
    }
}
