//! Clients that append, submit and cancel for as long as a test goes on, and the comparison of what they were told with what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use laneway_bus::Bus;
use laneway_contract::{ApiError, Endpoint, ErrorCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::stack::{Stack, connect};
use crate::streams::{each_epoch_begins_once, expected_flight, flight, frames};

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many there are, each with a connection and a session of its own.
    pub clients: usize,
    /// What answers them.
    pub model_id: String,
    /// How often the model repeats its question in its answer.
    pub repeats: usize,
    /// Bytes by which each appended message is longer than it has to be.
    pub padding: usize,
}

impl Default for Plan {
    /// Six clients of the echo.
    fn default() -> Self {
        Self { clients: 6, model_id: "echo/delay=1".to_owned(), repeats: 1, padding: 0 }
    }
}

/// Clients at work.
pub struct Load {
    plan: Plan,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Told>,
}

/// What one client was told, in the order in which it asked.
#[derive(Debug, Default)]
pub struct Told {
    /// Its session.
    pub session: String,
    /// (content, first seq) of each append that was acknowledged.
    pub appends: Vec<(String, u64)>,
    /// (run, input) of each submit that was acknowledged.
    pub runs: Vec<(String, String)>,
    /// Runs whose cancel was acknowledged.
    pub cancelled: BTreeSet<String>,
    /// (input, when) of runs that were said to have ended.
    pub ended: Vec<(String, Instant)>,
}

impl Load {
    /// Sends the clients to work.
    #[must_use]
    pub fn start(stack: &Stack, plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for n in 0..plan.clients {
            clients.spawn(client(n, plan.clone(), stack.nats.url(), stop.clone()));
        }
        Self { plan, stop, clients }
    }

    /// Ends the load and compares: every append and every run that was acknowledged is there once, in its order; the journal
    /// has one leader at a time, and the public events are the journal's. No part may have ended by itself.
    pub async fn finish(self, stack: &mut Stack) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let told = self.clients.join_all().await;
        for client in &told {
            compare(stack, client, self.plan.repeats).await;
        }
        let frames = frames(&stack.bus, stack.journal_seq().await).await;
        each_epoch_begins_once(&frames);
        // Every run has ended, so nothing public has been said since.
        compare_flight(stack, &expected_flight(&frames)).await;
        stack.all_run();
        let runs: usize = told.iter().map(|client| client.runs.len()).sum();
        let cancels: usize = told.iter().map(|client| client.cancelled.len()).sum();
        println!("{runs} runs, of which {cancels} were cancelled, and as many appends");
        told
    }
}

/// Between two tries, as a service that has too many requests asks for.
const PAUSE: Duration = Duration::from_millis(250);

/// Of so many runs of a client one is cancelled.
const CANCEL_EACH: u64 = 4;

/// Asks again under the same key until somebody answers, as a client of ours would.
async fn insist(bus: &Bus, endpoint: Endpoint, body: &Value) -> Value {
    for _ in 0..30 {
        let reply: Result<Value, ApiError> = bus.request(endpoint, body).await;
        match reply {
            Ok(value) => return value,
            Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded) => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => panic!("{endpoint} {body}: {error}"),
        }
    }
    panic!("{endpoint} is never answered");
}

async fn client(n: usize, plan: Plan, url: String, stop: Arc<AtomicBool>) -> Told {
    let bus = connect(&url).await;
    let session = uuid::Uuid::now_v7().to_string();
    let mut told = Told { session: session.clone(), ..Told::default() };
    let create = json!({"session_id": session, "model_id": plan.model_id, "memory_policy": "SESSION_SCOPED"});
    insist(&bus, Endpoint::SessionsCreate, &create).await;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let (key, content) = (format!("c{n}-{turn}"), format!("note {n} {turn} {}", "x".repeat(plan.padding)));
        let body = json!({"session_id": session, "idempotency_key": key, "messages": [{"content": content}]});
        let reply = insist(&bus, Endpoint::SessionsAppend, &body).await;
        told.appends.push((content, reply["first_seq"].as_u64().expect("a place in the thread")));
        let (run, input) = (uuid::Uuid::now_v7().to_string(), format!("ask {n} {turn} session:{session}"));
        let body = json!({"run_id": run, "session_id": session, "input": input, "max_retries": 10});
        insist(&bus, Endpoint::RunsSubmit, &body).await;
        // Once more, as after a lost reply: it is the same run, and its input is in the thread once.
        insist(&bus, Endpoint::RunsSubmit, &body).await;
        told.runs.push((run.clone(), input.clone()));
        if turn % CANCEL_EACH == 0 {
            let body = json!({"run_id": run, "actor": {"id": "load", "kind": "service"}});
            insist(&bus, Endpoint::RunsCancel, &body).await;
            told.cancelled.insert(run.clone());
        }
        let body = json!({"run_id": run, "wait_ms": 1_000});
        // Whether it ends in time is no matter here: the comparison waits for every run.
        let waited: Result<Value, ApiError> =
            bus.request_within(Endpoint::RunsWait, &body, Duration::from_secs(1), Duration::from_secs(2)).await;
        if waited.is_ok_and(|reply| reply["done"] == true) {
            told.ended.push((input, Instant::now()));
        }
    }
    told
}

async fn compare(stack: &Stack, told: &Told, repeats: usize) {
    for (run, _) in &told.runs {
        let reply = stack.wait_run(run).await;
        let receipt = &reply["run"]["cancel"];
        // A cancel that came after the end is not in the record.
        assert!(receipt.is_null() || told.cancelled.contains(run), "{reply}");
        let state = if receipt["too_late"] == false { "cancelled" } else { "completed" };
        assert_eq!(reply["run"]["state"], state, "{reply}");
    }
    let thread = stack.messages(&told.session).await;
    let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let seqs = thread.iter().map(|message| message["seq"].as_u64());
    assert!(seqs.eq((1..=thread.len() as u64).map(Some)), "the thread of {} has a hole", told.session);
    assert!(told.appends.is_sorted_by_key(|(_, seq)| *seq), "appends are not in the order in which they were made");
    for (content, seq) in &told.appends {
        let short = &content[..content.len().min(40)];
        let there = thread.get(*seq as usize - 1);
        let there = there.unwrap_or_else(|| panic!("{short:?} at {seq} of {} is lost", thread.len()));
        assert_eq!((text(there, "role"), &text(there, "content")), ("USER".to_owned(), content), "{short:?}");
    }
    let said: Vec<String> = thread.iter().filter(|m| m["role"] == "USER").map(|m| text(m, "content")).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    for content in &said {
        *counts.entry(content).or_default() += 1;
    }
    let twice = counts.iter().find(|(_, count)| **count > 1);
    assert_eq!(twice, None, "it is there more than once");
    let inputs: Vec<&String> = said.iter().filter(|content| content.starts_with("ask ")).collect();
    assert_eq!(counts.len(), told.appends.len() + inputs.len(), "every append, and nothing but inputs besides");
    // A run that was cancelled before its claim has left nothing.
    let claimed = told.runs.iter().filter(|(run, input)| !told.cancelled.contains(run) || inputs.contains(&input));
    assert!(
        claimed.map(|(_, input)| input).eq(inputs.iter().copied()),
        "inputs are not those of the runs in their order"
    );
    for (run, input) in &told.runs {
        // Attempts that were cut leave their partial text, under another finish.
        let whole = thread.iter().filter(|m| m["run_id"] == run.as_str() && m["finish"] == "stop");
        let answers: Vec<String> = whole.map(|message| text(message, "content").trim_end().to_owned()).collect();
        let right = [vec![input.as_str(); repeats].join(" ")];
        let is_left_out = answers.is_empty() && told.cancelled.contains(run);
        assert!(is_left_out || answers == right, "run {run}: the answers to {input:?} are {answers:?}");
    }
}

/// The public events are those of the journal, byte for byte, once each.
async fn compare_flight(stack: &Stack, expected: &[Vec<u8>]) {
    let caught_up = async {
        while flight(&stack.bus).await.len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), caught_up).await.expect("the recorder catches up");
    let stored = flight(&stack.bus).await;
    let differs = stored.iter().zip(expected).position(|(stored, expected)| stored != expected);
    assert_eq!((stored.len(), differs), (expected.len(), None), "FLIGHT is not what the journal says");
}
