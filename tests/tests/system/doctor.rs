//! What the command line says about a deployment, and its exit codes.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use laneway_tests::stack::{Stack, binary};
use serde_json::Value;

/// The exit code and the output of a command, run as on the host of `instance`.
fn laneway(stack: &Stack, instance: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--nats", &stack.nats.url()]).env("LANEWAY_INSTANCE", instance);
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn provision_shows_consumers_with_their_state_and_alters_none() {
    let stack = Stack::bare("").await;
    let provision = |how: &str| {
        let (code, text) = laneway(&stack, "x", &["provision", how, "--json", "--pool", "gpu"]);
        let shown: Value = serde_json::from_str(&text).unwrap();
        let consumers = shown["consumers"].as_array().unwrap().iter();
        let name = |consumer: &Value| consumer["config"]["durable_name"].as_str().unwrap().to_owned();
        let state = |consumer: &Value| consumer["state"].as_str().unwrap().to_owned();
        (code, consumers.map(|consumer| (name(consumer), state(consumer))).collect::<BTreeMap<_, _>>())
    };
    let (code, missing) = provision("--print");
    assert!(missing.len() == 3 && missing.values().all(|state| state == "missing"), "{missing:?}");
    assert!(missing.keys().any(|name| name.starts_with("pool-")), "the pool of workers by default: {missing:?}");
    assert_eq!(code, Some(0));
    for how in ["--apply", "--print"] {
        let (code, there) = provision(how);
        assert!(there.values().all(|state| state == "as it should be"), "{how}: {there:?}");
        assert_eq!(code, Some(0), "{how}");
    }

    let intake = stack.bus.jetstream().get_stream("LANEWAY_INTAKE").await.unwrap();
    intake.delete_consumer("scheduler").await.unwrap();
    let mut other = laneway_bus::intake_consumer_config();
    other.ack_wait = Duration::from_secs(5);
    intake.create_consumer(other).await.unwrap();
    for how in ["--print", "--apply"] {
        let (code, states) = provision(how);
        assert_eq!(
            (code, states["scheduler"].as_str(), states["gpu"].as_str()),
            (Some(5), "different", "as it should be")
        );
    }
    let kept = intake.consumer_info("scheduler").await.unwrap();
    assert_eq!(kept.config.ack_wait, Duration::from_secs(5));
}
