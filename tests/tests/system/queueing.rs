//! Queueing and cancellation through JetStream: the intake, and the two ways in which a cancel reaches a worker.

use std::time::{Duration, Instant};

use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use laneway_bus::async_nats::jetstream::stream;
use laneway_bus::stream_config;
use laneway_contract::{
    ArtifactReply, Catalog, Endpoint, FlightKind, ProviderSpec, ServiceName, Stream, Subject, Token,
};
use laneway_flight_recorder::{EventHash, public_events};
use laneway_runtime::Shutdown;
use laneway_tests::provider::CountingProvider;
use laneway_tests::proxy::Proxy;
use laneway_tests::stack::{Stack, connect};
use laneway_tests::streams::frames;
use laneway_worker::WorkerConfig;
use serde_json::json;

async fn publish_to_intake(stack: &Stack, body: &serde_json::Value) {
    let bytes = serde_json::to_vec(body).unwrap();
    stack.bus.publish_stored(&Subject::Intake, HeaderMap::new(), bytes.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_published_while_everything_is_down_end_once_it_is_up() {
    let mut stack = Stack::bare("").await;
    laneway_bus::ensure_streams(&stack.bus).await.unwrap();
    let runs: Vec<String> = (0..20).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    for run in &runs {
        let body = json!({"run_id": run, "model_id": "echo/default", "input": format!("later {run}")});
        publish_to_intake(&stack, &body).await;
        publish_to_intake(&stack, &body).await;
    }
    publish_to_intake(&stack, &json!({"model_id": "echo/default", "colour": "red"})).await;
    stack.start_all().await;
    for run in &runs {
        let reply = loop {
            // The leader may not have come to this one yet.
            match stack.ask(Endpoint::RunsGet, json!({"run_id": run})).await {
                Ok(_) => break stack.wait_run(run).await,
                Err(error) => assert_eq!(error.code.as_str(), "not_found"),
            }
        };
        assert_eq!(reply["output"], json!(format!("later {run}")));
    }
    let rejects = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Rejects)).await.unwrap();
    let mut refused = None;
    for _ in 0..100 {
        refused = rejects.get_last_raw_message_by_subject("laneway.rejects.runs").await.ok();
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused: serde_json::Value = serde_json::from_slice(&refused.expect("a dead letter").payload).unwrap();
    assert_eq!(refused["code"], "unknown_field", "{refused}");
    let get = json!({"artifact_id": refused["artifact_id"]});
    let body: ArtifactReply = stack.bus.request(Endpoint::ArtifactsGet, &get).await.unwrap();
    assert!(String::from_utf8_lossy(&body.bytes.unwrap()).contains("colour"), "the refused body is kept");
}

/// A deployment whose one worker runs in this test, behind a cable, and executes a run.
struct Cabled {
    stack: Stack,
    provider: CountingProvider,
    proxy: Proxy,
    run: String,
}

/// Through control or the renewals: far less than the 30 s after which the lease of a cancelled run expires.
const PROMPT: Duration = Duration::from_secs(10);

/// So many pieces of an answer that it goes on for ever.
const FOR_EVER: u32 = 100_000;

/// Returns when the first piece of the answer is out; there is one every 20 ms.
async fn cabled(pieces: u32, change: impl FnOnce(&mut WorkerConfig)) -> Cabled {
    let provider = CountingProvider::start(pieces, Duration::from_millis(20)).await;
    let section = provider.section("slow");
    let mut stack = Stack::bare(&section).await;
    let port = stack.nats.url().rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).await;
    stack.start_part(ServiceName::Scheduler, "scheduler-a", &[]);
    stack.start_part(ServiceName::SessionStore, "store-a", &[]);
    stack.ready().await;
    let table: toml::Table = toml::from_str(&section).unwrap();
    let spec: ProviderSpec = table["providers"]["slow"].clone().try_into().unwrap();
    let catalog = Catalog::built_in().unwrap().with([("slow".to_owned(), spec)].into());
    let mut config = WorkerConfig::new(Token::parse("cabled").unwrap(), 4, catalog);
    change(&mut config);
    let bus = connect(&proxy.url()).await;
    tokio::spawn(laneway_worker::run(bus, config, Shutdown::new()));
    let run = uuid::Uuid::now_v7().to_string();
    let mut chunks = stack.bus.client().subscribe(format!("laneway.tokens.{run}")).await.unwrap();
    let submit = json!({"run_id": run, "model_id": "slow/m", "input": "go on"});
    stack.must(Endpoint::RunsSubmit, submit).await;
    // Once a piece of the answer is out, a cancel leaves a partial answer.
    let spoken = async {
        while let Some(chunk) = chunks.next().await {
            if serde_json::from_slice::<serde_json::Value>(&chunk.payload).unwrap()["kind"] == "text" {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), spoken).await.expect("a first piece of the answer");
    Cabled { stack, provider, proxy, run }
}

impl Cabled {
    /// Returns when the cancel is in the journal.
    async fn cancel(&self) {
        let actor = json!({"id": "me", "kind": "person"});
        self.stack.must(Endpoint::RunsCancel, json!({"run_id": self.run, "actor": actor})).await;
    }

    /// The call is closed soon after `since`, and by the worker's own report: a lease that expires keeps no partial answer.
    async fn is_stopped_by_its_worker(&self, closings: usize, since: Instant) {
        let closed = self.provider.next_closing(closings).await;
        let took = closed.saturating_duration_since(since);
        assert!(took < PROMPT, "the call was closed after {took:?}");
        let reply = self.stack.wait_run(&self.run).await;
        assert_eq!(reply["run"]["state"], "cancelled", "{reply}");
        let read = json!({"session_id": reply["run"]["session_id"], "min_seq": reply["journal_seq"]});
        let thread = self.stack.must(Endpoint::SessionsMessages, read).await;
        let finishes: Vec<_> =
            thread["messages"].as_array().unwrap().iter().map(|m| (&m["role"], &m["finish"])).collect();
        assert_eq!(finishes, [(&json!("USER"), &json!(null)), (&json!("ASSISTANT"), &json!("cancelled"))], "{thread}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_learns_of_a_cancel_from_the_control_stream() {
    let cabled = cabled(FOR_EVER, |config| config.ignore_renewal_stop = true).await;
    let closings = cabled.provider.closings();
    cabled.proxy.cut();
    cabled.cancel().await;
    assert_eq!(cabled.provider.closings(), closings, "it cannot know yet");
    let healed = Instant::now();
    cabled.proxy.heal();
    cabled.is_stopped_by_its_worker(closings, healed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_control_stream_the_renewal_tells_of_the_cancel() {
    // The leader makes the stream again when it is gone, so the worker has to be deaf as well.
    let cabled = cabled(FOR_EVER, |config| config.ignore_control = true).await;
    let closings = cabled.provider.closings();
    let name = cabled.stack.bus.prefix().stream(Stream::Control);
    cabled.stack.bus.jetstream().delete_stream(name).await.unwrap();
    let cancelled = Instant::now();
    cabled.cancel().await;
    cabled.is_stopped_by_its_worker(closings, cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_its_lease_is_taken_and_not_paid_for_again() {
    let cabled = cabled(100, |_| {}).await;
    cabled.proxy.cut();
    // The provider is on this side of the cable: the whole answer is there long before the lease expires.
    cabled.stack.in_state(&json!(cabled.run), "queued").await;
    cabled.proxy.heal();
    let reply = cabled.stack.wait_run(&cabled.run).await;
    assert_eq!((&reply["run"]["state"], &reply["run"]["attempt"]), (&json!("completed"), &json!(1)), "{reply}");
    assert_eq!(cabled.provider.arrivals(), 1, "another call was paid for");
    let frames = frames(&cabled.stack.bus, cabled.stack.journal_seq().await).await;
    let said: Vec<_> = frames
        .iter()
        .flat_map(public_events)
        .filter(|event| event.kind() == FlightKind::WorkflowRecovery)
        .map(|event| serde_json::from_slice::<serde_json::Value>(&event.encode(EventHash::ZERO).unwrap()).unwrap())
        .map(|event| [event["payload"]["found"].clone(), event["payload"]["action"].clone()])
        .collect();
    assert_eq!(said, [[json!("lease_expired"), json!("retry")], [json!("late_answer"), json!("settle")]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_stop_finishes_what_it_executes() {
    let mut stack = Stack::start("").await;
    let run = uuid::Uuid::now_v7().to_string();
    let submit = json!({"run_id": run, "model_id": "echo/delay=100,tokens=20", "input": "to the end"});
    stack.must(Endpoint::RunsSubmit, submit).await;
    stack.in_state(&json!(run), "running").await;
    assert_eq!(stack.terminate("worker-a").await, Some(0), "{}", stack.logs());
    let reply = stack.must(Endpoint::RunsGet, json!({"run_id": run})).await;
    assert_eq!((&reply["run"]["state"], &reply["run"]["attempt"]), (&json!("completed"), &json!(1)), "{reply}");
}

const LOST: &str = "the stream of dispatches lost messages";

/// As in a cluster whose servers have died one after the other: the consumer is ahead of a stream that lost messages.
#[tokio::test(flavor = "multi_thread")]
async fn dispatches_that_the_pools_consumer_passes_over_are_taken_after_all() {
    let mut stack = Stack::bare("").await;
    // A work queue takes no such consumer.
    let config = stream_config(stack.bus.prefix(), Stream::Dispatch, 1);
    let config = stream::Config { retention: stream::RetentionPolicy::Limits, ..config };
    let stream = stack.bus.jetstream().create_stream(config).await.unwrap();
    stack.start_all().await;
    let pool = stream.consumers().next().await.unwrap().unwrap();
    stream.delete_consumer(&pool.name).await.unwrap();
    let ahead = pull::Config {
        durable_name: Some(pool.name.clone()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 1_000_000 },
        ack_policy: AckPolicy::Explicit,
        filter_subject: pool.config.filter_subject,
        ..pull::Config::default()
    };
    stream.create_consumer(ahead).await.unwrap();
    let run = uuid::Uuid::now_v7().to_string();
    stack.must(Endpoint::RunsSubmit, json!({"run_id": run, "model_id": "echo/default", "input": "x"})).await;
    assert_eq!(stack.wait_run(&run).await["run"]["state"], "completed");
    assert!(stack.said("scheduler-a", LOST) + stack.said("scheduler-b", LOST) > 0, "{}", stack.logs());
    assert_eq!(stream.consumer_info(&pool.name).await.unwrap().config.deliver_policy, DeliverPolicy::All);
}
