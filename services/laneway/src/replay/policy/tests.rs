//! What a policy file may say.
#![allow(clippy::unwrap_used, reason = "tests")]

use laneway_contract::Lane::{Background, Primary, Subagent, Validation};

use super::*;
use crate::replay::testing::submit_of;

#[test]
fn a_configuration_of_the_scheduler_is_a_policy() {
    let docs = include_str!("../../../../../docs/operations.md");
    let example = docs.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let policy = Policy::parse(example).unwrap();
    let limits = policy.limits.unwrap();
    assert_eq!((limits.global, limits.weight(Lane::Background)), (8, 1));
    assert_eq!(policy.rules, []);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let text = r#"
        [[rules]]
        match = { lane = "BACKGROUND", fairness_key = "nightly", model = "echo/*" }
        set = { lane = "SUBAGENT", priority = 20 }
        [[rules]]
        match = { fairness_key = "nightly/b" }
        set = { priority = 0 }
        [[rules]]
        match = { group = "g" }
        set = { lane = "VALIDATION" }
    "#;
    let policy = Policy::parse(text).unwrap();
    assert_eq!(policy.limits, None);
    let changed = |lane, key: &str, model, group: Option<&str>| {
        let mut submit = submit_of(lane, key, model, group);
        policy.change(&mut submit);
        (submit.lane, submit.priority)
    };
    assert_eq!(changed(Background, "nightly", "echo/a", None), (Subagent, 20));
    assert_eq!(changed(Background, "nightly/b", "echo/a", None), (Subagent, 20));
    assert_eq!(changed(Background, "nightly/b", "other/a", None), (Background, 0));
    assert_eq!(changed(Primary, "nightly", "echo/a", None), (Primary, 50));
    assert_eq!(changed(Background, "nightlyish", "echo/a", None), (Background, 50));
    assert_eq!(changed(Primary, "x", "echo/a", Some("g")), (Validation, 50));
    assert_eq!(changed(Primary, "x", "echo/a", Some("h")), (Primary, 50));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (text, place) in [
        ("", "nothing to try out"),
        ("nats = \"nats://h\"", "nothing to try out"),
        ("[limits]\nglobl = 3", "globl"),
        ("[limits]\nglobal = -3", "global"),
        ("[limits.lane_weights]\nPRIMARY = 0", "weight:PRIMARY"),
        ("[limits]\nglobal = 3\n[other]\nx = 1", "other"),
        ("[[rules]]\nset = { }", "set names neither"),
        ("[[rules]]\nset = { priority = 1001 }", "priority"),
        ("[[rules]]\nmatch = { lane = \"FAST\" }\nset = { priority = 1 }", "FAST"),
        ("[[rules]]\nmatch = { key = \"a\" }\nset = { priority = 1 }", "key"),
        ("[limits", "limits"),
    ] {
        let reason = Policy::parse(text).unwrap_err();
        assert!(reason.contains(place) && !reason.contains('\n'), "{text}: {reason}");
    }
}
