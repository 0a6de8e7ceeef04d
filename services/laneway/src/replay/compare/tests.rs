//! Waits are counted as they say.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::replay::workload::RecordedRun;

fn work(runs: &[(Lane, &str, i64, Option<u64>)]) -> Workload {
    let run = |(lane, key, at, wait_ms): &(Lane, &str, i64, Option<u64>)| RecordedRun {
        lane: *lane,
        fairness_key: (*key).to_owned(),
        model_id: laneway_contract::ModelId::parse("echo/a").unwrap(),
        submitted_at: Timestamp::from_millis(*at),
        wait_ms: *wait_ms,
        dispatches: Vec::new(),
        decisions: Vec::new(),
    };
    let runs: Vec<_> = runs.iter().map(run).collect();
    Workload { runs, ended: Timestamp::from_millis(59_999), ..Workload::default() }
}

fn modelled(waits: &[Option<u64>]) -> Modelled {
    Modelled { waits: waits.to_vec(), refused: 0, changed: 0 }
}

#[test]
fn the_nearest_rank_is_a_value_that_was_there() {
    let waits: Vec<u64> = (1..=100).rev().collect();
    let expected = Waits { started: 100, mean_ms: 51, p50_ms: 50, p95_ms: 95, max_ms: 100 };
    assert_eq!(Waits::of(100, waits), expected);
    assert_eq!(Waits::of(3, vec![7]), Waits { started: 3, mean_ms: 7, p50_ms: 7, p95_ms: 7, max_ms: 7 });
    assert_eq!(Waits::of(0, Vec::new()), Waits::default());
}

#[test]
fn only_runs_that_started_in_all_three_are_compared() {
    let (primary, background) = (Lane::Primary, Lane::Background);
    let work = work(&[
        (primary, "a", 0, Some(10)),
        (primary, "b", 1_000, Some(30)),
        (primary, "b", 59_999, None),
        (background, "b", 500, Some(500)),
    ]);
    let as_it_was = modelled(&[Some(12), Some(30), Some(7), Some(490)]);
    let policy = modelled(&[Some(1), None, Some(3), Some(900)]);
    let comparison = compare(&work, 9, &as_it_was, &policy, 1);
    assert_eq!(comparison.error, Error { runs: 3, mean_ms: 4, p95_ms: 10, max_ms: 10 });
    let [lane, other] = comparison.lanes.as_slice() else { unreachable!() };
    let (first, second) = (Lane::Primary, Lane::Background);
    assert_eq!((lane.name, lane.submitted, lane.compared), (first, 3, 1));
    assert_eq!((other.name, other.submitted, other.compared), (second, 1, 1));
    let started: Vec<_> = lane.waits.values().map(|waits| (waits.started, waits.max_ms)).collect();
    assert_eq!(started, [(2, 10), (3, 12), (2, 1)]);
    // `b` has waited longest in all.
    assert_eq!((comparison.keys[0].name.as_str(), comparison.more_keys), ("b", 1));
    assert_eq!(comparison.keys[0].waits[&Column::Policy].max_ms, 900);
    // Each interval is a second long; the last belongs to the last.
    let curves = &comparison.lanes[0].curves;
    assert_eq!((curves[0][0], curves[2][0], curves[0][1], curves[0].len()), (Some(10), Some(1), None, INTERVALS));
}
