//! Concurrency limits, workers and the reasons for a wait.

use std::collections::BTreeMap;

use laneway_contract::*;

use super::world::*;
use crate::{CancelTarget, Command, LimitsChange, SetLimits};

fn many(world: &mut World, count: usize, model_id: &str) -> Vec<RunId> {
    let submit = |_| {
        let session = world.create(model_id);
        world.submit(session)
    };
    (0..count).map(submit).collect()
}

fn reason(world: &World, run: RunId) -> WaitReason {
    world.state.wait_reason(world.state.run(run).unwrap(), &world.hints, world.now)
}

#[test]
fn each_limit_holds_and_says_so() {
    let mut world = World::new();
    let runs = many(&mut world, 3, "echo/a");
    assert_eq!((world.job_state(runs[1]), world.job_state(runs[2])), (JobState::Dispatched, JobState::Queued));
    assert_eq!(reason(&world, runs[2]), WaitReason::Model);
    let runs = many(&mut world, 3, "echo/b");
    assert_eq!(reason(&world, runs[2]), WaitReason::Provider);
    for name in ["c", "d"] {
        many(&mut world, 2, &format!("other/{name}"));
    }
    let runs = many(&mut world, 1, "other/e");
    assert_eq!(world.state.slots().global.used, 8);
    assert_eq!(reason(&world, runs[0]), WaitReason::Global);
}

#[test]
fn a_group_shares_its_limit_over_models() {
    let mut world = World::new();
    let limits = Limits { groups: [("night".to_owned(), 1)].into(), ..Limits::default() };
    world.set_limits(limits);
    let mut runs = Vec::new();
    for model_id in ["echo/a", "other/b"] {
        let session = world.create(model_id);
        let mut command = world.submit_command(Some(session));
        command.concurrency_group = Some("night".to_owned());
        runs.push(world.submit_with(command));
    }
    assert_eq!(world.job_state(runs[0]), JobState::Dispatched);
    assert_eq!(reason(&world, runs[1]), WaitReason::Group);
    let epoch = world.claim(runs[0]);
    world.complete(runs[0], epoch);
    assert_eq!(world.job_state(runs[1]), JobState::Dispatched);
}

#[test]
fn lowering_a_limit_lets_running_work_finish() {
    let mut world = World::new();
    let runs = many(&mut world, 4, "echo/a");
    let epoch = world.claim(runs[0]);
    let limits = Limits { per_model: 1, ..Limits::default() };
    world.set_limits(limits);
    world.complete(runs[0], epoch);
    assert_eq!(world.state.slots().global.used, 1, "nothing starts until the level is below the new limit");
}

#[test]
fn without_a_worker_for_its_model_a_run_waits_and_holds_nothing() {
    let mut world = World::new();
    let runs = many(&mut world, 1, "nobody/a");
    assert_eq!(reason(&world, runs[0]), WaitReason::NoWorker);
    assert!(world.state.slots().is_idle());
}

#[test]
fn dispatches_never_exceed_the_free_slots_of_a_pool() {
    let mut world = World::new();
    world.announce("w1", "pool", 1);
    let runs = many(&mut world, 2, "echo/a");
    assert_eq!(reason(&world, runs[1]), WaitReason::WorkersBusy);
    let epoch = world.claim(runs[0]);
    world.tick();
    assert_eq!(world.job_state(runs[1]), JobState::Queued);
    world.complete(runs[0], epoch);
    assert_eq!(world.job_state(runs[1]), JobState::Dispatched);
}

#[test]
fn a_worker_that_was_not_heard_takes_nothing() {
    let mut world = World::new();
    for worker in world.hints.workers.values_mut() {
        worker.valid_until = world.now;
    }
    let runs = many(&mut world, 1, "echo/a");
    assert_eq!(reason(&world, runs[0]), WaitReason::NoWorker);
}

#[test]
fn no_lane_starves_and_each_gets_its_weight() {
    let mut world = World::new();
    let limits = Limits { global: 1, ..Limits::default() };
    world.set_limits(limits);
    for lane in Lane::ALL {
        for _ in 0..160 {
            let session = world.create("echo/a");
            let mut command = world.submit_command(Some(session));
            command.lane = *lane;
            world.submit_with(command);
        }
    }
    let mut served = std::collections::BTreeMap::<Lane, u64>::new();
    for _ in 0..160 {
        let run = world.state.dispatched().next().unwrap();
        *served.entry(run.record.fields.lane).or_default() += 1;
        let id = run.record.run_id;
        let epoch = world.claim(id);
        world.complete(id, epoch);
    }
    for lane in Lane::ALL {
        assert!(served[lane].abs_diff(lane.weight() * 10) <= 1, "{lane}: {served:?}");
    }
}

#[test]
fn what_cannot_be_read_again_is_no_name_of_a_limit() {
    let mut world = World::new();
    for limits in [
        Limits { providers: BTreeMap::from([("OpenAI".to_owned(), 8)]), ..Limits::default() },
        Limits { groups: BTreeMap::from([(String::new(), 8)]), ..Limits::default() },
        Limits { groups: BTreeMap::from([("a\u{1b}[2J".to_owned(), 8)]), ..Limits::default() },
        Limits { groups: (0..MAX_LIMITS).map(|n| (format!("g{n}"), 8)).collect(), ..Limits::default() },
    ] {
        let change = LimitsChange::Configured(Box::new(limits));
        let refused = world.run(&Command::SetLimits(Box::new(SetLimits { change, actor: actor() }))).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadRequest, "{refused}");
    }
    let limits = Limits { groups: (0..MAX_LIMITS - 3).map(|n| (format!("g{n}"), 8)).collect(), ..Limits::default() };
    let events = world.set_limits(limits);
    let bytes = serde_json::to_vec(&events).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Event>>(&bytes).unwrap(), events);
}

#[test]
fn a_call_from_before_a_bucket_was_made_gives_it_nothing_back() {
    let mut world = World::new();
    let rate = |per_minute: Option<u64>| {
        let name = LimitName::TokensPerMinute(Scope::Model(model("echo/a")));
        let change = LimitsChange::Single(vec![(name, per_minute)]);
        Command::SetLimits(Box::new(SetLimits { change, actor: actor() }))
    };
    let submit = |world: &mut World, tokens| {
        let session = world.create("echo/a");
        let mut command = world.submit_command(Some(session));
        command.estimated_tokens = Some(tokens);
        world.submit_with(command)
    };
    world.run(&rate(Some(1_000))).unwrap();
    let before = submit(&mut world, 800);
    world.run(&rate(None)).unwrap();
    world.run(&rate(Some(1_000))).unwrap();
    let all = submit(&mut world, 1_000);
    assert_eq!((world.job_state(before), world.job_state(all)), (JobState::Dispatched, JobState::Dispatched));
    world.cancel(CancelTarget::Run(before));
    assert_eq!(world.state.bucket_level(RateKind::Tokens, &Scope::Model(model("echo/a")), world.now), Some(0));
}
