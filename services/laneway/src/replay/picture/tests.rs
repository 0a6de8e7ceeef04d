//! The picture of a comparison.
#![allow(clippy::unwrap_used, reason = "tests")]

use laneway_contract::{Lane, Timestamp};

use super::*;
use crate::replay::compare::compare;
use crate::replay::model::Modelled;
use crate::replay::workload::{RecordedRun, Workload};

fn comparison(waits: [&[u64]; 3]) -> Comparison {
    let run = |n: usize| RecordedRun {
        lane: [Lane::Primary, Lane::Background][n % 2],
        fairness_key: "k".to_owned(),
        model_id: laneway_contract::ModelId::parse("echo/a").unwrap(),
        submitted_at: Timestamp::from_millis(1_000 * n as i64),
        wait_ms: Some(waits[0][n]),
        dispatches: Vec::new(),
        decisions: Vec::new(),
    };
    let runs: Vec<_> = (0..waits[0].len()).map(run).collect();
    let ended = Timestamp::from_millis(1_000 * waits[0].len() as i64);
    let work = Workload { runs, ended, ..Workload::default() };
    let modelled =
        |waits: &[u64]| Modelled { waits: waits.iter().copied().map(Some).collect(), refused: 0, changed: 0 };
    compare(&work, 1, &modelled(waits[1]), &modelled(waits[2]), 1)
}

/// Every element is closed in its place, and no text holds what would end it.
fn check_well_formed(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn it_has_a_panel_for_each_lane_and_key_with_three_curves_units_and_a_legend() {
    let waits: Vec<u64> = (0..240).map(|n| n * 40).collect();
    let less: Vec<u64> = waits.iter().map(|wait| wait / 3).collect();
    let svg = picture(&comparison([&waits, &waits, &less]), "a<b>&c.toml");
    check_well_formed(&svg);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for words in [
        "Queue waits as recorded, and modelled under a&lt;b&gt;&amp;c.toml",
        "a model of what was recorded",
        ">PRIMARY: 120 runs compared; p95 recorded 9.0 s",
        ">BACKGROUND: 120 runs compared",
        ">key k: 240 runs compared",
        ">recorded<",
        ">modelled as it was<",
        ">modelled under the policy<",
        ">mean wait, by the time of the submit after 1970-01-01T00:00:00.000Z<",
        ">5.0 s<",
        ">+ 0 ms<",
        ">+ 1 min 59 s<",
    ] {
        assert!(svg.contains(words), "no {words:?} in\n{svg}");
    }
    assert_eq!(svg.matches("<polyline").count(), 9);
    assert_eq!(svg, picture(&comparison([&waits, &waits, &less]), "a<b>&c.toml"));
}

#[test]
fn a_run_alone_is_a_point_and_no_runs_make_no_panel() {
    let svg = picture(&comparison([&[5], &[6], &[0]]), "p");
    check_well_formed(&svg);
    assert_eq!((svg.matches("<circle").count(), svg.matches("<polyline").count()), (6, 0));
    let svg = picture(&comparison([&[], &[], &[]]), "p");
    check_well_formed(&svg);
    assert!(!svg.contains("PRIMARY"));
}

#[test]
fn steps_are_round_and_few() {
    for most in [0, 1, 3, 7, 99, 1_001, 59_000, 3_600_000, 400_000_000, 40_000_000_000] {
        let step = step_of(most);
        assert!(most.div_ceil(step) <= 5, "{most}: {step}");
    }
}
