//! Rates as the provider sees them: in no interval more than the bucket held and what came back.

use std::time::{Duration, Instant};

use laneway_contract::Endpoint;
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::Stack;
use serde_json::json;

/// Calls that may come at once, and in a minute.
const BURST: usize = 3;
const PER_MINUTE: u64 = 240;
const RUNS: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn no_interval_has_more_calls_than_the_bucket_allows() {
    let provider = CountingProvider::start(1, Duration::from_millis(1)).await;
    let stack = Stack::start(&provider.section("metered")).await;
    let changes = json!({"requests_per_minute:provider:metered": PER_MINUTE, "requests_burst:provider:metered": BURST,
        "per_model": 8, "per_provider": 8});
    let actor = json!({"id": "me", "kind": "person"});
    stack.must(Endpoint::LimitsSet, json!({"changes": changes, "actor": actor})).await;
    let mut seen: Vec<Instant> = Vec::new();
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let submit = json!({"model_id": "metered/m", "input": format!("run:{n} session:{n}")});
        runs.push(stack.must(Endpoint::RunsSubmit, submit).await["run"]["run_id"].as_str().unwrap().to_owned());
    }
    let last = runs.last().unwrap();
    let explained = stack.must(Endpoint::RunsExplain, json!({"run_id": last})).await;
    assert_eq!(explained["reason"], "requests_per_minute", "{explained}");
    for arrivals in 0..RUNS {
        seen.push(provider.next_arrival(arrivals).await);
    }
    for run in &runs {
        assert_eq!(stack.wait_run(run).await["run"]["state"], "completed");
    }
    // A call arrives some time after its dispatch, so an interval may look shorter from here than it was there.
    let late = Duration::from_millis(500);
    for (first, begin) in seen.iter().enumerate() {
        for (last, end) in seen.iter().enumerate().skip(first) {
            let span = end.duration_since(*begin) + late;
            let most = BURST as f64 + PER_MINUTE as f64 * span.as_secs_f64() / 60.0;
            assert!((last - first + 1) as f64 <= most + 1e-9, "{} calls in {span:?}", last - first + 1);
        }
    }
    let span = seen[RUNS - 1].duration_since(seen[0]);
    assert!(span + late >= Duration::from_secs_f64((RUNS - BURST) as f64 * 60.0 / PER_MINUTE as f64), "{span:?}");
}
