//! When a snapshot is due.

use std::time::Duration;

use crate::SnapshotSchedule;

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn it_is_due_after_so_many_bytes_or_an_hour_with_some() {
    let schedule = SnapshotSchedule::default();
    let (all, some) = (64 * 1_024 * 1_024, 1_024 * 1_024);
    let cases = [
        (0, all, Duration::ZERO, true),
        (all / 2, all, Duration::ZERO, true),
        // A large one is not taken again for little.
        (all, 2 * all - 1, Duration::ZERO, false),
        (all, 2 * all, Duration::ZERO, true),
        (0, all - 1, Duration::from_secs(3_599), false),
        (0, some, HOUR, true),
        // Heartbeats alone: there is nothing to be saved at the next start.
        (0, some - 1, 10 * HOUR, false),
    ];
    for (newest, bytes, time, due) in cases {
        assert_eq!(schedule.is_due(newest, bytes, time), due, "{bytes} bytes behind {newest} in {time:?}");
    }
}

#[test]
fn between_two_there_is_a_pause_that_grows_with_the_time_that_one_takes() {
    let schedule = SnapshotSchedule::default();
    for (took, rest) in [(0, 60), (6, 60), (20, 200)] {
        assert_eq!(schedule.rest_after(Duration::from_secs(took)), Duration::from_secs(rest), "after {took} s");
    }
}
