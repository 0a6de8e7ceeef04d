//! What the model decides again: the same under the same limits, other waits under others.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use laneway_contract::{Decision, Lane, LimitName, Limits, Scope, SessionState};
use laneway_engine::{Command, Decide, EndSession, LimitsChange, PauseSession, SetLimits};

use super::*;
use crate::replay::past::Past;
use crate::replay::testing::{Fate, START, Yesterday, actor};
use crate::replay::workload::Recorder;

/// A journal, taken down.
fn taken(world: &Yesterday) -> (Workload, BTreeMap<PoolId, Pool>) {
    let mut past = Past::new(None, Some(Recorder::default()));
    for committed in &world.frames {
        assert!(past.take(committed.clone()).unwrap());
    }
    (past.recorder.take().unwrap().finish(), past.pools.known())
}

fn waits(work: &Workload) -> Vec<Option<u64>> {
    work.runs.iter().map(|run| run.wait_ms).collect()
}

/// The sum of the waits of the runs that a test is about.
fn sum(work: &Workload, waits: &[Option<u64>], which: impl Fn(&RecordedRun) -> bool) -> u64 {
    let runs = work.runs.iter().zip(waits);
    runs.filter(|(run, _)| which(run)).map(|(_, wait)| wait.unwrap()).sum()
}

fn limits(global: u32) -> Limits {
    Limits { global, per_provider: 64, per_model: 64, ..Limits::default() }
}

fn policy(limits: Option<Limits>, rules: &str) -> Policy {
    let rules = if rules.is_empty() { Vec::new() } else { crate::replay::policy::rules(rules) };
    Policy { limits, rules }
}

const LANES: [Lane; 4] = [Lane::Primary, Lane::Subagent, Lane::Background, Lane::Validation];

/// Far more runs than may execute at a time, of four lanes, three keys and 24 sessions.
fn crowd(global: u32, slots: u32) -> Yesterday {
    let mut world = Yesterday::new(&limits(global), slots);
    let packets = ["red", "green", "blue"];
    let sessions: Vec<_> = (0..24).map(|n| world.session("echo/a", Some(packets[n % 3]))).collect();
    for n in 0..240_usize {
        let takes = Fate::Completes(180 + (n as u64 * 37) % 400);
        world.submit(10 + 11 * n as i64, sessions[(n * 5) % 24], &[takes], |submit| {
            submit.lane = LANES[(n / 3) % 4];
            submit.priority = 40 + (n as u32 * 7) % 20;
        });
    }
    world.pass();
    world
}

#[test]
fn under_the_same_limits_every_wait_is_the_recorded_one() {
    let (work, pools) = taken(&crowd(8, 64));
    let modelled = run(&work, &pools, None, None);
    assert_eq!(modelled.waits, waits(&work));
    assert!(sum(&work, &modelled.waits, |_| true) > 10_000, "nobody had to wait");
    assert_eq!((modelled.refused, modelled.changed), (0, 0));
    // A policy that says what held anyway is no change, either.
    assert_eq!(run(&work, &pools, None, Some(&policy(Some(limits(8)), ""))).waits, modelled.waits);
}

/// Everything that can become of a run, one after the other and through each other.
fn everything() -> Yesterday {
    let mut world = Yesterday::new(&limits(3), 64);
    let sessions: Vec<_> = (0..8).map(|n| world.session(["echo/a", "other/b"][n % 2], None)).collect();
    let fates = [
        vec![Fate::Fails(90), Fate::Completes(140)],
        vec![Fate::Refused429(60), Fate::Completes(210)],
        vec![Fate::Ignored, Fate::Completes(120)],
        vec![Fate::HandedBack(80), Fate::Completes(130)],
        vec![Fate::Lost, Fate::Completes(150)],
        vec![Fate::AsksPerson(70), Fate::Completes(110)],
        vec![Fate::CallsTool(160)],
        vec![Fate::Fails(30), Fate::Fails(30), Fate::Fails(30), Fate::Fails(30), Fate::Fails(30)],
        vec![Fate::Completes(260)],
    ];
    let mut asks = Vec::new();
    for n in 0..90_usize {
        let fates = &fates[n % fates.len()];
        let run = world.submit(20 + 53 * n as i64, sessions[(n * 3) % 8], fates, |submit| {
            submit.lane = LANES[n % 4];
            submit.not_before = (n % 13 == 4).then(|| Timestamp::from_millis(START + 53 * n as i64 + 700));
            submit.queue_timeout_ms = (n % 10 == 7).then_some(15_000);
            submit.deadline = (n % 17 == 5).then(|| Timestamp::from_millis(START + 53 * n as i64 + 40_000));
        });
        if matches!(fates[0], Fate::AsksPerson(_)) {
            asks.push(run);
        }
        if n % 11 == 3 {
            world.cancel(20 + 53 * n as i64 + 211, run);
        }
    }
    let rate =
        |value| LimitsChange::Single(vec![(LimitName::RequestsPerMinute(Scope::Provider("echo".into())), value)]);
    let mut set = |at, change| {
        world.ask(at, Command::SetLimits(Box::new(SetLimits { change, actor: actor() })));
    };
    set(1_503, LimitsChange::Single(vec![(LimitName::Global, Some(5))]));
    set(2_507, rate(Some(600)));
    set(90_009, rate(None));
    let pause = |paused| {
        let (session_id, reason) = (sessions[1], "lunch".to_owned());
        Command::Pause(PauseSession { session_id, paused, interrupt: true, actor: actor(), reason })
    };
    world.ask(3_001, pause(true));
    world.ask(9_001, pause(false));
    let end = EndSession {
        session_id: sessions[6],
        end: SessionState::Cancelled,
        cancel_runs: true,
        actor: actor(),
        reason: "over".to_owned(),
    };
    world.ask(4_007, Command::End(end));
    world.silence(2_222, 3_100);
    // A person comes by every five seconds and approves whatever waits for one.
    world.approve_every(5_000, &asks);
    world.pass();
    world
}

#[test]
fn retries_losses_cancels_pauses_rates_and_silences_are_modelled_to_the_millisecond() {
    let (work, pools) = taken(&everything());
    let modelled = run(&work, &pools, None, None);
    let wrong: Vec<_> = work
        .runs
        .iter()
        .zip(&modelled.waits)
        .enumerate()
        .filter(|(_, (run, modelled))| run.wait_ms != **modelled)
        .map(|(n, (run, modelled))| (n, run.wait_ms, *modelled))
        .collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), work.runs.len());
    let attempts: usize = work.runs.iter().map(|run| run.dispatches.len()).sum();
    assert!(attempts > work.runs.len(), "nothing was tried again");
    assert!(work.runs.iter().any(|run| run.wait_ms.is_none()), "nothing was cancelled before it started");
}

#[test]
fn under_twice_the_limit_everybody_waits_less() {
    let (work, pools) = taken(&crowd(8, 64));
    let as_it_was = run(&work, &pools, None, None);
    let doubled = run(&work, &pools, None, Some(&policy(Some(limits(16)), "")));
    for lane in LANES {
        let of_lane = |run: &RecordedRun| run.lane == lane;
        let (before, after) = (sum(&work, &as_it_was.waits, of_lane), sum(&work, &doubled.waits, of_lane));
        assert!(2 * after < before, "{lane}: {before} ms, then {after} ms");
    }
}

#[test]
fn a_rule_changes_who_waits() {
    let (work, pools) = taken(&crowd(8, 64));
    let as_it_was = run(&work, &pools, None, None);
    let rules = "[[rules]]\nmatch = { fairness_key = \"blue\", lane = \"BACKGROUND\" }\nset = { lane = \"PRIMARY\", priority = 0 }";
    let other = run(&work, &pools, None, Some(&policy(None, rules)));
    let chosen = |run: &RecordedRun| run.lane == Lane::Background && run.fairness_key == "blue";
    assert_eq!(other.changed, work.runs.iter().filter(|run| chosen(run)).count() as u64);
    assert!(sum(&work, &other.waits, chosen) * 2 < sum(&work, &as_it_was.waits, chosen));
    let others = |run: &RecordedRun| run.lane == Lane::Primary;
    assert!(sum(&work, &other.waits, others) > sum(&work, &as_it_was.waits, others));
}

#[test]
fn weights_share_the_limit_anew() {
    let (work, pools) = taken(&crowd(8, 64));
    let as_it_was = run(&work, &pools, None, None);
    let weights = BTreeMap::from([(Lane::Validation, 1), (Lane::Background, 100)]);
    let weighted = Limits { lane_weights: weights, ..limits(8) };
    let other = run(&work, &pools, None, Some(&policy(Some(weighted), "")));
    let of = |lane| move |run: &RecordedRun| run.lane == lane;
    let moved = |lane| (sum(&work, &as_it_was.waits, of(lane)), sum(&work, &other.waits, of(lane)));
    let ((background, less), (validation, more)) = (moved(Lane::Background), moved(Lane::Validation));
    assert!(less < background && more > validation, "{background} {less}, {validation} {more}");
}

#[test]
fn workers_that_were_seen_full_bound_the_model_until_other_slots_are_given() {
    let (work, pools) = taken(&crowd(8, 4));
    let pool = pools.values().next().unwrap();
    assert_eq!((pool.most_held, pool.seen_full, pool.slots(None)), (4, true, Some(4)));
    let as_it_was = run(&work, &pools, None, None);
    assert_eq!(as_it_was.waits, waits(&work));
    let doubled = policy(Some(limits(16)), "");
    let all = |modelled: &Modelled| sum(&work, &modelled.waits, |_| true);
    // PRIMARY's reserve is another with another limit, so the order may be, but no more of them execute at a time.
    assert!(all(&run(&work, &pools, None, Some(&doubled))) * 10 > all(&as_it_was) * 9);
    assert!(all(&run(&work, &pools, Some(16), Some(&doubled))) * 2 < all(&as_it_was));
}

#[test]
fn workers_that_were_never_seen_full_do_not_bound_the_model() {
    let (_, pools) = taken(&crowd(8, 64));
    let pool = pools.values().next().unwrap();
    assert_eq!((pool.most_held, pool.seen_full, pool.slots(None)), (8, false, None));
}

#[test]
fn a_limit_of_nothing_starts_nothing_and_the_model_ends() {
    let (work, pools) = taken(&crowd(8, 64));
    let nothing = run(&work, &pools, None, Some(&policy(Some(limits(0)), "")));
    assert!(nothing.waits.iter().all(Option::is_none));
}

#[test]
fn the_same_journal_and_policy_give_the_same_waits() {
    let (one, other) = (taken(&everything()), taken(&everything()));
    let policy = policy(Some(limits(6)), "");
    let first = run(&one.0, &one.1, None, Some(&policy));
    assert_eq!(first, run(&other.0, &other.1, None, Some(&policy)));
    assert_ne!(first.waits, waits(&one.0));
}

#[test]
fn an_attempt_that_was_stopped_would_have_taken_what_is_typical() {
    let mut world = Yesterday::new(&limits(1), 8);
    let sessions: Vec<_> = (0..3).map(|_| world.session("echo/a", None)).collect();
    let runs: Vec<_> =
        (0..3).map(|n| world.submit(10 + 10 * n as i64, sessions[n], &[Fate::Completes(1_000)], |_| ())).collect();
    world.cancel(1_300, runs[1]);
    world.pass();
    let (work, pools) = taken(&world);
    assert_eq!(waits(&work), [Some(0), Some(992), Some(1_277)]);
    // With two at a time the second has come to an end before anybody cancels it, after the first and not long before.
    let doubled = run(&work, &pools, None, Some(&policy(Some(limits(2)), "")));
    assert_eq!(doubled.waits, [Some(0), Some(0), Some(982)]);
}

#[test]
fn nothing_comes_back_into_a_bucket_while_nobody_leads() {
    let mut limits = limits(8);
    limits.requests_per_minute.providers.insert("echo".to_owned(), 60);
    limits.requests_burst.providers.insert("echo".to_owned(), 1);
    let mut world = Yesterday::new(&limits, 8);
    let sessions = [world.session("echo/a", None), world.session("echo/a", None)];
    for (n, session) in sessions.into_iter().enumerate() {
        world.submit(10 + n as i64, session, &[], |_| ());
    }
    world.silence(500, 5_000);
    world.pass();
    let (work, pools) = taken(&world);
    assert_eq!(waits(&work), [Some(0), Some(999 + 5_000)]);
    assert_eq!(run(&work, &pools, None, None).waits, waits(&work));
}

#[test]
fn a_decision_that_was_recorded_is_made_again() {
    let mut world = Yesterday::new(&limits(2), 8);
    let session = world.session("echo/a", None);
    let run_id = world.submit(10, session, &[Fate::AsksPerson(50), Fate::Completes(70)], |_| ());
    world.submit(20, session, &[], |_| ());
    let (decision, reason) = (Decision::Approve, "fine".to_owned());
    world.ask(5_000, Command::Decide(Decide { run_id, decision, approval_id: None, actor: actor(), reason }));
    world.pass();
    let (work, pools) = taken(&world);
    // The second run of the session waits for the person, too.
    assert!(work.runs[1].wait_ms.unwrap() > 4_900);
    assert_eq!(run(&work, &pools, None, None).waits, waits(&work));
}
