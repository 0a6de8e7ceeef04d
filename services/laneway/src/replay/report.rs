//! The comparison as text, with what it is and what it is not.

use std::fmt::Display;

use super::compare::{Column, Comparison, Group};
use crate::output::{span, table};

/// The whole comparison.
pub(crate) fn text(comparison: &Comparison, policy: &str) -> String {
    let Comparison { began, ended, frame, submitted, .. } = comparison;
    let mut parts = vec![
        format!(
            "A model of what was recorded, not a measurement: {submitted} runs that were submitted from {began} to {ended} \
             (up to frame {frame}),\ndecided again by the engine under {policy}."
        ),
        groups("LANE", &comparison.lanes),
    ];
    if !comparison.keys.is_empty() {
        let more = match comparison.more_keys {
            0 => String::new(),
            more => format!("\nand {more} more keys, which --keys shows"),
        };
        parts.push(format!("{}{more}", groups("FAIRNESS KEY", &comparison.keys)));
    }
    parts.push(remarks(comparison).join("\n"));
    parts.join("\n\n")
}

fn groups<N: Display>(heading: &str, groups: &[Group<N>]) -> String {
    let rows = groups.iter().flat_map(|group| {
        group.waits.iter().map(move |(column, waits)| {
            let first = |text: String| if *column == Column::Recorded { text } else { String::new() };
            [
                first(group.name.to_string()),
                column.as_str().to_owned(),
                format!("{} of {}", waits.started, group.submitted),
                first(group.compared.to_string()),
                span(waits.mean_ms),
                span(waits.p50_ms),
                span(waits.p95_ms),
                span(waits.max_ms),
            ]
        })
    });
    table([heading, "WAITS", "STARTED", "COMPARED", "MEAN", "P50", "P95", "MAX"], rows)
}

/// How good the model is, what it has, and what it does not have.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let error = &comparison.error;
    let mut lines = vec![
        "Waits are from submit to the first dispatch, of the runs that started in all three; lanes are those of the record."
            .to_owned(),
        format!(
            "How far the model as it was is from the record, run by run: {} on average, {} at p95, {} at most.",
            span(error.mean_ms),
            span(error.p95_ms),
            span(error.max_ms)
        ),
    ];
    for (id, pool) in &comparison.pools {
        let most = pool.seen.most_held;
        lines.push(match (pool.slots, pool.seen.seen_full) {
            (Some(slots), true) if slots == most => {
                format!("Workers of pool {id}: {slots} slots, the most that it held at a time while runs waited for it.")
            }
            (Some(slots), _) => format!("Workers of pool {id}: {slots} slots, as --slots says; it held up to {most}."),
            (None, _) => format!(
                "Workers of pool {id}: as many slots as it takes. It held up to {most} and no run was seen to wait for it, so \
                 its bound is not known: say it with --slots."
            ),
        });
    }
    if comparison.changed > 0 {
        lines.push(format!("Rules of the policy gave {} runs another lane or priority.", comparison.changed));
    }
    if comparison.refused > 0 {
        lines.push(format!("{} submits are refused under the policy.", comparison.refused));
    }
    lines.push(
        "Taken as fixed: arrivals, cancels, pauses, how long each attempt took and what it used, what persons decided, the \
         workers."
            .to_owned(),
    );
    lines.push(
        "Left out: that callers would have come at other times, that a provider is slower or refuses more when more is asked \
         of it,\nand what an attempt would have taken that was stopped or never made: there it is the middle of its model."
            .to_owned(),
    );
    lines
}

#[cfg(test)]
mod tests;
