//! Limits as the provider sees them: never exceeded, each reached, every run ended once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use laneway_contract::Endpoint;
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::Stack;
use serde_json::json;

const RUNS: usize = 600;
const SESSIONS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_exceeded_and_each_is_reached() {
    let provider = CountingProvider::start(3, Duration::from_millis(4)).await;
    let config: String = ["alpha", "beta", "gamma"].map(|name| provider.section(name)).concat();
    let stack = Stack::start(&format!("{config}[worker]\nslots = 32\n")).await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(stack.create_session("alpha/m0").await);
    }
    // A fixed walk through sessions, providers and models: no two neighbours alike, the same in every run of the test.
    let submit = |n: usize| {
        let session = &sessions[(n * 17) % SESSIONS];
        let name = ["alpha", "beta", "gamma"][(n * 7) % 3];
        let model_id = format!("{name}/m{}", (n * 5 + n / 3) % 3);
        let body = json!({
            "session_id": session, "model_id": model_id, "input": format!("run:{n} session:{session}"), "priority": n % 7,
        });
        let stack = &stack;
        async move { stack.must(Endpoint::RunsSubmit, body).await["run"]["run_id"].as_str().unwrap().to_owned() }
    };
    let runs: Vec<String> = futures::stream::iter((0..RUNS).map(submit)).buffer_unordered(32).collect().await;
    let ends = futures::stream::iter(&runs).map(|run| stack.wait_run(run)).buffer_unordered(64);
    let states: Vec<String> = ends.map(|reply| reply["run"]["state"].as_str().unwrap().to_owned()).collect().await;
    assert!(states.iter().all(|state| state == "completed"), "{states:?}");

    let seen = provider.seen();
    let calls: BTreeSet<&String> = seen.calls.iter().collect();
    assert_eq!((seen.calls.len(), calls.len()), (RUNS, RUNS), "each run called its provider once");
    for (name, most) in &seen.most {
        let limit = match name.split(':').next().unwrap() {
            "all" => 8,
            "provider" => 4,
            "model" => 2,
            _ => 1,
        };
        assert_eq!(*most, limit, "{name}: the most calls in flight");
    }
    for session in &sessions {
        let thread = stack.thread(session).await;
        assert_eq!(thread.len(), 2 * RUNS / SESSIONS, "question and answer of each run");
        for pair in thread.chunks(2) {
            assert_eq!((pair[0].0.as_str(), pair[1].0.as_str()), ("USER", "ASSISTANT"));
            assert!(pair[1].1.starts_with(&pair[0].1), "each answer follows its own question");
        }
    }
}
