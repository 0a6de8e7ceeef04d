//! The cookbook of docs/protocol.md, every command run as written, with the real `nats` CLI and the Python example.

use std::path::Path;
use std::process::{Command, Output};

use laneway_tests::stack::{Stack, binary};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The commands of the cookbook, one a line, in order.
fn cookbook() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let (_, cookbook) = text.split_once("## Cookbook").expect("a cookbook");
    let blocks = cookbook.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

fn shell(stack: &Stack, command: &str) -> Output {
    let folder = binary().parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("timeout");
    shell.args(["20", "sh", "-c", command]).env("PATH", path).env("NATS_URL", stack.nats.url());
    output_of(&mut shell, command)
}

fn output_of(command: &mut Command, about: &str) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{about}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{about}: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    output
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the nats CLI: `just test-all`"]
async fn the_cookbook_works_as_written() {
    let stack = Stack::start("").await;
    let mut ran = 0;
    for command in cookbook() {
        let output = tokio::task::block_in_place(|| shell(&stack, &command));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        for (part, expected) in [
            ("micro ls", "laneway-session-store"),
            ("micro info", "sessions-create"),
            ("micro stats", "runs-submit"),
            ("sessions.create", "\"memory_policy\":\"SESSION_SCOPED\""),
            ("sessions.append", "\"first_seq\":1"),
            ("which door was it\",\"wait", "\"output\":\"which door was it\""),
            ("sessions.messages", "remember the blue door"),
            ("artifacts.put '", "\"artifact_id\":\"b3:"),
            ("artifacts.get", "\"text\":\"a long text\""),
            ("sessions.pause", "\"state\":\"PAUSED\""),
            ("sessions.resume", "\"state\":\"IDLE\""),
            ("sessions.complete", "\"state\":\"COMPLETED\""),
            ("sessions.fail", "\"state\":\"FAILED\""),
            ("sessions.cancel", "\"state\":\"CANCELLED\""),
            ("runs.get", "\"state\":\"completed\""),
            ("runs.list", "\"run_id\":\"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d40\""),
            ("sessions.registry", "\"per_provider\":{"),
            ("\"input\":\"hello\",\"wait\":true", "\"output\":\"hello\""),
            ("runs.wait '{\"run_id\":\"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d41", "\"state\":\"cancelled\""),
            ("runs.wait '{\"run_id\":\"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d42", "\"output\":\"later\""),
            ("rejects.runs'", "\"code\":\"unknown_model\""),
            ("runs.wait '{\"run_id\":\"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d45", "\"output\":\"mended\""),
            ("laneway.status", "\"leader\":\"scheduler-"),
            ("stream ls", "LANEWAY_JOURNAL"),
            ("consumer ls", "scheduler"),
            ("consumer info", "Pull Mode: true"),
            ("tokens.>", "\"kind\":\"text\""),
            ("flight.>", "prev_hash"),
            ("laneway decode", "\"worker_id\":\"worker-a\""),
        ] {
            let ok = !command.contains(part) || shown.contains(expected);
            assert!(ok, "{command}\nshows no {expected}:\n{shown}");
        }
        assert!(!shown.contains("Nats-Service-Error"), "{command}\n{shown}");
        ran += 1;
    }
    assert!(ran >= 38, "only {ran} commands");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-py: `just test-all`"]
async fn the_python_example_works() {
    let stack = Stack::start("").await;
    let tools = root().join(".tools/venv/bin/python");
    let mut command = Command::new("timeout");
    command.args(["60"]).arg(tools).arg(root().join("deploy/examples/client.py")).args(["--nats", &stack.nats.url()]);
    let output = tokio::task::block_in_place(|| output_of(&mut command, "client.py"));
    assert!(!output.stdout.is_empty());
}
