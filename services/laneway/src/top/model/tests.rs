//! What is made of the scheduler's replies.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use laneway_contract::{Hold, JobState, Limits, Token};

use super::*;

pub(in crate::top) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

pub(in crate::top) fn limit(
    name: &str,
    value: u64,
    used: Option<u64>,
    reserve: Option<u64>,
    level: Option<i64>,
) -> LimitRow {
    LimitRow { name: name.to_owned(), value: Some(value), used, reserve, level }
}

pub(in crate::top) fn worker(name: &str, executing: u32, slots: u32) -> WorkerView {
    let models = vec!["echo/*".to_owned(), "openai/gpt-5".to_owned()];
    WorkerView { worker_id: Token::parse(name).unwrap(), pool: Token::parse("main").unwrap(), models, slots, executing }
}

/// A deployment with work: all of OpenAI's slots are taken, a bucket is nearly empty, and runs wait.
pub(in crate::top) fn look(at_ms: u64, chunks: u64, ended_runs: u64) -> Look {
    let queued = [(Lane::Primary, 12), (Lane::Validation, 3), (Lane::Subagent, 8), (Lane::Background, 1_204)];
    let limits = vec![
        limit("global", 16, Some(11), Some(4), None),
        limit("model:openai/gpt-5", 6, Some(4), Some(1), None),
        limit("per_model", 2, None, None, None),
        limit("provider:echo", 8, Some(3), Some(2), None),
        limit("provider:openai", 6, Some(6), Some(1), None),
        limit("requests_per_minute:provider:openai", 600, None, None, Some(480)),
        limit("tokens_burst:model:openai/gpt-5", 20_000, None, None, None),
        limit("tokens_per_minute:model:openai/gpt-5", 90_000, None, None, Some(-310)),
    ];
    let status = StatusReply {
        snapshot: None,
        leader: "host-1f2e".to_owned(),
        epoch: 12,
        journal_seq: 48_211,
        time: NOW,
        limits: Limits { lane_weights: BTreeMap::from([(Lane::Subagent, 5)]), ..Limits::default() },
        in_use: BTreeMap::from([("global".to_owned(), 11)]),
        queued: BTreeMap::from(queued),
        sessions: 126,
        sessions_in_memory: 140,
        ended_runs,
        forgotten_until: None,
        workers: vec![worker("worker-a", 3, 16), worker("worker-b", 8, 8)],
    };
    let hold = |reason, name: &str, level, limit| Hold {
        reason,
        name: name.to_owned(),
        limit,
        level,
        needs: Some(1),
        until: None,
        holders: Vec::new(),
    };
    let of_provider = hold(WaitReason::Provider, "provider:openai", Some(6), Some(6));
    let of_tokens = hold(WaitReason::TokensPerMinute, "model:openai/gpt-5", Some(-310), Some(20_000));
    let backoff = Hold { until: Some(NOW.plus_millis(4_200)), ..hold(WaitReason::RetryBackoff, "retry", None, None) };
    let oldest = vec![
        (run(1, 2_000, Lane::Primary), None),
        (run(2, 185_000, Lane::Background), Some(explanation(vec![of_provider, of_tokens.clone()]))),
        (run(3, 61_000, Lane::Validation), Some(explanation(vec![of_tokens]))),
        (run(4, 12_000, Lane::Subagent), Some(explanation(vec![backoff]))),
    ];
    Look {
        at: Duration::from_millis(at_ms),
        status,
        limits: LimitsReply { limits, cursor: None, journal_seq: 1 },
        oldest,
        chunks,
    }
}

fn explanation(holds: Vec<Hold>) -> Explanation {
    Explanation {
        state: JobState::Queued,
        lane: Lane::Primary,
        place: Some(7),
        reason: holds[0].reason,
        holds,
        earliest_start: None,
        counterfactual: None,
        summary: String::new(),
    }
}

pub(in crate::top) fn run(number: u8, waited_ms: i64, lane: Lane) -> RunView {
    let mut run: RunView = serde_json::from_str(include_str!("run.json")).unwrap();
    run.run_id = RunId::parse(&format!("0197c2f4-8f6c-7cc1-9c1b-0000000000{number:02x}")).unwrap();
    run.fields.lane = lane;
    run.status.submitted_at = NOW.plus_millis(-waited_ms);
    run
}

fn model() -> Model {
    let mut model = Model::default();
    model.take(look(0, 100, 40));
    model.take(look(2_000, 900, 46));
    model
}

#[test]
fn speeds_are_differences_between_looks() {
    let mut model = model();
    assert_eq!((model.tokens.now(), model.ended.now()), (Some(400.0), Some(3.0)));
    // After a restart of the remembered runs, or with some forgotten, nothing is negative.
    model.take(look(3_000, 900, 10));
    assert_eq!((model.tokens.now(), model.ended.now()), (Some(0.0), Some(0.0)));
    for second in 4..200 {
        model.take(look(second * 1_000, 900, 10));
    }
    assert_eq!(model.tokens.last(usize::MAX).count(), CURVE);
}

#[test]
fn rows_stand_in_the_order_of_their_weight_or_fullness() {
    let model = model();
    let lanes: Vec<_> = model.lanes.iter().map(|row| (row.lane, row.weight)).collect();
    let expected = [(Lane::Primary, 8), (Lane::Subagent, 5), (Lane::Validation, 4), (Lane::Background, 1)];
    assert_eq!(lanes, expected);
    let slots: Vec<_> = model.slots.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(slots, ["global", "provider:openai", "model:openai/gpt-5", "provider:echo"]);
    let buckets: Vec<_> = model.buckets.iter().map(|row| (row.name.as_str(), row.level, row.capacity)).collect();
    assert_eq!(buckets, [("openai/gpt-5 tokens", -310, 20_000), ("openai requests", 480, 600)]);
    assert_eq!(model.workers[0].name, "worker-b");
}

#[test]
fn waits_say_what_holds_them_the_longest_first() {
    let waits = model().waits;
    let told: Vec<_> = waits.iter().map(|row| (row.waited_ms, row.why.as_str())).collect();
    let expected = [
        (185_000, "6/6 provider:openai +1"),
        (61_000, "tokens_per_minute -310 left"),
        (12_000, "retry_backoff 4.2 s"),
        (2_000, "turn"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_shown_stays_when_a_look_fails() {
    let mut model = model();
    model.miss("unavailable: no leader".to_owned());
    assert!(model.head.is_some() && model.trouble.is_some());
    model.take(look(3_000, 900, 46));
    assert_eq!(model.trouble, None);
}
