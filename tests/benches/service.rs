//! What the whole system does in a second, next to the raw limits of the same machine in the same run.
//!
//! `just bench` prints a table and writes `target/bench/service.json`. Every load is bounded in count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark is a program of its own"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use laneway_bus::async_nats::{self, jetstream};
use laneway_contract::{Endpoint, Event, JobState, Stream};
use laneway_flight_recorder::public_events;
use laneway_journal::{Body, Frame};
use laneway_tests::access::Access;
use laneway_tests::nats::NatsServer;
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::{Stack, connect};
use laneway_tests::streams::frames;
use laneway_tests::submits::{Leaves, Submits};
use serde_json::{Value, json};

const CLIENTS: usize = 64;

/// Of each load of runs.
const RUNS: usize = 20_000;

/// Figures by their names, in the order of the table.
#[derive(Default)]
struct Figures {
    /// Stands before the names of what follows.
    prefix: &'static str,
    all: Vec<(String, f64)>,
}

impl Figures {
    fn put(&mut self, name: &str, value: f64) {
        let name = format!("{}{name}", self.prefix);
        println!("{name:<38} {value:>12.3}");
        self.all.push((name, value));
    }

    fn percentiles(&mut self, name: &str, mut millis: Vec<f64>, which: &[u32]) {
        millis.sort_by(f64::total_cmp);
        for percent in which {
            let index = (millis.len() * *percent as usize / 100).min(millis.len() - 1);
            self.put(&format!("{name}_p{percent}_ms"), millis[index]);
        }
    }
}

#[tokio::main]
async fn main() {
    let provider = CountingProvider::start(100_000, Duration::from_millis(5)).await;
    let config = format!(
        "[limits]\nglobal = 64\nper_provider = 64\nper_model = 64\n[worker]\nslots = 96\n{}",
        provider.section("slow")
    );
    let mut figures = Figures::default();
    let stack = Stack::start(&config).await;
    loads(&stack, &provider, &mut figures, 1).await;
    for (name, megabytes) in stack.memory_mb() {
        figures.put(&format!("memory_mb_{name}"), megabytes);
    }
    drop(stack);
    takeovers(&mut figures).await;

    figures.prefix = "r3_";
    let [first, _second, _third] = NatsServer::start_three().await;
    let mut stack = Stack::around(first, &format!("replicas = 3\n{config}"), Access::plain()).await;
    stack.start_all().await;
    loads(&stack, &provider, &mut figures, 3).await;
    drop(stack);
    write(&figures);
}

/// Everything that is measured while nothing fails, with streams of so many replicas.
async fn loads(stack: &Stack, provider: &CountingProvider, figures: &mut Figures, replicas: usize) {
    raw(stack, figures, replicas).await;
    start_and_cancel(stack, provider, figures).await;
    appends(stack, figures).await;
    submits(stack, figures).await;
    runs(stack, figures, "runs_completed_per_s", Some("hello there")).await;
    runs(stack, figures, "runs_completed_no_thread_per_s", None).await;
    // A queue that is empty says nothing of how its runs have ended.
    let completed = settled(stack).await.get(&JobState::Completed).copied().unwrap_or_default();
    assert_eq!(completed, 2 * RUNS, "a run of the loads did not complete\n{}", stack.logs());
}

fn write(figures: &Figures) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    let map: BTreeMap<&str, f64> = figures.all.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let file = folder.join("service.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&map).unwrap()).unwrap();
    println!("written to {}", file.display());
}

/// What the machine gives without us.
async fn raw(stack: &Stack, figures: &mut Figures, replicas: usize) {
    let client = async_nats::connect(stack.nats.url()).await.unwrap();
    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config {
        name: "RAW".to_owned(),
        subjects: vec!["raw".to_owned()],
        num_replicas: replicas,
        ..jetstream::stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    let begin = Instant::now();
    let mut millis = Vec::new();
    for _ in 0..2_000 {
        let sent = Instant::now();
        context.publish("raw", vec![7; 256].into()).await.unwrap().await.unwrap();
        millis.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    figures.put("raw_synced_publish_per_s", 2_000.0 / begin.elapsed().as_secs_f64());
    figures.percentiles("raw_synced_publish", millis, &[50]);
    // Frames under load are large: what the disk syncs of those is the limit of every write load below.
    let begin = Instant::now();
    for _ in 0..200 {
        context.publish("raw", vec![7; 64 * 1024].into()).await.unwrap().await.unwrap();
    }
    figures.put("raw_synced_publish_64k_per_s", 200.0 / begin.elapsed().as_secs_f64());
    context.delete_stream("RAW").await.unwrap();

    let mut echoes = client.subscribe("raw.echo").await.unwrap();
    let echo = client.clone();
    let answering = tokio::spawn(async move {
        while let Some(message) = echoes.next().await {
            echo.publish(message.reply.unwrap(), message.payload).await.unwrap();
        }
    });
    let asking = async_nats::connect(stack.nats.url()).await.unwrap();
    let mut millis = Vec::new();
    for _ in 0..2_000 {
        let sent = Instant::now();
        asking.request("raw.echo", vec![7; 256].into()).await.unwrap();
        millis.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    answering.abort();
    figures.percentiles("raw_request", millis, &[50]);
}

/// From the client's send to the provider's request, and from the cancel to the closed connection; nothing else runs.
async fn start_and_cancel(stack: &Stack, provider: &CountingProvider, figures: &mut Figures) {
    let body = json!({"model_id": "slow/m", "memory_policy": "SESSION_SCOPED", "instructions": "say something"});
    let (mut starts, mut cancels) = (Vec::new(), Vec::new());
    for n in 0..220 {
        let session = stack.must(Endpoint::SessionsCreate, body.clone()).await["session"]["session_id"].clone();
        let arrivals = provider.arrivals();
        let sent = Instant::now();
        let run = stack.must(Endpoint::RunsSubmit, json!({"session_id": session})).await["run"]["run_id"].clone();
        let arrived = provider.next_arrival(arrivals).await;
        let closed = provider.closings();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let cancelled = Instant::now();
        let actor = json!({"id": "bench", "kind": "service"});
        stack.must(Endpoint::RunsCancel, json!({"run_id": run, "actor": actor})).await;
        let gone = provider.next_closing(closed).await;
        // The first ones warm up connections and caches.
        if n >= 20 {
            starts.push(arrived.duration_since(sent).as_secs_f64() * 1_000.0);
            cancels.push(gone.saturating_duration_since(cancelled).as_secs_f64() * 1_000.0);
        }
        stack.wait_run(run.as_str().unwrap()).await;
    }
    figures.percentiles("start", starts, &[50, 99]);
    figures.percentiles("cancel", cancels, &[50, 99]);
}

/// Runs `count` requests from 64 clients, each with a connection of its own; requests in a second, and their times.
async fn load<F>(stack: &Stack, endpoint: Endpoint, count: usize, body: F) -> (f64, Vec<f64>)
where
    F: Fn(usize) -> Value + Send + Sync + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let body = Arc::new(body);
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(connect(&stack.nats.url()).await);
    }
    let begin = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for bus in connections {
        let (next, body) = (next.clone(), body.clone());
        clients.spawn(async move {
            let mut millis = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return millis;
                }
                let sent = Instant::now();
                let reply: Result<Value, _> = bus.request(endpoint, &body(n)).await;
                reply.unwrap_or_else(|error| panic!("{endpoint}: {error}"));
                millis.push(sent.elapsed().as_secs_f64() * 1_000.0);
            }
        });
    }
    let millis = clients.join_all().await.concat();
    (count as f64 / begin.elapsed().as_secs_f64(), millis)
}

async fn sessions(stack: &Stack, count: usize, model_id: &str) -> Arc<Vec<String>> {
    let ids: Vec<String> = (0..count).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    let ids = Arc::new(ids);
    let (of, model_id) = (ids.clone(), model_id.to_owned());
    load(
        stack,
        Endpoint::SessionsCreate,
        count,
        move |n| json!({"session_id": of[n], "model_id": model_id, "memory_policy": "SESSION_SCOPED"}),
    )
    .await;
    ids
}

async fn appends(stack: &Stack, figures: &mut Figures) {
    let ids = sessions(stack, 1_000, "echo/default").await;
    let text = "x".repeat(1_024 - 24);
    let (per_s, millis) = load(
        stack,
        Endpoint::SessionsAppend,
        30_000,
        move |n| json!({"session_id": ids[n % ids.len()], "messages": [{"content": format!("{n:024}{text}")}]}),
    )
    .await;
    figures.put("appends_per_s", per_s);
    figures.percentiles("append", millis, &[50, 99]);
    recorder_lag(stack, figures, "appends").await;
}

async fn submits(stack: &Stack, figures: &mut Figures) {
    // No worker serves this model: what is measured is accepting and queueing.
    let ids = sessions(stack, 1_000, "slow/idle").await;
    stack.must(Endpoint::SessionsList, json!({"limit": 1})).await;
    let paused = ids.clone();
    load(
        stack,
        Endpoint::SessionsPause,
        ids.len(),
        move |n| json!({"session_id": paused[n], "actor": {"id": "bench", "kind": "service"}}),
    )
    .await;
    let target = ids.clone();
    let (per_s, millis) = load(
        stack,
        Endpoint::RunsSubmit,
        30_000,
        move |n| json!({"session_id": target[n % target.len()], "input": "hello"}),
    )
    .await;
    figures.put("submits_per_s", per_s);
    figures.percentiles("submit", millis, &[50, 99]);
    recorder_lag(stack, figures, "submits").await;
    load(
        stack,
        Endpoint::SessionsCancel,
        ids.len(),
        move |n| json!({"session_id": ids[n], "actor": {"id": "bench", "kind": "service"}}),
    )
    .await;
}

/// 20,000 runs over 1,000 sessions: queued while paused would hide the queue, so clients submit and the queue drains.
async fn runs(stack: &Stack, figures: &mut Figures, name: &str, input: Option<&'static str>) {
    let ids = sessions(stack, 1_000, "echo/default").await;
    let before = journal_bytes(stack).await;
    let begin = Instant::now();
    let target = ids.clone();
    load(stack, Endpoint::RunsSubmit, RUNS, move |n| {
        let session = &target[n % target.len()];
        input.map_or_else(|| json!({"session_id": session}), |input| json!({"session_id": session, "input": input}))
    })
    .await;
    loop {
        let status = stack.must(Endpoint::Status, json!({})).await;
        let queued: u64 = status["queued"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        if queued == 0 && status["in_use"]["global"] == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    figures.put(name, RUNS as f64 / begin.elapsed().as_secs_f64());
    figures.put(
        &name.replace("runs_completed", "journal_bytes").replace("_per_s", "_per_run"),
        (journal_bytes(stack).await - before) as f64 / RUNS as f64,
    );
    recorder_lag(stack, figures, &name.replace("_per_s", "")).await;
}

/// How long a client that submits gets no answer while one leader follows another.
async fn takeovers(figures: &mut Figures) {
    let mut stack = Stack::start("[limits]\nglobal = 64\nper_provider = 64\nper_model = 64\n").await;
    let mut submits = Submits::start(&stack, 16).await;
    for (name, how) in [("takeover_kill9_gap", Leaves::Kill9), ("takeover_stop_gap", Leaves::Stop)] {
        let mut millis = Vec::new();
        for _ in 0..10 {
            millis.push(submits.survive(&mut stack, how).await.as_secs_f64() * 1_000.0);
        }
        figures.put(&format!("{name}_ms"), millis.iter().copied().fold(0.0, f64::max));
        figures.percentiles(name, millis, &[50]);
    }
    submits.finish().await;
}

async fn journal_bytes(stack: &Stack) -> u64 {
    let stream = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Journal)).await.unwrap();
    stream.get_info().await.unwrap().state.bytes
}

/// A recorder that writes nothing for so long while frames are waiting does not work, and a bench without it is none.
const STALL: Duration = Duration::from_secs(30);

/// How long the recorder takes, after a load, until the last public event of the load is there.
async fn recorder_lag(stack: &Stack, figures: &mut Figures, load: &str) {
    let begin = Instant::now();
    let last = stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    // Frames without public events, as heartbeats, follow in idle times: the target is the last that has one.
    let target = last_public(stack, last).await;
    let flight = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Flight)).await.unwrap();
    let mut seen = (0, Instant::now());
    loop {
        let seq = flight.get_info().await.unwrap().state.last_sequence;
        if seq != seen.0 {
            seen = (seq, Instant::now());
            let message = flight.get_raw_message(seq).await.unwrap();
            let event: Value = serde_json::from_slice(&message.payload).unwrap();
            let source = (event["source"]["seq"].as_u64().unwrap(), event["source"]["index"].as_u64().unwrap());
            if source >= target {
                figures.put(&format!("recorder_lag_s_{load}"), seen.1.duration_since(begin).as_secs_f64());
                return;
            }
        }
        assert!(
            seen.1.elapsed() < STALL,
            "the recorder stands at event {seq} while {target:?} waits\n{}",
            stack.logs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where the last public event up to a frame has its origin: the frame, and its place there.
async fn last_public(stack: &Stack, last: u64) -> (u64, u64) {
    let journal = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Journal)).await.unwrap();
    for seq in (1..=last).rev() {
        let message = journal.get_raw_message(seq).await.unwrap();
        let frame = Frame::<Event>::decode(&message.payload).unwrap();
        if let Some(event) = public_events(&frame).last() {
            return (event.source().seq, u64::from(event.source().index));
        }
    }
    panic!("no public event in {last} frames");
}

/// Runs of the loads that have ended in each way, as the journal says.
async fn settled(stack: &Stack) -> BTreeMap<JobState, usize> {
    let last = stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    let mut settled = BTreeMap::new();
    for frame in frames(&stack.bus, last).await {
        let Body::Turns(turns) = frame.body else { continue };
        for event in turns.into_iter().flat_map(|turn| turn.events) {
            if let Event::RunSettled { run, .. } = event
                && run.fields.model_id.provider() == "echo"
            {
                *settled.entry(run.status.state).or_default() += 1;
            }
        }
    }
    settled
}
