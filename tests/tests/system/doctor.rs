//! What the command line says about a deployment, and its exit codes.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use laneway_contract::ServiceName;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_it_cannot_see_and_knows_instances() {
    let mut stack = Stack::start("").await;
    let (code, text) = laneway(&stack, "x", &["doctor"]);
    assert!(text.trim_end().ends_with("nothing is wrong; UNKNOWN: sync"), "{text}");
    assert_eq!(code, Some(0), "{text}");

    let is_here = |stack: &Stack, instance: &str, service: ServiceName| {
        laneway(stack, instance, &["doctor", "--ready", service.as_str(), "--here"]).0
    };
    for service in [ServiceName::SessionStore, ServiceName::Scheduler, ServiceName::FlightRecorder] {
        assert_eq!(is_here(&stack, "x", service), Some(0), "{service}");
    }
    assert_eq!(is_here(&stack, "worker-a", ServiceName::Worker), Some(0));
    assert_eq!(is_here(&stack, "worker-b", ServiceName::Worker), Some(5));

    // One scheduler leads, and both are there.
    let inbox = stack.bus.client().new_inbox();
    let mut answers = stack.bus.subscribe(inbox.clone()).await.unwrap();
    let ping = "$SRV.PING.laneway-scheduler";
    stack.bus.client().publish_with_reply(ping, inbox, "".into()).await.unwrap();
    let mut groups = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(1), answers.next()).await {
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        groups.push(answer["metadata"]["queue_group"].as_str().unwrap().to_owned());
    }
    groups.sort();
    assert!(groups.len() == 3 && groups[0].starts_with("leader-") && groups[1..] == ["scheduler"; 2], "{groups:?}");

    for name in ["scheduler-a", "scheduler-b"] {
        stack.kill9(name).await;
    }
    assert_eq!(is_here(&stack, "x", ServiceName::Scheduler), Some(5));
}
