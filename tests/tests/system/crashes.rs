//! kill -9 of every part in turn under load, then a comparison of what was acknowledged with what is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use laneway_bus::async_nats::{Message, Subscriber};
use laneway_bus::{Bus, LEADER_EPOCH, header};
use laneway_contract::{ApiError, Endpoint, ErrorCode, ServiceName};
use laneway_tests::stack::{Stack, connect};
use laneway_tests::streams::{expected_flight, flight, frames};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const ROUNDS: usize = 20;
const CLIENTS: usize = 6;

/// What one client was told, in the order in which it asked.
#[derive(Default)]
struct Told {
    session: String,
    /// (key, content, first seq) of each append that was acknowledged.
    appends: Vec<(String, String, u64)>,
    /// (run, input) of each submit that was acknowledged.
    runs: Vec<(String, String)>,
}

/// Asks again under the same key until somebody answers, as a client of ours would.
async fn insist(bus: &Bus, endpoint: Endpoint, body: &Value) -> Value {
    for _ in 0..30 {
        let reply: Result<Value, ApiError> = bus.request(endpoint, body).await;
        match reply {
            Ok(value) => return value,
            Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded) => {}
            Err(error) => panic!("{endpoint} {body}: {error}"),
        }
    }
    panic!("{endpoint} is never answered");
}

async fn client(n: usize, url: String, stop: Arc<AtomicBool>) -> Told {
    let bus = connect(&url).await;
    let session = uuid::Uuid::now_v7().to_string();
    let mut told = Told { session: session.clone(), ..Told::default() };
    let create = json!({"session_id": session, "model_id": "echo/delay=1", "memory_policy": "SESSION_SCOPED"});
    insist(&bus, Endpoint::SessionsCreate, &create).await;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let (key, content) = (format!("c{n}-{turn}"), format!("note {n} {turn}"));
        let body = json!({"session_id": session, "idempotency_key": key, "messages": [{"content": content}]});
        let reply = insist(&bus, Endpoint::SessionsAppend, &body).await;
        told.appends.push((key, content, reply["first_seq"].as_u64().unwrap()));
        let (run, input) = (uuid::Uuid::now_v7().to_string(), format!("ask {n} {turn}"));
        let body = json!({"run_id": run, "session_id": session, "input": input, "max_retries": 10});
        insist(&bus, Endpoint::RunsSubmit, &body).await;
        // Once more, as after a lost reply: it is the same run, and its input is in the thread once.
        insist(&bus, Endpoint::RunsSubmit, &body).await;
        told.runs.push((run.clone(), input));
        let body = json!({"run_id": run, "wait_ms": 1_000});
        // Whether it ends in time is no matter here: the comparison waits for every run.
        let waited: Result<Value, ApiError> = bus.request(Endpoint::RunsWait, &body).await;
        drop(waited);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_parts_are_killed_in_turn() {
    let mut stack = Stack::start("[limits]\nglobal = 16\nper_provider = 16\nper_model = 16\n").await;
    stack.start_part(ServiceName::Worker, "worker-b", &[]);
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(client(n, stack.nats.url(), stop.clone()));
    }
    for round in 0..ROUNDS {
        match round % 6 {
            0 => {
                stack.nats.kill9().await;
                stack.nats.restart().await;
            }
            1 => {
                let leader = stack.leader().await;
                replace(&mut stack, ServiceName::Scheduler, &leader).await;
            }
            2 => {
                let leader = stack.leader().await;
                let standby = if leader == "scheduler-a" { "scheduler-b" } else { "scheduler-a" };
                replace(&mut stack, ServiceName::Scheduler, standby).await;
            }
            3 => {
                let store = if round % 12 == 3 { "store-a" } else { "store-b" };
                replace(&mut stack, ServiceName::SessionStore, store).await;
            }
            4 => replace(&mut stack, ServiceName::Worker, "worker-a").await,
            _ => replace(&mut stack, ServiceName::FlightRecorder, "recorder-a").await,
        }
        stack.ready().await;
        // The load goes on before the next blow.
        grows(&stack, 20).await;
        let ended = stack.ended();
        assert!(ended.is_empty(), "round {round}: ended by themselves: {ended:?}\n{}", stack.logs());
    }
    stop.store(true, Ordering::Relaxed);
    let told = clients.join_all().await;
    for client in &told {
        compare(&stack, client).await;
    }
    compare_flight(&stack).await;
    let ended = stack.ended();
    assert!(ended.is_empty(), "ended by themselves: {ended:?}\n{}", stack.logs());
    let steps: usize = told.iter().map(|client| client.runs.len()).sum();
    assert!(steps > ROUNDS, "only {steps} runs were submitted under load");
    println!("{steps} runs and as many appends, {ROUNDS} rounds");
}

/// SIGSTOP is the crash that comes back: the process does not know that time has passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_says_nothing_of_its_old_epoch() {
    let mut stack = Stack::start("[limits]\nglobal = 16\nper_provider = 16\nper_model = 16\n").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(client(n, stack.nats.url(), stop.clone()));
    }
    let (frozen, old_epoch) = leads(&stack, |_, _| true).await;
    grows(&stack, 20).await;
    stack.signal_part(&frozen, "STOP");
    let (successor, new_epoch) = leads(&stack, |name, _| name != frozen).await;
    assert_eq!(new_epoch, old_epoch + 1);
    // These reach the frozen one too: the server keeps its subscriptions for as long as its connection stands.
    let probes = Probes::send(&stack).await;
    stack.signal_part(&frozen, "CONT");
    says(&stack, &frozen, "does not lead any more").await;
    grows(&stack, 20).await;
    // It is a standby again, with all that it has missed.
    stack.kill9(&successor).await;
    let (_, newest_epoch) = leads(&stack, |name, _| name == frozen).await;
    assert_eq!(newest_epoch, new_epoch + 1);
    stack.start_part(ServiceName::Scheduler, &successor, &[]);
    grows(&stack, 20).await;
    stop.store(true, Ordering::Relaxed);
    for client in &clients.join_all().await {
        compare(&stack, client).await;
    }
    compare_flight(&stack).await;
    let ended = stack.ended();
    assert!(ended.is_empty(), "ended by themselves: {ended:?}\n{}", stack.logs());
    // Once it has gone, it has said all that it ever will.
    assert_eq!(stack.terminate(&frozen).await, Some(0));
    probes.were_answered_once(new_epoch).await;
}

/// Requests whose replies are all kept, whoever sends them.
struct Probes {
    replies: Subscriber,
    bus: Bus,
    heard: Vec<Message>,
}

impl Probes {
    const COUNT: usize = 40;

    /// Sends them and waits for one reply to each.
    async fn send(stack: &Stack) -> Self {
        let bus = connect(&stack.nats.url()).await;
        let inbox = bus.client().new_inbox();
        let replies = bus.client().subscribe(format!("{inbox}.*")).await.unwrap();
        for n in 0..Self::COUNT {
            let (endpoint, body) = if n % 2 == 0 {
                (Endpoint::Status, json!({}))
            } else {
                (Endpoint::RunsSubmit, json!({"model_id": "echo/default", "input": format!("probe {n}")}))
            };
            let body = serde_json::to_vec(&body).unwrap();
            let client = bus.client();
            client
                .publish_with_reply(format!("laneway.{endpoint}"), format!("{inbox}.{n}"), body.into())
                .await
                .unwrap();
        }
        let mut probes = Self { replies, bus, heard: Vec::new() };
        while probes.heard.len() < Self::COUNT {
            let reply = tokio::time::timeout(Duration::from_secs(20), probes.replies.next()).await;
            probes.heard.push(reply.expect("the new leader answers").unwrap());
        }
        probes
    }

    async fn were_answered_once(mut self, epoch: u64) {
        // What was sent before this flush has arrived behind it.
        self.bus.flush().await.unwrap();
        while let Some(Some(reply)) = self.replies.next().now_or_never() {
            self.heard.push(reply);
        }
        let epochs: Vec<_> = self.heard.iter().map(|reply| header(reply.headers.as_ref(), LEADER_EPOCH)).collect();
        assert_eq!(epochs, vec![Some(epoch.to_string().as_str()); Self::COUNT], "a request was answered twice");
    }
}

/// Waits for a leader of this kind; its name and epoch.
async fn leads(stack: &Stack, is_it: impl Fn(&str, u64) -> bool) -> (String, u64) {
    for _ in 0..300 {
        if let Ok(status) = stack.ask(Endpoint::Status, json!({})).await {
            let (name, epoch) = (status["leader"].as_str().unwrap().to_owned(), status["epoch"].as_u64().unwrap());
            if is_it(&name, epoch) {
                return (name, epoch);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody takes over\n{}", stack.logs());
}

/// Waits until the log of a part has this text.
async fn says(stack: &Stack, part: &str, text: &str) {
    for _ in 0..400 {
        if std::fs::read_to_string(stack.log_path(part)).unwrap().contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{part} does not say {text:?}\n{}", stack.logs());
}

/// Waits until the load has written so many more frames.
async fn grows(stack: &Stack, frames: u64) {
    let seq = async || stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    let before = seq().await;
    for _ in 0..400 {
        if seq().await > before + frames {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the load does not go on\n{}", stack.logs());
}

async fn replace(stack: &mut Stack, service: ServiceName, name: &str) {
    stack.kill9(name).await;
    stack.start_part(service, name, &[]);
}

/// The public events are those of the journal, byte for byte, once each.
async fn compare_flight(stack: &Stack) {
    let last = stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    let expected = expected_flight(&frames(&stack.bus, last).await);
    let caught_up = async {
        while flight(&stack.bus).await.len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), caught_up).await.expect("the recorder catches up");
    // Every run has ended, so nothing public has been said since.
    let stored = flight(&stack.bus).await;
    let differs = stored.iter().zip(&expected).position(|(stored, expected)| stored != expected);
    assert_eq!((stored.len(), differs), (expected.len(), None), "FLIGHT is not what the journal says");
}

async fn compare(stack: &Stack, told: &Told) {
    for (run, _) in &told.runs {
        let reply = stack.wait_run(run).await;
        assert_eq!(reply["run"]["state"], "completed", "{reply}");
    }
    let thread = stack.thread(&told.session).await;
    for (key, content, seq) in &told.appends {
        let there =
            thread.get(*seq as usize - 1).unwrap_or_else(|| panic!("{key} at {seq} of {} is lost", thread.len()));
        assert_eq!(there, &("USER".to_owned(), content.clone()), "{key} is not at {seq}");
    }
    let mut counts = BTreeMap::<&str, usize>::new();
    for (_, content) in thread.iter().filter(|(role, _)| role == "USER") {
        *counts.entry(content).or_default() += 1;
    }
    for (content, count) in &counts {
        assert_eq!(*count, 1, "{content:?} is there {count} times");
    }
    assert_eq!(counts.len(), told.appends.len() + told.runs.len(), "every input and every append, and nothing else");
    // Attempts that were cut leave their partial text; complete answers are there once each.
    for (run, input) in &told.runs {
        let answers = thread.iter().filter(|(role, content)| role == "ASSISTANT" && content == input).count();
        assert_eq!(answers, 1, "run {run}: {answers} answers to {input:?}");
    }
}
