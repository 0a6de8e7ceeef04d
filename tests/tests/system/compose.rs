//! The main job from outside, through the published port of compose.yaml, with every container restarted on the way.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use laneway_bus::Bus;
use laneway_contract::{ApiError, Chunk, Endpoint, Family, Piece};
use laneway_tests::stack::connect;
use serde_json::{Value, json};

const PORT: &str = "14222";

/// The deployment of compose.yaml; taken down, with its volumes, at the end.
struct Compose;

impl Compose {
    fn run(args: &[&str]) -> bool {
        let v2 = Command::new("docker").args(["compose", "version"]).output().is_ok_and(|o| o.status.success());
        let mut command = if v2 { Command::new("docker") } else { Command::new("docker-compose") };
        if v2 {
            command.arg("compose");
        }
        command
            .args(["--project-name", "laneway-test"])
            .args(args)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .env("SERVICE_IMAGE", "laneway:dev")
            .env("NATS_IMAGE", "laneway-nats:dev")
            .env("NATS_PORT", PORT)
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Services whose health check, the binary itself, says this of them.
fn with_health(health: &str) -> usize {
    let mut command = Command::new("docker");
    command.args(["ps", "--quiet", "--filter", "label=com.docker.compose.project=laneway-test"]);
    let output = command.args(["--filter", &format!("health={health}")]).output().expect("docker ps");
    String::from_utf8_lossy(&output.stdout).lines().count()
}

async fn until_health(health: &str, services: usize) {
    for _ in 0..180 {
        if with_health(health) == services {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{} services are {health}, not {services}", with_health(health));
}

impl Drop for Compose {
    fn drop(&mut self) {
        Self::run(&["down", "--volumes", "--timeout", "20"]);
    }
}

async fn must(bus: &Bus, endpoint: Endpoint, body: Value) -> Value {
    for _ in 0..12 {
        let reply: Result<Value, ApiError> = bus.request(endpoint, &body).await;
        match reply {
            Ok(value) => return value,
            Err(error) if error.code.as_str() == "unavailable" => {}
            Err(error) => panic!("{endpoint} {body}: {error}"),
        }
    }
    panic!("{endpoint} is never answered");
}

async fn thread(bus: &Bus, session: &str) -> Vec<(Value, Value, Value)> {
    let body = json!({"session_id": session, "with_content": true, "limit": 1000});
    let page = must(bus, Endpoint::SessionsMessages, body).await;
    let rows = page["messages"].as_array().unwrap().iter();
    rows.map(|row| (row["role"].clone(), row["content"].clone(), row["content_hash"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: `just test-compose`"]
async fn compose_does_the_main_job_and_survives_a_restart() {
    let _compose = Compose;
    assert!(Compose::run(&["up", "--detach", "--no-build"]), "compose up");
    until_health("healthy", 4).await;
    let bus = connect(&format!("nats://127.0.0.1:{PORT}")).await;
    let create = json!({"model_id": "echo/delay=20", "memory_policy": "SESSION_SCOPED", "instructions": "be kind"});
    let session = must(&bus, Endpoint::SessionsCreate, create).await["session"]["session_id"].clone();
    let session = session.as_str().unwrap();
    let append = json!({"session_id": session, "messages": [{"content": "the blue door"}], "idempotency_key": "a"});
    must(&bus, Endpoint::SessionsAppend, append).await;

    let mut tokens = bus.subscribe(bus.prefix().all(Family::Tokens)).await.unwrap();
    let submit = json!({"session_id": session, "input": "one two three", "wait": true});
    let reply = must(&bus, Endpoint::RunsSubmit, submit).await;
    assert_eq!(reply["output"], "one two three", "{reply}");
    let mut streamed = String::new();
    while let Some(message) = tokens.next().await {
        let chunk: Chunk = serde_json::from_slice(&message.payload).unwrap();
        match chunk.piece {
            Piece::Text(text) => streamed.push_str(&text),
            Piece::End { .. } => break,
            Piece::Start { .. } | Piece::Thinking(_) | Piece::ToolCall { .. } => {}
        }
    }
    assert_eq!(streamed, "one two three");

    let long = json!({"session_id": session, "model_id": "echo/delay=50,tokens=10000", "input": "for ever"});
    let run = must(&bus, Endpoint::RunsSubmit, long).await["run"]["run_id"].clone();
    let text = async {
        while let Some(message) = tokens.next().await {
            let chunk: Chunk = serde_json::from_slice(&message.payload).unwrap();
            if matches!(chunk.piece, Piece::Text(_)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), text).await.expect("tokens of the long run");
    let actor = json!({"id": "me", "kind": "person"});
    must(&bus, Endpoint::RunsCancel, json!({"run_id": run, "actor": actor})).await;
    let ended = must(&bus, Endpoint::RunsWait, json!({"run_id": run, "wait_ms": 1_500})).await;
    assert_eq!(ended["run"]["state"], "cancelled", "{ended}");

    let before = thread(&bus, session).await;
    assert_eq!(before.len(), 6, "instructions, append, question, answer, question, partial answer");
    assert!(Compose::run(&["restart", "--timeout", "20"]), "compose restart");
    assert_eq!(thread(&bus, session).await, before);
    // Other containers on the same volumes.
    assert!(Compose::run(&["rm", "--stop", "--force"]), "compose rm");
    assert!(Compose::run(&["up", "--detach", "--no-build"]), "compose up again");
    assert_eq!(thread(&bus, session).await, before);
    let again =
        must(&bus, Endpoint::RunsSubmit, json!({"session_id": session, "input": "still there", "wait": true})).await;
    assert_eq!(again["output"], "still there");
    until_health("healthy", 4).await;
    assert!(Compose::run(&["stop", "nats"]), "compose stop");
    until_health("unhealthy", 4).await;
}
