//! A journal folded up to a time, and what is shown of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

use laneway_contract::{Actor, LimitName, Limits};
use laneway_engine::{Command, LimitsChange, SetBudget, SetLimits};
use serde_json::{Value, json};

use super::*;
use crate::replay::testing::{Fate, START, Yesterday};
use crate::replay::view::StateView;

fn folded(world: &Yesterday, until_ms: Option<i64>) -> Past {
    let until = until_ms.map(|after| Timestamp::from_millis(START + after));
    let mut past = Past::new(until, None);
    for committed in &world.frames {
        if !past.take(committed.clone()).unwrap() {
            break;
        }
    }
    past
}

fn shown(world: &Yesterday, until_ms: Option<i64>) -> Value {
    serde_json::to_value(StateView::of(&folded(world, until_ms))).unwrap()
}

/// Two runs may execute; five are submitted in as many sessions.
fn five() -> Yesterday {
    let mut world = Yesterday::new(&Limits { global: 2, ..Limits::default() }, 8);
    for n in 0..5 {
        let session = world.session("echo/a", Some("wp-1"));
        world.submit(100 * n, session, &[Fate::Completes(1_000)], |_| ());
    }
    let rate = LimitsChange::Single(vec![(LimitName::parse("requests_per_minute:provider:echo").unwrap(), Some(60))]);
    world.ask(450, Command::SetLimits(Box::new(SetLimits { change: rate, actor: Actor::runtime() })));
    let owner = BudgetOwner::WorkPacket("wp-1".to_owned());
    world.ask(460, Command::SetBudget(SetBudget { owner, tokens: Some(9_000), usd: None, actor: Actor::runtime() }));
    world.pass();
    world
}

#[test]
fn the_end_shows_what_has_ended() {
    let world = five();
    let view = shown(&world, None);
    assert_eq!(view["runs"], json!({"PRIMARY": {"completed": 5}}));
    assert_eq!(view["sessions"], json!({"IDLE": 5}));
    assert_eq!(view["heads"], json!([]));
    assert_eq!(view["journal"]["frame"], world.frames.len());
    assert_eq!(view["journal"]["leader"], "scheduler-1");
}

#[test]
fn a_time_in_the_middle_shows_what_held_and_who_waited_for_what() {
    let world = five();
    let view = shown(&world, Some(500));
    assert_eq!(view["runs"], json!({"PRIMARY": {"running": 2, "queued": 3}}));
    assert_eq!(view["sessions"], json!({"ACTIVE": 2, "CREATED": 3}));
    let heads = view["heads"].as_array().unwrap();
    let waits: Vec<_> = heads.iter().map(|head| (&head["reason"], head["waited_ms"].as_u64().unwrap())).collect();
    assert_eq!(waits, [(&json!("global"), 300), (&json!("global"), 200), (&json!("global"), 100)]);
    let global = view["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "global").unwrap();
    assert_eq!((&global["value"], &global["used"]), (&json!(2), &json!(2)));
    let bucket = json!([{"name": "requests_per_minute:provider:echo", "per_minute": 60, "capacity": 60, "level": 60}]);
    assert_eq!(view["buckets"], bucket);
    assert_eq!(view["budgets"][0]["owner"], "wp:wp-1");
    assert_eq!(view["budgets"][0]["tokens"]["limit"], 9_000);
    assert_eq!(view["holders"].as_array().unwrap().len(), 2);
    let text = StateView::of(&folded(&world, Some(500))).text();
    for word in ["WAITS FIRST", "global", "requests_per_minute:provider:echo", "wp:wp-1", "ACTIVE", "HOLDS A SLOT"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
}

#[test]
fn a_frame_is_cut_at_the_time() {
    let mut world = five();
    // One frame with all turns of the first half second, as a busy leader writes it.
    let (mut all, rest): (Vec<_>, Vec<_>) =
        world.frames.drain(1..).partition(|committed| committed.frame.time <= Timestamp::from_millis(START + 500));
    let turns = all.iter_mut().flat_map(|committed| match &mut committed.frame.body {
        Body::Turns(turns) => std::mem::take(turns),
        other => panic!("{other:?}"),
    });
    let mut one = rest[0].clone();
    one.frame.body = Body::Turns(turns.collect());
    world.frames.push(one);
    world.frames.extend(rest);
    let past = folded(&world, Some(250));
    assert_eq!(past.time, Timestamp::from_millis(START + 250));
    let queued: u64 = past.state.queued().values().sum();
    assert_eq!((past.state.holding().count(), queued), (2, 1));
}

#[test]
fn a_time_before_everything_shows_nothing() {
    let past = folded(&five(), Some(-5));
    assert_eq!((past.position.number, past.counts.events, past.state.live_session_count()), (0, 0, 0));
    assert_eq!(past.time, Timestamp::from_millis(START - 5));
}

#[test]
fn a_digest_that_differs_names_its_frame() {
    let mut world = five();
    let wrong = world.frames.iter_mut().find_map(|committed| {
        let Body::Turns(turns) = &mut committed.frame.body else { return None };
        let digest = turns.iter_mut().flat_map(|turn| &mut turn.events).find_map(|event| match event {
            Event::StateDigest { digest } => Some(digest),
            _ => None,
        })?;
        *digest ^= 1;
        Some(committed.position.number)
    });
    let mut past = Past::new(None, None);
    let error = world.frames.iter().find_map(|committed| past.take(committed.clone()).err()).unwrap();
    assert!(matches!(error, ReplayError::Diverged { number } if Some(number) == wrong), "{error} {wrong:?}");
}
