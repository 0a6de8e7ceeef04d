//! Journal time follows the wall clock gently and never falls.

use laneway_contract::Timestamp;

use super::JournalTime;
use crate::clock::{BootMillis, Now};

fn at(boot: u64, wall: i64) -> Now {
    Now { boot: BootMillis::from_millis(boot), wall: Timestamp::from_millis(wall) }
}

#[test]
fn begins_at_the_later_of_last_frame_and_wall_clock() {
    let cases = [(500, 900, 900), (900, 500, 900)];
    for (last, wall, expected) in cases {
        let now = at(7, wall);
        assert_eq!(JournalTime::start(Timestamp::from_millis(last), now).read(now).millis(), expected);
    }
}

#[test]
fn is_slewed_by_one_millisecond_a_second() {
    // (wall clock ahead by, journal time after ten seconds beyond the ten seconds)
    let cases = [(5_000, 10), (-5_000, -10), (4, 4), (-4, -4), (0, 0)];
    for (ahead, slewed) in cases {
        let mut time = JournalTime::start(Timestamp::from_millis(1_000_000), at(0, 1_000_000));
        let mut read = 0;
        for boot in 1..=10_000 {
            read = time.read(at(boot, 1_000_000 + boot as i64 + ahead)).millis();
        }
        assert_eq!(read, 1_010_000 + slewed, "wall clock ahead by {ahead} ms");
    }
}

#[test]
fn never_falls_whatever_the_clocks_say() {
    let mut time = JournalTime::start(Timestamp::from_millis(1_000_000), at(100, 1_000_000));
    let mut last = 0;
    for (boot, wall) in [(100, 0), (90, 0), (101, -5), (200, 2_000_000), (200, 0), (100_000, 0)] {
        let read = time.read(at(boot, wall)).millis();
        assert!(read >= last, "fell from {last} to {read}");
        last = read;
    }
}

#[test]
fn a_wall_clock_more_than_ten_seconds_ahead_asks_for_a_step() {
    for (ahead, step) in [(10_000, false), (10_001, true), (-60_000, false)] {
        let mut time = JournalTime::start(Timestamp::from_millis(1_000_000), at(0, 1_000_000));
        assert_eq!(time.needs_step(at(0, 1_000_000 + ahead)), step);
    }
}
