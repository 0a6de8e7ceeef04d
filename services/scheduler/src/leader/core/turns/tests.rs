//! A command that broke a turn is known again; the second break within a minute is the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use laneway_contract::{Actor, RunId};
use laneway_engine::{Cancel, CancelTarget};

use super::*;

fn cancel(run: RunId) -> Command {
    Command::Cancel(Cancel {
        target: CancelTarget::Run(run),
        submitted_before: None,
        actor: Actor::runtime(),
        reason: String::new(),
    })
}

#[test]
fn breaks() {
    let (broken, other) = (cancel(RunId::generate()), cancel(RunId::generate()));
    let mut breaks = Breaks::default();
    assert!(!breaks.refuses(&broken));
    let start = Timestamp::from_millis(1_000_000);
    breaks.count(Some(&broken), start);
    assert!(breaks.refuses(&broken) && !breaks.refuses(&other));
    breaks.check().unwrap();
    let later = |millis: u64| start.plus_millis(millis as i64);
    breaks.count(None, later(BREAKS_WITHIN_MS));
    breaks.check().unwrap();
    breaks.count(Some(&other), later(BREAKS_WITHIN_MS * 3 / 2));
    assert!(matches!(breaks.check(), Err(SchedulerError::Panicked)));
}
