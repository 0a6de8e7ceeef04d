//! What is taken from a journal.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

use laneway_contract::{Limits, SessionState, Usage};
use laneway_engine::{Command, EndSession};

use super::*;
use crate::replay::past::Past;
use crate::replay::testing::{Fate, START, Yesterday, actor};

fn taken(world: &Yesterday) -> Workload {
    let mut past = Past::new(None, Some(Recorder::default()));
    for committed in &world.frames {
        past.take(committed.clone()).unwrap();
    }
    past.recorder.take().unwrap().finish()
}

#[test]
fn attempts_have_their_durations_and_their_own_usage() {
    let mut world = Yesterday::new(&Limits::default(), 8);
    let session = world.session("echo/a", None);
    world.submit(100, session, &[Fate::Fails(90), Fate::Completes(140)], |_| ());
    world.pass();
    let work = taken(&world);
    let [run] = work.runs.as_slice() else { panic!("{:?}", work.runs) };
    assert_eq!((run.submitted_at, run.wait_ms), (Timestamp::from_millis(START + 100), Some(0)));
    let took: Vec<_> = run
        .dispatches
        .iter()
        .map(|dispatch| match dispatch {
            Dispatch::Claimed { after_ms, attempt, .. } => match &attempt.end {
                AttemptEnd::Finished { after_ms: took, outcome, messages, .. } => {
                    (*after_ms, *took, outcome.usage.total(), messages.len())
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(took, [(2, 90, 70, 1), (2, 140, 70, 1)]);
    assert_eq!((work.typical.claim_ms(), work.typical.attempt(&run.model_id)), (2, (140, 70)));
}

#[test]
fn who_was_told_to_stop_would_have_taken_longer() {
    let mut world = Yesterday::new(&Limits::default(), 8);
    let session = world.session("echo/a", None);
    let run = world.submit(0, session, &[Fate::Completes(5_000)], |_| ());
    world.cancel(302, run);
    world.pass();
    let work = taken(&world);
    let Dispatch::Claimed { attempt, .. } = &work.runs[0].dispatches[0] else { panic!("{:?}", work.runs) };
    match &attempt.end {
        AttemptEnd::Stopped { ran_ms, after_stop_ms, outcome, .. } => {
            assert_eq!((*ran_ms, *after_stop_ms), (307, 7));
            assert_eq!(outcome.usage, Usage { input_tokens: 40, output_tokens: 30, ..Usage::default() });
        }
        other => panic!("{other:?}"),
    }
    let cancels = work.inputs.iter().filter(|input| matches!(input.what, Asked::Cancel { .. }));
    assert_eq!(cancels.count(), 1);
    // No attempt has come to an end by itself.
    assert_eq!(work.typical.attempt(&work.runs[0].model_id), (UNKNOWN_ATTEMPT_MS, 0));
}

#[test]
fn the_end_of_a_session_counts_where_it_cancels_runs() {
    let mut world = Yesterday::new(&Limits::default(), 8);
    let (busy, idle) = (world.session("echo/a", None), world.session("echo/a", None));
    for _ in 0..3 {
        world.submit(0, busy, &[Fate::Completes(900)], |_| ());
    }
    for session_id in [busy, idle] {
        let (end, reason) = (SessionState::Completed, "done".to_owned());
        world.ask(500, Command::End(EndSession { session_id, end, cancel_runs: true, actor: actor(), reason }));
    }
    world.pass();
    let work = taken(&world);
    let ends: Vec<_> = work
        .inputs
        .iter()
        .filter_map(|input| match &input.what {
            Asked::End(end) => Some(end.session_id),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [busy]);
    // What an end cancels follows from it.
    assert!(!work.inputs.iter().any(|input| matches!(input.what, Asked::Cancel { .. })));
}

#[test]
fn what_executes_at_the_end_took_at_least_until_then() {
    let mut world = Yesterday::new(&Limits::default(), 8);
    let sessions = [world.session("echo/a", None), world.session("echo/a", None)];
    world.submit(0, sessions[0], &[Fate::Completes(5_000)], |_| ());
    world.submit(1_002, sessions[1], &[Fate::Completes(9_000)], |_| ());
    world.pass();
    world.frames.retain(|committed| committed.frame.time <= Timestamp::from_millis(START + 1_002));
    let work = taken(&world);
    let Dispatch::Claimed { attempt, .. } = &work.runs[0].dispatches[0] else { panic!("{:?}", work.runs) };
    assert!(matches!(attempt.end, AttemptEnd::Open { ran_ms: 1_000 }), "{:?}", attempt.end);
    assert!(matches!(work.runs[1].dispatches[..], [Dispatch::Open { unclaimed_ms: 0 }]));
}
