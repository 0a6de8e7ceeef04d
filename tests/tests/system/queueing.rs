//! Queueing and cancellation through JetStream: the intake, and the two ways in which a cancel reaches a worker.

use std::time::Duration;

use laneway_bus::async_nats::HeaderMap;
use laneway_contract::{ArtifactReply, Catalog, Endpoint, ProviderSpec, ServiceName, Stream, Subject, Token};
use laneway_runtime::Shutdown;
use laneway_tests::provider::CountingProvider;
use laneway_tests::proxy::Proxy;
use laneway_tests::stack::{Stack, connect};
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

/// A deployment whose one worker runs in this test, behind a cable.
struct Cabled {
    stack: Stack,
    provider: CountingProvider,
    proxy: Proxy,
    run: String,
}

async fn cabled(ignore_renewal_stop: bool) -> Cabled {
    let provider = CountingProvider::start(100_000, Duration::from_millis(20)).await;
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
    let config = WorkerConfig { ignore_renewal_stop, ..WorkerConfig::new(Token::parse("cabled").unwrap(), 4, catalog) };
    let bus = connect(&proxy.url()).await;
    tokio::spawn(laneway_worker::run(bus, config, Shutdown::new()));
    let arrivals = provider.arrivals();
    let submit = json!({"model_id": "slow/m", "input": "go on for ever"});
    let run = stack.must(Endpoint::RunsSubmit, submit).await["run"]["run_id"].as_str().unwrap().to_owned();
    provider.next_arrival(arrivals).await;
    Cabled { stack, provider, proxy, run }
}

impl Cabled {
    async fn cancel(&self) {
        let actor = json!({"id": "me", "kind": "person"});
        self.stack.must(Endpoint::RunsCancel, json!({"run_id": self.run, "actor": actor})).await;
    }

    async fn ends_cancelled(&self, closings: usize) {
        self.provider.next_closing(closings).await;
        let reply = self.stack.wait_run(&self.run).await;
        assert_eq!(reply["run"]["state"], "cancelled", "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_learns_of_a_cancel_from_the_control_stream() {
    let cabled = cabled(true).await;
    let closings = cabled.provider.closings();
    cabled.proxy.cut();
    cabled.cancel().await;
    assert_eq!(cabled.provider.closings(), closings, "it cannot know yet");
    cabled.proxy.heal();
    cabled.ends_cancelled(closings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_control_stream_the_renewal_tells_of_the_cancel() {
    let cabled = cabled(false).await;
    let closings = cabled.provider.closings();
    let name = cabled.stack.bus.prefix().stream(Stream::Control);
    cabled.stack.bus.jetstream().delete_stream(name).await.unwrap();
    cabled.cancel().await;
    cabled.ends_cancelled(closings).await;
}
