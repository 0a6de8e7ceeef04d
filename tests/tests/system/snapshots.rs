//! Processes that die and begin with a snapshot: nothing is lost, and every fold is the same.

use std::time::Duration;

use futures::TryStreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_contract::{Endpoint, Family, ServiceName, SnapshotName, Stream, Subject};
use laneway_tests::stack::Stack;
use serde_json::json;

/// A snapshot after every few runs, and a worker that is slow enough for some to wait.
const CONFIG: &str = r"
[scheduler]
snapshot_every_bytes = 65536

[limits]
global = 16
per_provider = 16
per_model = 16
";

async fn submit(stack: &Stack, n: usize) -> String {
    let run = json!({"model_id": "echo/delay=5,tokens=4", "input": format!("run {n}")});
    stack.must(Endpoint::RunsSubmit, run).await["run"]["run_id"].as_str().unwrap().to_owned()
}

/// Submits until the leader's newest snapshot is of a later frame; the runs and that frame.
async fn until_snapshot(stack: &Stack, behind: u64) -> (Vec<String>, u64) {
    let mut runs = Vec::new();
    for n in 0..5_000 {
        runs.push(submit(stack, n).await);
        let status = stack.must(Endpoint::Status, json!({})).await;
        match status["snapshot"]["journal_seq"].as_u64() {
            Some(number) if number > behind => return (runs, number),
            Some(_) | None => {}
        }
    }
    panic!("no snapshot after 5,000 runs\n{}", stack.logs());
}

fn log_of(stack: &Stack, name: &str) -> String {
    std::fs::read_to_string(stack.log_path(name)).unwrap_or_default()
}

/// The lines of a log that say that a start begins with a snapshot, by its frame.
fn read_at_start(stack: &Stack, name: &str) -> Vec<u64> {
    let lines = log_of(stack, name);
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let read = lines.filter(|line| line.to_string().contains("begins with a snapshot"));
    read.filter_map(|line| line.pointer("/fields/snapshot").or_else(|| line.get("snapshot"))?.as_u64()).collect()
}

async fn start(config: &str) -> Stack {
    let mut stack = Stack::bare(config).await;
    stack.start_part(ServiceName::Scheduler, "scheduler-a", &[]);
    stack.start_part(ServiceName::SessionStore, "store-a", &[]);
    stack.start_part(ServiceName::Worker, "worker-a", &[]);
    stack.ready().await;
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_killed_begins_with_its_snapshot_and_every_run_completes() {
    let mut stack = start(CONFIG).await;
    let (mut runs, mut newest) = (Vec::new(), 0);
    for round in 0..3 {
        let (more, number) = until_snapshot(&stack, newest).await;
        runs.extend(more);
        stack.kill9("scheduler-a").await;
        stack.start_part(ServiceName::Scheduler, "scheduler-a", &[]);
        stack.ready().await;
        let read = read_at_start(&stack, "scheduler-a");
        assert!(read.iter().any(|read| *read >= number), "round {round}: {read:?}\n{}", stack.logs());
        newest = number;
    }
    for run in &runs {
        assert_eq!(stack.wait_run(run).await["run"]["state"], "completed");
    }
    let journal = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Journal)).await.unwrap();
    assert_eq!(journal.cached_info().state.first_sequence, 1, "a snapshot takes nothing from the journal");
    // A standby that begins with the snapshot compares its digests with the leader's: they come every 1,000 frames.
    stack.start_part(ServiceName::Scheduler, "scheduler-b", &[]);
    let session = stack.create_session("echo/default").await;
    for n in 0..1_100 {
        let append = json!({"session_id": session, "messages": [{"content": format!("note {n}")}]});
        stack.must(Endpoint::SessionsAppend, append).await;
    }
    assert_eq!(stack.ended(), Vec::<String>::new(), "{}", stack.logs());
    assert!(!read_at_start(&stack, "scheduler-b").is_empty(), "{}", stack.logs());
    stack.kill9("scheduler-a").await;
    stack.ready().await;
    assert_eq!(stack.leader().await, "scheduler-b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_damaged_or_gone_is_said_and_left() {
    let mut stack = start(CONFIG).await;
    let (runs, number) = until_snapshot(&stack, 0).await;
    stack.kill9("scheduler-a").await;
    let name = stack.bus.prefix().stream(Stream::Snapshots);
    let stream = stack.bus.jetstream().get_stream(&name).await.unwrap();
    for object in objects(&stack).await {
        let first = Subject::Snapshot { object, chunk: 0 };
        stack.bus.publish_stored(&first, HeaderMap::new(), "damaged".into()).await.unwrap();
    }
    stack.start_part(ServiceName::Scheduler, "scheduler-a", &[]);
    stack.ready().await;
    let log = log_of(&stack, "scheduler-a");
    assert!(log.contains("it was changed") && log.contains("the journal is read from its first frame"), "{log}");
    for run in &runs {
        assert_eq!(stack.wait_run(run).await["run"]["state"], "completed");
    }
    // It takes another at once, which the next start begins with.
    for _ in 0..200 {
        let status = stack.must(Endpoint::Status, json!({})).await;
        if status["snapshot"]["journal_seq"].as_u64().is_some_and(|newer| newer > number) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stack.kill9("scheduler-a").await;
    stack.start_part(ServiceName::Scheduler, "scheduler-b", &[]);
    stack.ready().await;
    assert!(!read_at_start(&stack, "scheduler-b").is_empty(), "{}", stack.logs());

    stack.kill9("scheduler-b").await;
    stream.purge().await.unwrap();
    stack.start_part(ServiceName::Scheduler, "scheduler-c", &[]);
    stack.ready().await;
    let log = log_of(&stack, "scheduler-c");
    assert!(log.contains("is missing") && log.contains("the journal is read from its first frame"), "{log}");
    for run in &runs {
        assert_eq!(stack.wait_run(run).await["run"]["state"], "completed");
    }
}

async fn objects(stack: &Stack) -> Vec<SnapshotName> {
    let prefix = stack.bus.prefix();
    let stream = stack.bus.jetstream().get_stream(prefix.stream(Stream::Snapshots)).await.unwrap();
    let subjects = stream.info_with_subjects(prefix.all(Family::Snapshots)).await.unwrap();
    let subjects: Vec<String> = subjects.map_ok(|(subject, _)| subject).try_collect().await.unwrap();
    let mut objects = Vec::new();
    for subject in subjects {
        match prefix.parse_subject(&subject) {
            Ok(Subject::Snapshot { object, .. }) => objects.push(object),
            other => panic!("{subject}: {other:?}"),
        }
    }
    objects.dedup();
    objects
}
