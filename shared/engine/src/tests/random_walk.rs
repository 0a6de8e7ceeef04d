//! Random commands by seed, with every invariant checked after every turn, and the journal folded again at the end.

use std::collections::BTreeMap;

use laneway_contract::*;

use super::world::*;
use crate::*;

/// `SplitMix64` (Steele, Lea and Flood, 2014): small, and the same everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        (!items.is_empty()).then(|| items[self.next(items.len() as u64) as usize])
    }
}

#[test]
fn replay() {
    for seed in 0..400 {
        let walk = |seed| {
            let (mut world, mut draw) = (World::new(), Draw(seed));
            for _ in 0..200 {
                step(&mut world, &mut draw);
                check(&world, seed);
            }
            finish(&mut world, seed);
            world
        };
        let (mut world, mut again) = (walk(seed), walk(seed));
        assert_eq!(world.journal, again.journal, "seed {seed}: the same commands gave other decisions");
        let digest = world.state.digest();
        assert_eq!(digest, world.state.full_digest(), "seed {seed}: the incremental digest is off");
        assert_eq!(digest, again.state.digest(), "seed {seed}");
        assert_eq!(digest, world.replayed().digest(), "seed {seed}: a fold of the journal gives another state");
    }
}

fn step(world: &mut World, draw: &mut Draw) {
    world.advance(draw.next(50) as i64);
    let sessions: Vec<SessionId> = world.state.live_sessions(None).map(|s| s.creation.session_id).collect();
    let dispatched: Vec<RunId> = world.state.dispatched().map(|run| run.record.run_id).collect();
    let executing: Vec<(RunId, Epoch)> =
        world.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
    match draw.next(16) {
        0 | 1 => {
            let model_id = ["echo/a", "echo/b", "other/c"][draw.next(3) as usize];
            world.create(model_id);
        }
        2..=5 => submit(world, draw, &sessions),
        6..=8 => {
            if let Some(run) = draw.of(&dispatched) {
                world.claim(run);
            }
        }
        9..=11 => {
            if let Some((run, epoch)) = draw.of(&executing) {
                let result = result(draw);
                world.report(run, epoch, result).unwrap();
            }
        }
        12 => {
            if let Some(session) = draw.of(&sessions) {
                let target = if draw.next(2) == 0 {
                    CancelTarget::Session(session)
                } else {
                    CancelTarget::Token("t".to_owned())
                };
                world.cancel(target);
            }
        }
        13 => {
            if let Some(session_id) = draw.of(&sessions) {
                let paused = draw.next(2) == 0;
                let pause = PauseSession { session_id, paused, actor: actor(), reason: String::new() };
                drop(world.run(&Command::Pause(pause)));
            }
        }
        14 => {
            if let Some(session_id) = draw.of(&sessions).filter(|_| draw.next(4) == 0) {
                let end =
                    [SessionState::Completed, SessionState::Failed, SessionState::Cancelled][draw.next(3) as usize];
                let cancel_runs = draw.next(2) == 0;
                let command = EndSession { session_id, end, cancel_runs, actor: actor(), reason: String::new() };
                drop(world.run(&Command::End(command)));
            }
        }
        _ => {
            world.advance(draw.next(40_000) as i64);
        }
    }
}

fn submit(world: &mut World, draw: &mut Draw, sessions: &[SessionId]) {
    let session = draw.of(sessions).filter(|_| draw.next(4) > 0);
    let mut command = world.submit_command(session);
    command.lane = Lane::ALL[draw.next(4) as usize];
    command.priority = draw.next(3) as u32;
    command.max_retries = draw.next(3) as u32;
    command.timeout_ms = 1 + draw.next(60_000);
    command.cancellation_token = (draw.next(4) == 0).then(|| "t".to_owned());
    command.on_busy = if draw.next(4) == 0 { OnBusy::Reject } else { OnBusy::Enqueue };
    drop(world.run(&Command::Submit(Box::new(command))));
}

fn result(draw: &mut Draw) -> AttemptResult {
    match draw.next(8) {
        0 => failed(ErrorClass::Server, true, None),
        1 => failed(ErrorClass::RateLimit, true, Some(5_000)),
        2 => failed(ErrorClass::InvalidRequest, false, None),
        3 => AttemptResult::Stopped { stop: Stop::Cancel },
        4 => AttemptResult::HandedBack,
        5 => AttemptResult::Completed { finish: Finish::Length },
        _ => AttemptResult::Completed { finish: Finish::Stop },
    }
}

fn check(world: &World, seed: u64) {
    let state = &world.state;
    let (mut global, mut providers, mut models) = (0, BTreeMap::<&str, u32>::new(), BTreeMap::<&ModelId, u32>::new());
    let mut executing = BTreeMap::<SessionId, u32>::new();
    for run in state.live_runs(None).filter(|run| run.holds_slot()) {
        global += 1;
        *providers.entry(run.record.fields.model_id.provider()).or_default() += 1;
        *models.entry(&run.record.fields.model_id).or_default() += 1;
        *executing.entry(run.record.session_id).or_default() += 1;
    }
    let limits = state.limits();
    assert!(global <= limits.global, "seed {seed}: SCHED-6 global");
    assert!(providers.values().all(|used| *used <= limits.per_provider), "seed {seed}: SCHED-6 provider");
    assert!(models.values().all(|used| *used <= limits.per_model), "seed {seed}: SCHED-6 model");
    assert!(executing.values().all(|used| *used <= 1), "seed {seed}: SESS-3");
    for run in state.live_runs(None).filter(|run| matches!(run.phase, Phase::Queued)) {
        assert_eq!(run.record.status.state, JobState::Queued, "seed {seed}: SCHED-2");
        // Worked out from the runs alone: what holds this one?
        let session = state.session(run.record.session_id).unwrap();
        let first = session.queue.values().next() == Some(&run.record.run_id);
        let held = session.paused.is_some() || session.current.is_some() || session.ending.is_some() || !first;
        let model_id = &run.record.fields.model_id;
        let full = global >= limits.global
            || providers.get(model_id.provider()).is_some_and(|used| *used >= limits.per_provider)
            || models.get(model_id).is_some_and(|used| *used >= limits.per_model);
        assert!(held || full, "seed {seed}: SCHED-8, {} could start", run.record.run_id);
        let reason = state.wait_reason(run, &world.hints, world.now);
        assert_ne!(reason, WaitReason::None, "seed {seed}: no reason is shown");
    }
    let epochs = world.journal.iter().filter_map(|(_, event)| match event {
        Event::RunClaimed { epoch, .. } => Some(*epoch),
        _ => None,
    });
    assert!(epochs.is_sorted_by(|a, b| a < b), "seed {seed}: an epoch fell");
}

/// Lets everything end and checks that it did, once.
fn finish(world: &mut World, seed: u64) {
    for session_id in world.state.live_sessions(None).map(|s| s.creation.session_id).collect::<Vec<_>>() {
        let pause = PauseSession { session_id, paused: false, actor: actor(), reason: String::new() };
        drop(world.run(&Command::Pause(pause)));
    }
    for _ in 0..10_000 {
        if world.state.live_runs(None).next().is_none() {
            break;
        }
        for run in world.state.dispatched().map(|run| run.record.run_id).collect::<Vec<_>>() {
            world.claim(run);
        }
        let executing: Vec<_> =
            world.state.executing().map(|run| (run.record.run_id, run.record.status.epoch)).collect();
        for (run, epoch) in executing {
            world.complete(run, epoch);
        }
        world.advance(60_000);
    }
    assert_eq!(world.state.live_runs(None).count(), 0, "seed {seed}: a run never ends");
    assert_eq!(world.state.slots(), &Slots::default(), "seed {seed}: slots leak");
    let mut ends = BTreeMap::<RunId, u32>::new();
    for (_, event) in &world.journal {
        if let Event::RunSettled { run, .. } = event {
            *ends.entry(run.run_id).or_default() += 1;
        }
    }
    assert!(ends.values().all(|count| *count == 1), "seed {seed}: a run ended twice");
    let mut tails = BTreeMap::<SessionId, u64>::new();
    for (_, event) in &world.journal {
        if let Event::MessageAppended(message) = event {
            let tail = tails.entry(message.session_id).or_default();
            assert_eq!(message.seq, *tail + 1, "seed {seed}: a hole in a thread");
            *tail += 1;
        }
    }
}
