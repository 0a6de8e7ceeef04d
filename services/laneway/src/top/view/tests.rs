//! Frames of several sizes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use laneway_contract::Lane;

use super::*;
use crate::top::model::tests::{limit, look, run, worker};
use crate::top::{frame_of, text_of};

fn model() -> Model {
    let mut model = Model::default();
    for second in 0..20 {
        model.take(look(second * 1_000, second * second * 10, second * 3));
    }
    model
}

fn lines(model: &Model, size: (u16, u16)) -> Vec<String> {
    let frame = frame_of(model, size);
    assert_eq!((frame.area.width, frame.area.height), size);
    text_of(&frame).lines().map(str::to_owned).collect()
}

#[track_caller]
fn line_with<'a>(lines: &'a [String], word: &str) -> &'a str {
    lines.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in\n{}", lines.join("\n")))
}

#[test]
fn the_smallest_terminal_shows_all_parts() {
    let lines = lines(&model(), (80, 24));
    assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80));
    for (word, also) in [
        ("host-1f2e", "epoch 12 · journal 48211"),
        ("tokens/s", "1227 queued  11 executing"),
        ("PRIMARY ", "8       12"),
        ("BACKGROUND ", "1204"),
        ("worker-b", "8/8"),
        ("global", "11/16"),
        ("provider:openai ", "6/6"),
        ("openai/gpt-5 tokens", "-310/20.0k"),
        ("0197c2f4-8f6c-7cc1-9c1b-000000000002", "3m05s"),
        ("retry_backoff 4.2 s", "SUBAGENT"),
        ("q leaves", ""),
    ] {
        let line = line_with(&lines, word);
        assert!(line.contains(also), "{also} in {line}");
    }
    let wait = line_with(&lines, "000000000002");
    assert!(wait.ends_with("6/6 provider:openai +1"), "{wait}");
}

#[test]
fn a_large_terminal_shows_models_and_places() {
    let lines = lines(&model(), (120, 40));
    assert!(line_with(&lines, "WAITED").contains("MODEL"));
    let expected = format!("{:25}{:>5}  6/6 provider:openai +1", "openai/gpt-5", 7);
    assert!(line_with(&lines, "000000000002").contains(&expected));
    assert!(lines.len() <= 40 && lines.iter().all(|line| line.chars().count() <= 120));
}

#[test]
fn bars_show_the_level_and_the_primary_reserve() {
    let lines = lines(&model(), (80, 24));
    let global = line_with(&lines, "global");
    let count = |symbol: char| global.split_once("/16").unwrap().0.matches(symbol).count();
    // 9 cells for 16 slots: 11 are taken, the last 4 of 16 are for PRIMARY only.
    assert_eq!((count('█'), count('▒'), count('░')), (7, 2, 0), "{global}");
    let taken = line_with(&lines, "provider:openai ");
    assert_eq!(taken.split_once("6/6").unwrap().0.matches(['▒', '░']).count(), 0, "{taken}");
}

#[test]
fn before_the_first_look_and_after_a_failed_one_it_says_so() {
    let mut model = Model::default();
    assert!(lines(&model, (80, 24))[0].contains("waiting for the scheduler"));
    model.miss("unavailable: no answer".to_owned());
    line_with(&lines(&model, (80, 24)), "not up to date: unavailable: no answer");
}

#[test]
fn an_idle_deployment_is_empty_and_tells_what_is_missing() {
    let mut idle = look(0, 0, 0);
    idle.oldest.clear();
    idle.status.queued.clear();
    idle.status.workers.clear();
    idle.limits.limits = vec![limit("global", 0, Some(0), Some(0), None)];
    let mut model = Model::default();
    model.take(idle);
    let lines = lines(&model, (80, 24));
    line_with(&lines, "nothing waits");
    line_with(&lines, "none: start `laneway serve worker`");
    line_with(&lines, "0/0");
}

#[test]
fn more_than_fits_is_counted_in_any_size() {
    let mut busy = look(0, 0, 0);
    busy.status.workers = (0..300).map(|n| worker(&format!("worker-{n}"), 1, 2)).collect();
    busy.limits.limits = (0..300).map(|n| limit(&format!("model:a/{n}"), 2, Some(1), Some(0), None)).collect();
    busy.oldest = (0..200).map(|n| (run(n, 1_000, Lane::Primary), None)).collect();
    let mut model = Model::default();
    model.take(busy);
    line_with(&lines(&model, (80, 24)), "workers (296 more)");
    line_with(&lines(&model, (120, 40)), "limits (288 more)");
    // No size is too small to draw.
    for columns in [1, 7, 20, 41, 80, 200] {
        for rows in [1, 2, 5, 11, 24, 60] {
            lines(&model, (columns, rows));
        }
    }
}

#[test]
fn figures_are_short_and_names_are_cut() {
    let cases =
        [(9_999, "9999"), (10_000, "10.0k"), (999_999, "999.9k"), (1_500_000, "1.5M"), (u64::MAX, "18446744073G")];
    for (number, text) in cases {
        assert_eq!(figure(number), text);
    }
    assert_eq!(
        (fit("abc", 3), fit("abcd", 3), fit("日本語", 4), fit("a", 0)),
        ("abc".into(), "ab…".into(), "日…".into(), String::new())
    );
    let names = [("model:openai/gpt-5-mini", 15, "model:o…-5-mini"), ("short", 15, "short"), ("model", 2, "m…")];
    for (name, width, text) in names {
        assert_eq!(fit_both_ends(name, width), text);
        assert!(Span::raw(text).width() <= width);
    }
    let cases = [
        (0, "0.0s"),
        (9_999, "9.9s"),
        (59_999, "59s"),
        (185_000, "3m05s"),
        (8_040_000, "2h14m"),
        (273_600_000, "3d04h"),
    ];
    for (millis, text) in cases {
        assert_eq!(long(millis), text);
    }
}
