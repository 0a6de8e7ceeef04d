//! What the text says.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::replay::compare::compare;
use crate::replay::model;
use crate::replay::past::Past;
use crate::replay::policy;
use crate::replay::testing::{Fate, Yesterday};
use crate::replay::workload::Recorder;

use super::*;

fn report(slots: u32, given: Option<u32>) -> String {
    let limits = laneway_contract::Limits { global: 3, ..Default::default() };
    let mut world = Yesterday::new(&limits, slots);
    for n in 0..30 {
        let session = world.session("echo/a", Some(["red", "blue<"][n % 2]));
        world.submit(20 * n as i64, session, &[Fate::Completes(300)], |_| ());
    }
    world.pass();
    let mut past = Past::new(None, Some(Recorder::default()));
    for committed in &world.frames {
        past.take(committed.clone()).unwrap();
    }
    let (work, pools) = (past.recorder.take().unwrap().finish(), past.pools.known());
    let rules = policy::rules("[[rules]]\nmatch = { fairness_key = \"red\" }\nset = { priority = 1 }");
    let policy = policy::Policy { limits: None, rules };
    let (as_it_was, other) = (model::run(&work, &pools, given, None), model::run(&work, &pools, given, Some(&policy)));
    let comparison = compare(&work, past.position.number, &as_it_was, &other, 1).with_pools(&pools, given);
    text(&comparison, "tomorrow.toml")
}

#[test]
fn it_says_that_it_is_a_model_and_what_it_takes_as_fixed() {
    let text = report(64, None);
    for words in [
        "A model of what was recorded, not a measurement: 30 runs",
        "under tomorrow.toml",
        "PRIMARY",
        "recorded",
        "modelled as it was",
        "modelled under the policy",
        "30 of 30",
        "and 1 more keys",
        "from the record, run by run: 0 ms on average, 0 ms at p95, 0 ms at most",
        "Workers of pool pool: as many slots as it takes",
        "Rules of the policy gave 15 runs another lane or priority",
        "Taken as fixed: arrivals",
        "Left out: that callers",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert_eq!(text, report(64, None), "the same again");
}

#[test]
fn it_says_where_the_workers_come_from() {
    // One of the model's limits is 2, so two workers are full before it is.
    let full = report(1, None);
    assert!(full.contains("1 slots, the most that it held at a time while runs waited for it"), "{full}");
    let given = report(1, Some(9));
    assert!(given.contains("9 slots, as --slots says; it held up to 1"), "{given}");
}
