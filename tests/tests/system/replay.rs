//! A journal that was recorded from a deployment, and replayed without one.

use std::path::Path;
use std::process::Output;

use laneway_contract::Endpoint;
use laneway_tests::stack::{Stack, binary};
use serde_json::{Value, json};
use tokio::process::Command;

/// Two runs may execute at a time.
const CONFIG: &str = "[limits]\nglobal = 2\nper_provider = 2\nper_model = 2\n";

async fn replay(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("replay").args(args).current_dir(folder).env_remove("LANEWAY_NATS");
    command.output().await.unwrap()
}

fn value(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs that wait for each other, of two lanes and two keys, one that fails, and one that is cancelled.
async fn traffic(stack: &Stack) -> usize {
    let mut runs = Vec::new();
    for n in 0..12 {
        let (lane, key) = (["PRIMARY", "BACKGROUND"][n % 2], ["red", "blue"][n / 2 % 2]);
        let model_id = "echo/delay=60,tokens=4";
        let run = json!({"model_id": model_id, "input": format!("{n}"), "lane": lane, "fairness_key": key});
        runs.push(stack.must(Endpoint::RunsSubmit, run).await["run"]["run_id"].as_str().unwrap().to_owned());
    }
    let fails = json!({"model_id": "echo/fail=9", "input": "x", "max_retries": 0, "lane": "VALIDATION"});
    runs.push(stack.must(Endpoint::RunsSubmit, fails).await["run"]["run_id"].as_str().unwrap().to_owned());
    let hangs = json!({"model_id": "echo/hang", "input": "x", "lane": "VALIDATION"});
    let hangs = stack.must(Endpoint::RunsSubmit, hangs).await["run"]["run_id"].clone();
    stack.in_state(&hangs, "running").await;
    stack.must(Endpoint::RunsCancel, json!({"run_id": hangs, "actor": {"id": "me", "kind": "person"}})).await;
    runs.push(hangs.as_str().unwrap().to_owned());
    for run in &runs {
        stack.wait_run(run).await;
    }
    runs.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_journal_shows_what_was_and_what_other_limits_would_have_done() {
    let mut stack = Stack::start(CONFIG).await;
    let submitted = traffic(&stack).await as u64;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let flags = stack.flags();
    let flags = flags.iter().map(String::as_str).collect::<Vec<_>>();
    let save = [&["--from", "nats", "--save", "yesterday.journal", "--json"], flags.as_slice()].concat();
    let live = value(&replay(folder, &save).await);
    let ended = json!({"PRIMARY": {"completed": 6}, "BACKGROUND": {"completed": 6},
        "VALIDATION": {"failed": 1, "cancelled": 1}});
    assert_eq!(live["runs"], ended);
    stack.kill9_all().await;
    stack.nats.kill9().await;

    // From the file it is the same, byte for byte, and needs no server.
    let from_file = ["--from", "yesterday.journal", "--json"];
    assert_eq!(value(&replay(folder, &from_file).await), live);
    let began = live["journal"]["began"].as_str().unwrap();
    let until = [&from_file[..], &["--until", began]].concat();
    assert_eq!(value(&replay(folder, &until).await)["runs"], json!({}));

    std::fs::write(folder.join("more.toml"), "[limits]\nglobal = 16\nper_provider = 16\nper_model = 16\n").unwrap();
    let other = ["--from", "yesterday.journal", "--policy", "more.toml", "--svg", "waits.svg", "--json"];
    let output = replay(folder, &other).await;
    let compared = value(&output);
    assert_eq!((&compared["kind"], &compared["submitted"]), (&json!("model"), &json!(submitted)));
    for lane in compared["lanes"].as_array().unwrap() {
        let mean = |column: &str| lane["waits"][column]["mean_ms"].as_u64().unwrap();
        assert_eq!(lane["submitted"], if lane["name"] == "VALIDATION" { 2 } else { 6 });
        assert!(mean("policy") <= mean("recorded"), "{lane}");
    }
    let mean = |column: &str| compared["lanes"][0]["waits"][column]["mean_ms"].as_u64().unwrap();
    assert!(mean("policy") * 2 < mean("recorded"), "{compared}");
    assert!(compared["error"]["max_ms"].as_u64().unwrap() < 1_000, "{compared}");
    assert_eq!(replay(folder, &other).await.stdout, output.stdout, "the same journal and policy, the same bytes");
    let picture = std::fs::read_to_string(folder.join("waits.svg")).unwrap();
    assert!(picture.contains(">PRIMARY: 6 runs compared"), "{picture}");

    // A file that was cut short ends with a code of its own, and names the frame.
    let whole = std::fs::read(folder.join("yesterday.journal")).unwrap();
    std::fs::write(folder.join("cut.journal"), &whole[..whole.len() / 2]).unwrap();
    let cut = replay(folder, &["--from", "cut.journal"]).await;
    let text = String::from_utf8_lossy(&cut.stderr).into_owned();
    assert_eq!(cut.status.code(), Some(7), "{text}");
    assert!(text.contains("cut_short: the recording ends at frame "), "{text}");
}
