//! When a snapshot is due.

use std::time::Duration;

use crate::SnapshotSchedule;

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn it_is_due_after_so_many_bytes_or_an_hour_with_some() {
    let schedule = SnapshotSchedule::default();
    let (all, some) = (64 * 1_024 * 1_024, 1_024 * 1_024);
    let cases = [
        (all, Duration::ZERO, true),
        (all - 1, Duration::from_secs(3_599), false),
        (some, HOUR, true),
        // Heartbeats alone: there is nothing to be saved at the next start.
        (some - 1, 10 * HOUR, false),
    ];
    for (bytes, time, due) in cases {
        assert_eq!(schedule.is_due(bytes, time), due, "{bytes} bytes in {time:?}");
    }
}
