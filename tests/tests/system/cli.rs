//! The command line as people and programs use it: the real binary, its exit codes, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use laneway_tests::nats::server_binary;
use laneway_tests::stack::{Stack, binary};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A command, its exit code, and texts that it shows.
type Case = (&'static str, i32, &'static [&'static str]);

const S: &str = "0197c2f4-8f6c-7cc1-9c1b-00000000c001";
const R: &str = "0197c2f4-8f6c-7cc1-9c1b-00000000d001";

const CONVERSATION: &[Case] = &[
    ("laneway ask echo/default 'hello there'", 0, &["hello there"]),
    ("laneway ask echo/fail=9 hello --session nowhere", 2, &[]),
    ("laneway session create echo/default --id $S --role coder --wp wp-7 --label team=blue", 0, &["$S"]),
    ("laneway session create echo/default --id $S --role coder --wp wp-7 --label team=blue", 0, &["$S"]),
    ("laneway session create echo/default --id $S --role other", 1, &["idempotency_conflict"]),
    ("laneway session create nobody/x", 1, &["unknown_model"]),
    ("laneway session list --role coder --wp wp-7 --label team=blue --state CREATED", 0, &["$S", "CREATED", "coder"]),
    ("laneway session append $S 'remember the blue door' 'and the key' --key k1 --expected-tail 0", 0, &["1 to 2"]),
    ("laneway session append $S 'remember the blue door' 'and the key' --key k1 --expected-tail 0", 0, &["before"]),
    ("laneway session append $S more --expected-tail 9", 1, &["tail_mismatch"]),
    ("echo 'from a pipe' | laneway session append $S -", 0, &["message 3"]),
    ("laneway ask echo/default 'which door' --session $S", 0, &["which door"]),
    ("laneway session messages $S", 0, &["remember the blue door", "from a pipe", "ASSISTANT", "stop"]),
    ("laneway session messages $S --from 2 --to 2", 0, &["and the key"]),
    ("laneway session messages $S --no-content", 0, &["SEQ", "b3:"]),
    ("laneway session show $S", 0, &["wp-7", "IDLE", "messages_count"]),
    ("laneway session show 0197c2f4-8f6c-7cc1-9c1b-00000000ffff", 1, &["not_found"]),
    ("laneway session show not-an-id", 2, &[]),
];

const RUNS: &[Case] = &[
    ("laneway run submit 'say it' --model echo/default --run-id $R --wait", 0, &["say it"]),
    ("laneway run submit other --model echo/default --run-id $R", 1, &["idempotency_conflict"]),
    ("laneway run show $R", 0, &["completed", "echo/default"]),
    ("laneway run wait $R", 0, &["say it", "completed"]),
    ("laneway run watch $R", 0, &["say it", "completed"]),
    ("laneway run watch 0197c2f4-8f6c-7cc1-9c1b-00000000ffff", 1, &["not_found"]),
    ("laneway run submit 'x' --model echo/fail=9 --max-retries 0 --wait", 4, &["provider_error"]),
    ("laneway run submit 'x' --model echo/default --lane FAST", 2, &[]),
    ("laneway run submit 'x' --session $S --model echo/hang --run-id ${R%1}2 --cancellation-token t1", 0, &["d002"]),
    ("laneway run wait ${R%1}2 --wait-ms 50", 4, &[]),
    ("laneway run cancel $R --wait", 0, &["d001", "completed", "too late, the answer came first"]),
    ("laneway run list --session $S --limit 5", 0, &["d002", "echo/hang"]),
    ("laneway run cancel --token t1 --reason enough", 0, &["d002"]),
    ("laneway run wait ${R%1}2", 4, &["cancelled"]),
    ("laneway run list --session $S --state cancelled", 0, &["d002", "cancelled"]),
    ("laneway run cancel ${R%1}2", 0, &["d002", "cancelled"]),
    ("laneway run cancel --session $S", 0, &["no run to cancel"]),
    ("laneway run cancel", 2, &[]),
];

const LIFECYCLE: &[Case] = &[
    ("laneway session pause $S --reason lunch", 0, &["$S is PAUSED"]),
    ("laneway run submit later --session $S --run-id ${R%1}3", 0, &["d003"]),
    ("laneway run show ${R%1}3", 0, &["queued", "paused"]),
    ("laneway session complete $S", 1, &["busy"]),
    ("laneway session resume $S", 0, &["$S is"]),
    ("laneway run wait ${R%1}3", 0, &["later"]),
    ("laneway session complete $S --reason done", 0, &["$S is COMPLETED"]),
    ("laneway session pause $S", 1, &["session_terminal", "COMPLETED"]),
    ("laneway session create echo/default --id ${S%1}2 && laneway session fail ${S%1}2", 0, &["is FAILED"]),
    ("laneway session create echo/default --id ${S%1}3 && laneway session cancel ${S%1}3", 0, &["is CANCELLED"]),
];

const AROUND: &[Case] = &[
    ("laneway events tail --no-follow --count 500 --session $S", 0, &["session.created", "session.completed"]),
    ("laneway events tail --no-follow --type run.failed", 0, &["run.failed", "provider_error"]),
    ("laneway events tail --type run.dreamt", 2, &[]),
    ("laneway events verify", 0, &["whole"]),
    ("laneway journal check", 0, &["epochs 1 to", "ok"]),
    ("laneway journal check --store /nowhere", 6, &["no_view"]),
    ("laneway journal repair", 6, &["stop them first"]),
    ("laneway doctor", 0, &["leader", "scheduler-", "worker-a", "nothing is wrong"]),
    ("laneway doctor --ready scheduler", 0, &["scheduler is ready"]),
    ("laneway doctor --ready nobody", 2, &[]),
    ("laneway provision --print", 0, &["LANEWAY_JOURNAL", "as it should be"]),
    ("laneway provision --print --prefix acme", 0, &["ACME_JOURNAL", "missing"]),
    ("laneway provision --apply --prefix acme --pool gpu", 0, &["ACME_JOURNAL", "gpu"]),
    ("laneway provision --print --prefix acme", 0, &["as it should be"]),
    ("laneway provision --print --prefix acme --replicas 3", 5, &["different", "num_replicas"]),
    ("laneway provision", 2, &[]),
    ("laneway completions bash", 0, &["_laneway()"]),
    ("laneway completions zsh", 0, &["#compdef laneway"]),
    ("laneway --help", 0, &["Exit codes:", "130"]),
    ("laneway ask echo/default hello --nats nats://127.0.0.1:1", 3, &["no NATS at"]),
    ("laneway ask echo/default hello --prefix nobody", 3, &["nobody answers"]),
    ("laneway session list --config wrong.toml", 2, &["wrong.toml:3", "colour"]),
    ("LANEWAY_WORKER__COLOUR=red laneway session list", 2, &["LANEWAY_WORKER__COLOUR"]),
    ("laneway serve scheduler --config wrong.toml", 2, &["wrong.toml:3", "colour"]),
];

/// Each with `--json`: every line is a value, and the key is in the first.
const JSON: &[(&str, i32, &str)] = &[
    ("laneway --json ask echo/default hello", 0, "kind"),
    ("laneway --json session create echo/default", 0, "session"),
    ("laneway --json session list", 0, "sessions"),
    ("laneway --json session messages $S", 0, "content"),
    ("laneway --json run submit hello --model echo/default --wait", 0, "output"),
    ("laneway --json run list", 0, "runs"),
    ("laneway --json run cancel --session $S", 0, "runs"),
    ("laneway --json events tail --no-follow", 0, "prev_hash"),
    ("laneway --json events verify", 0, "events"),
    ("laneway --json journal check", 0, "frames"),
    ("laneway --json doctor", 0, "findings"),
    ("laneway --json provision --print", 0, "streams"),
    // An error is a value on stderr.
    ("laneway --json session show 0197c2f4-8f6c-7cc1-9c1b-00000000ffff 2>&1", 1, "error"),
];

/// A shell that finds the binary that was built with the tests, and nats-server.
fn shell(command: &str, folder: &Path, nats: &str) -> Command {
    let programs = [binary(), server_binary()].map(|program| program.parent().unwrap().to_owned());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).kill_on_drop(true).stdin(Stdio::null());
    shell.env("PATH", path).env("S", S).env("R", R).env("USER", "ada").env("LANEWAY_NATS", nats).env("NATS_URL", nats);
    shell
}

async fn run(command: &str, folder: &Path, nats: &str) -> (Output, String) {
    let output = timeout(Duration::from_mins(1), shell(command, folder, nats).output());
    let output = output.await.unwrap_or_else(|_| panic!("{command}: no end")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_shows_what_it_did_and_ends_with_its_code() {
    let stack = Stack::start("").await;
    let folder = stack.dir().to_owned();
    std::fs::write(folder.join("wrong.toml"), "replicas = 1\n[worker]\ncolour = \"red\"\n").unwrap();
    let mut wrong = Vec::new();
    for (command, code, shows) in [CONVERSATION, RUNS, LIFECYCLE, AROUND].concat() {
        let (output, text) = run(command, &folder, &stack.nats.url()).await;
        let missing: Vec<_> = shows.iter().filter(|part| !text.contains(&part.replace("$S", S))).collect();
        if output.status.code() != Some(code) || !missing.is_empty() {
            wrong.push(format!("{command}: {}, should be {code}; not shown: {missing:?}\n{text}", output.status));
        }
    }
    for (command, code, key) in JSON {
        let (output, text) = run(command, &folder, &stack.nats.url()).await;
        let values: Result<Vec<Value>, _> =
            String::from_utf8_lossy(&output.stdout).lines().map(serde_json::from_str).collect();
        let found = values.as_ref().is_ok_and(|values| values.first().is_some_and(|value| value.get(key).is_some()));
        if output.status.code() != Some(*code) || !found {
            wrong.push(format!("{command}: {}, should be {code} and have {key}: {values:?}\n{text}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}\n{}", wrong.len(), wrong.join("\n"), stack.logs());
}

/// A long-running command whose lines are read as they come.
struct Running {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    shown: String,
}

impl Running {
    fn start(args: &[&str], folder: &Path) -> Self {
        // Not through a shell, which would take the signals.
        let mut command = Command::new(binary());
        let path = std::env::join_paths([server_binary().parent().unwrap()]).unwrap();
        command.args(args).current_dir(folder).env("PATH", path).env_remove("LANEWAY_NATS").kill_on_drop(true);
        let log = std::fs::File::create(folder.join("stderr")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, shown: String::new() }
    }

    /// Reads until a line has this text.
    async fn until(&mut self, text: &str) {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.shown.push_str(&line);
                self.shown.push('\n');
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = timeout(Duration::from_mins(1), found).await;
        assert!(found == Ok(true), "{text:?} is not shown:\n{}", self.shown);
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
    }

    /// Waits for the end; the exit code.
    async fn end(mut self) -> (Option<i32>, String) {
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.shown.push_str(&line);
                self.shown.push('\n');
            }
            self.child.wait().await.unwrap()
        };
        let status = timeout(Duration::from_mins(1), rest).await.expect("an end");
        (status.code(), self.shown)
    }
}

/// Processes of this machine whose command line names a folder: a nats-server does, by its configuration file.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|l| l.contains(&folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn up_starts_it_all_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    for round in ["first", "second"] {
        let mut up = Running::start(&["up", "--data", "data", "--port", &port], folder.path());
        up.until("ready: ").await;
        let server = processes_in(&folder.path().join("data"));
        assert_eq!(server.len(), 1, "one nats-server: {server:?}");
        let ask =
            format!("laneway session create echo/default --id $S && laneway ask echo/default {round} --session $S");
        let nats = format!("nats://127.0.0.1:{port}");
        let (output, text) = run(&ask, folder.path(), &nats).await;
        assert!(output.status.success() && text.contains(round), "{text}");
        let (_, thread) = run("laneway session messages $S", folder.path(), &nats).await;
        assert!(thread.contains("first"), "the second start has what the first was told: {thread}");
        up.signal("TERM").await;
        let (code, shown) = up.end().await;
        assert_eq!(code, Some(0), "{shown}\n{}", std::fs::read_to_string(folder.path().join("stderr")).unwrap());
        assert_eq!(processes_in(&folder.path().join("data")), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Running::start(&["demo", "--echo", "--data", "data"], folder.path());
    demo.until("Three sessions at once").await;
    assert_eq!(processes_in(&folder.path().join("data")).len(), 1, "one nats-server");
    let (code, shown) = demo.end().await;
    assert_eq!(code, Some(0), "{shown}");
    for text in ["cancelled", "completed", "whole", "Try next"] {
        assert!(shown.contains(text), "no {text:?} in\n{shown}");
    }
    assert_eq!(processes_in(&folder.path().join("data")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_that_is_interrupted_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Running::start(&["demo", "--echo", "--data", "data"], folder.path());
    demo.until("Three sessions at once").await;
    assert_eq!(processes_in(&folder.path().join("data")).len(), 1, "one nats-server");
    demo.signal("INT").await;
    let (code, shown) = demo.end().await;
    assert_eq!(code, Some(130), "{shown}");
    assert_eq!(processes_in(&folder.path().join("data")), Vec::<String>::new());
}

/// The commands of README.md under a heading.
fn readme(heading: &str) -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let text = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, part) = text.split_once(heading).expect("the heading");
    let (part, _) = part.split_once("\n## ").expect("the next one");
    part.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the nats CLI and jq: `just test-all`"]
async fn the_worked_example_of_the_readme_works_as_written() {
    let stack = Stack::start("").await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // The path that it sets is for whoever has run the demo; here it only has to be well formed.
    let script = format!("set -eu\n{}", readme("## One worked example"));
    let (output, text) = run(&script, root, &stack.nats.url()).await;
    assert!(output.status.success(), "{script}\n{text}");
    for shown in ["\"output\":\"hello\"", "Which door was it?", "ASSISTANT", "completed", "session.created"] {
        assert!(text.contains(shown), "no {shown} in\n{text}");
    }
}
