//! SIGSTOP is the crash that comes back: the process does not know that time has passed.

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use laneway_bus::async_nats::{Message, Subscriber};
use laneway_bus::{Bus, LEADER_EPOCH, header};
use laneway_contract::{ATTEMPT_LEASE_MS, Endpoint, LEADER_LEASE_MS, ServiceName};
use laneway_tests::draw::{Draw, rounds};
use laneway_tests::load::{Load, Plan};
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::{Stack, connect};
use serde_json::{Value, json};

/// The most runs at a time.
const LIMIT: u32 = 5;

/// A deployment with two workers and two stores under load. The provider counts what is in flight.
async fn loaded() -> (Stack, CountingProvider, Load) {
    let provider = CountingProvider::start(4, Duration::from_millis(25)).await;
    let limits = format!("[limits]\nglobal = {LIMIT}\nper_provider = {LIMIT}\nper_model = {LIMIT}\n");
    let mut stack = Stack::start(&format!("{limits}{}", provider.section("counted"))).await;
    stack.start_part(ServiceName::Worker, "worker-b", &[]);
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    let load = Load::start(&stack, Plan { model_id: "counted/m".to_owned(), repeats: 4, ..Plan::default() });
    stack.grows(20).await;
    (stack, provider, load)
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Leader,
    Standby,
    Part(&'static str),
    Nats,
}

/// Each for less and for more than it may be silent without anybody noticing.
const FREEZES: [(Who, u64); 12] = [
    (Who::Leader, LEADER_LEASE_MS / 3),
    (Who::Leader, LEADER_LEASE_MS + 3_000),
    (Who::Standby, LEADER_LEASE_MS / 3),
    (Who::Standby, LEADER_LEASE_MS + 3_000),
    (Who::Part("store-a"), 500),
    // A request is answered within 2 s, or sent again.
    (Who::Part("store-a"), 5_000),
    (Who::Part("worker-a"), 500),
    // A worker that was not heard for 3 s gets no more runs, and a dispatch is taken within 5 s.
    (Who::Part("worker-a"), 7_000),
    (Who::Part("recorder-a"), 500),
    (Who::Part("recorder-a"), 5_000),
    (Who::Nats, LEADER_LEASE_MS / 3),
    (Who::Nats, LEADER_LEASE_MS + 3_000),
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_frozen_and_comes_back_has_done_no_harm() {
    let mut draw = Draw::begin("frozen");
    let (mut stack, provider, load) = loaded().await;
    let mut order = FREEZES.repeat(rounds(1));
    draw.shuffle(&mut order);
    for (who, millis) in order {
        let pause = Duration::from_millis(millis) + draw.up_to_ms(200);
        if let Who::Nats = who {
            stack.nats.signal("STOP");
            tokio::time::sleep(pause).await;
            stack.nats.signal("CONT");
        } else {
            let leader = stack.leads(|_, _| true).await.0;
            let standby = || stack.running(ServiceName::Scheduler).into_iter().find(|name| *name != leader);
            let name = match who {
                Who::Leader | Who::Nats => leader.clone(),
                Who::Standby => standby().expect("two schedulers"),
                Who::Part(name) => name.to_owned(),
            };
            stack.signal_part(&name, "STOP");
            tokio::time::sleep(pause).await;
            stack.signal_part(&name, "CONT");
        }
        stack.ready().await;
        stack.grows(20).await;
        stack.all_run();
    }
    load.finish(&mut stack).await;
    provider.limits_held(LIMIT);
}

/// Its calls are answered while it stands still, and it comes back with whole answers of runs that others have answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_past_its_lease_adds_no_second_answer() {
    let (mut stack, provider, load) = loaded().await;
    for _ in 0..rounds(1) {
        let run = freeze_with_a_run(&stack, "worker-a").await;
        // Nobody else takes it before the lease has ended.
        let begun = Instant::now();
        let again = loop {
            let reply = stack.must(Endpoint::RunsGet, json!({"run_id": run})).await["run"].clone();
            let (attempt, worker) = (reply["attempt"].as_u64(), reply["worker_id"].as_str());
            if attempt > Some(1) && worker == Some("worker-b") {
                break reply;
            }
            let lease = Duration::from_millis(ATTEMPT_LEASE_MS);
            assert!(begun.elapsed() < 3 * lease, "nobody else takes {reply}\n{}", stack.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert!(begun.elapsed() > Duration::from_millis(ATTEMPT_LEASE_MS - 5_000), "taken too early: {again}");
        stack.signal_part("worker-a", "CONT");
        stack.ready().await;
        stack.grows(20).await;
    }
    load.finish(&mut stack).await;
    provider.limits_held(LIMIT);
}

/// Stops a worker in the middle of a first attempt that nobody has cancelled, which would be the last; the run.
async fn freeze_with_a_run(stack: &Stack, worker: &str) -> Value {
    let executes = |run: &Value| {
        let first = run["attempt"] == 1 && run["cancel"].is_null();
        run["state"] == "running" && run["worker_id"] == worker && first
    };
    for _ in 0..200 {
        stack.signal_part(worker, "STOP");
        let running = stack.must(Endpoint::RunsList, json!({"state": "running"})).await;
        if let Some(run) = running["runs"].as_array().unwrap().iter().find(|run| executes(run)) {
            // A report that it had sent before has come in by then, and a cancel of the load, which follows the submit.
            stack.grows(3).await;
            if executes(&stack.must(Endpoint::RunsGet, json!({"run_id": run["run_id"]})).await["run"]) {
                return run["run_id"].clone();
            }
        }
        stack.signal_part(worker, "CONT");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{worker} never executes a run\n{}", stack.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_says_nothing_of_its_old_epoch() {
    let (mut stack, provider, load) = loaded().await;
    let (frozen, old_epoch) = stack.leads(|_, _| true).await;
    stack.signal_part(&frozen, "STOP");
    let (successor, new_epoch) = stack.leads(|name, _| name != frozen).await;
    assert_eq!(new_epoch, old_epoch + 1);
    // These reach the frozen one too: the server keeps its subscriptions for as long as its connection stands.
    let probes = Probes::send(&stack).await;
    stack.signal_part(&frozen, "CONT");
    stack.says(&frozen, "does not lead any more", 0).await;
    stack.grows(20).await;
    // It is a standby again, with all that it has missed.
    stack.kill9(&successor).await;
    let (_, newest_epoch) = stack.leads(|name, _| name == frozen).await;
    assert_eq!(newest_epoch, new_epoch + 1);
    stack.start_part(ServiceName::Scheduler, &successor, &[]);
    stack.grows(20).await;
    // It has written nothing in its old epoch either: each epoch of the journal begins with its leader.
    load.finish(&mut stack).await;
    provider.limits_held(LIMIT);
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
