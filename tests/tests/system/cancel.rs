//! Cancel with a receipt, by the real command line against a real provider.

use std::time::{Duration, Instant};

use laneway_contract::Endpoint;
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::{Stack, binary};
use serde_json::{Value, json};

/// The lease of an attempt, after which a lost worker's run is settled.
const LEASE_SECONDS: u64 = 30;

/// A deployment in which one run goes on for ever; its id.
async fn executing(provider: &CountingProvider) -> (Stack, String) {
    let stack = Stack::start(&provider.section("slow")).await;
    let run = stack.must(Endpoint::RunsSubmit, json!({"model_id": "slow/m", "input": "go on"})).await;
    provider.next_arrival(0).await;
    let run = run["run"]["run_id"].clone();
    stack.in_state(&run, "running").await;
    (stack, run.as_str().unwrap().to_owned())
}

/// What `laneway run cancel --wait` says of its one run.
async fn cancel(stack: &Stack, run: &str) -> Value {
    let mut command = tokio::process::Command::new(binary());
    command.args(["run", "cancel", run, "--wait", "--json", "--reason", "enough"]).args(stack.flags());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let reply: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(reply["done"], true, "{reply}");
    let [row] = &reply["runs"].as_array().unwrap()[..] else { panic!("{reply}") };
    row.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_has_every_step_and_comes_when_the_run_has_ended() {
    let provider = CountingProvider::start(1_000_000, Duration::from_millis(10)).await;
    let (stack, run) = executing(&provider).await;
    let row = cancel(&stack, &run).await;
    let receipt = &row["receipt"];
    assert_eq!((&row["state"], &receipt["too_late"]), (&json!("cancelled"), &json!(false)), "{row}");
    // Times of the same form sort as texts do.
    let steps = ["requested_at", "worker_told_at", "provider_closed_at", "settled_at"];
    let steps = steps.map(|step| receipt[step].as_str().unwrap_or_else(|| panic!("no {step} in {receipt}")));
    assert!(steps.is_sorted(), "{receipt}");
    // The provider sees it a moment later.
    provider.next_closing(0).await;
    let record = stack.must(Endpoint::RunsGet, json!({"run_id": run})).await;
    assert_eq!(record["run"]["cancel"], *receipt);
    assert_eq!(record["run"]["usage"], receipt["billed"]);
    assert!(receipt["billed"]["input_tokens"].as_u64().unwrap() > 0, "{receipt}");
    // Once more, it is the same receipt.
    assert_eq!(cancel(&stack, &run).await, row);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_meets_a_lost_worker_ends_with_the_lease() {
    let provider = CountingProvider::start(1_000_000, Duration::from_millis(10)).await;
    let (mut stack, run) = executing(&provider).await;
    stack.kill9("worker-a").await;
    let begin = Instant::now();
    let row = cancel(&stack, &run).await;
    let (state, receipt) = (&row["state"], &row["receipt"]);
    assert_eq!((state, &receipt["too_late"]), (&json!("cancelled"), &json!(false)), "{row}");
    let unknown = ["worker_told_at", "provider_closed_at", "billed"].map(|step| &receipt[step]);
    assert_eq!(unknown, [&Value::Null; 3], "{receipt}");
    // No earlier than the lease can have ended, which the last renewal had extended at most 5 s before the kill.
    assert!(begin.elapsed() > Duration::from_secs(LEASE_SECONDS - 6), "{:?}", begin.elapsed());
}
