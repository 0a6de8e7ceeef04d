//! Three nats-servers, of which one after the other dies or freezes under load, most often the one that leads the journal.

use std::time::Duration;

use laneway_contract::{Endpoint, ServiceName, Stream};
use laneway_tests::access::Access;
use laneway_tests::draw::{Draw, rounds};
use laneway_tests::load::{Load, Plan};
use laneway_tests::nats::NatsServer;
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::Stack;
use serde_json::json;

/// How often a server is struck.
const ROUNDS: usize = 4;
/// The most runs at a time.
const LIMIT: u32 = 5;
/// Servers in the order of their names.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// The server that leads the journal, as soon as one does.
async fn leads_the_journal(stack: &Stack) -> usize {
    for _ in 0..600 {
        let stream = stack.bus.jetstream().get_stream(stack.bus.prefix().stream(Stream::Journal)).await;
        let leader = stream.ok().and_then(|stream| stream.cached_info().cluster.clone()?.leader);
        if let Some(index) = NAMES.iter().position(|name| leader.as_deref() == Some(*name)) {
            return index;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no server leads the journal\n{}", stack.logs());
}

/// A deployment on three servers, and the second and third of them. It has one scheduler, so that nobody takes over from one that
/// does not go on.
async fn on_three(provider: &CountingProvider) -> (Stack, [NatsServer; 2]) {
    let [first, second, third] = NatsServer::start_three().await;
    let limits = format!("[limits]\nglobal = {LIMIT}\nper_provider = {LIMIT}\nper_model = {LIMIT}\n");
    let config = format!("replicas = 3\n{limits}{}", provider.section("counted"));
    let mut stack = Stack::around(first, &config, Access::plain()).await;
    for (service, name) in [
        (ServiceName::Scheduler, "scheduler-a"),
        (ServiceName::SessionStore, "store-a"),
        (ServiceName::Worker, "worker-a"),
        (ServiceName::FlightRecorder, "recorder-a"),
    ] {
        stack.start_part(service, name, &[]);
    }
    stack.ready().await;
    (stack, [second, third])
}

/// The streams in memory begin anew.
#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_when_all_three_servers_have_died() {
    let provider = CountingProvider::start(1, Duration::from_millis(1)).await;
    let (mut stack, mut others) = on_three(&provider).await;
    let run = json!({"model_id": "counted/m", "input": "x", "wait": true});
    for _ in 0..100 {
        assert_eq!(stack.must(Endpoint::RunsSubmit, run.clone()).await["done"], true);
    }
    stack.nats.kill9().await;
    for server in &mut others {
        server.kill9().await;
    }
    stack.nats.restart().await;
    for server in &mut others {
        server.restart().await;
    }
    stack.ready().await;
    let run_id = uuid::Uuid::now_v7().to_string();
    stack.must(Endpoint::RunsSubmit, json!({"run_id": run_id, "model_id": "counted/m", "input": "y"})).await;
    assert_eq!(stack.wait_run(&run_id).await["run"]["state"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_server_of_three_dies_or_freezes() {
    let mut draw = Draw::begin("cluster");
    let provider = CountingProvider::start(3, Duration::from_millis(5)).await;
    let (mut stack, mut others) = on_three(&provider).await;
    let load = Load::start(&stack, Plan { model_id: "counted/m".to_owned(), repeats: 3, ..Plan::default() });
    stack.grows(20).await;
    for _ in 0..rounds(ROUNDS) {
        let leader = leads_the_journal(&stack).await;
        let struck = if draw.one_in(3) { draw.below(3) as usize } else { leader };
        let server = if struck == 0 { &mut stack.nats } else { &mut others[struck - 1] };
        if draw.one_in(2) {
            server.kill9().await;
            tokio::time::sleep(draw.up_to_ms(10_000)).await;
            server.restart().await;
        } else {
            server.signal("STOP");
            tokio::time::sleep(draw.up_to_ms(15_000)).await;
            server.signal("CONT");
        }
        stack.ready().await;
        stack.grows(20).await;
        stack.all_run();
    }
    let told = load.finish(&mut stack).await;
    provider.limits_held(LIMIT);
    provider.nothing_ended_was_called(&told);
}
