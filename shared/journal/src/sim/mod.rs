#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]
//! The protocol against a model of the stream that loses, delays and repeats, with processes that freeze, die, stop and
//! come back, and clocks that are set. Thousands of seeds; time is virtual.
//!
//! A failing seed is printed. To replay it alone: `TEST_SEED=<seed> cargo test -p laneway-journal sim`.

mod checks;
mod process;
mod world;

use std::thread;

use world::{Profile, Seen, World};

/// Seeds of each profile.
const SEEDS: u64 = 2_000;

/// Says which seed failed.
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed with seed {}: replay with TEST_SEED={}", self.0, self.0);
        }
    }
}

/// The one seed to run, where one is named.
#[allow(clippy::disallowed_methods, reason = "a seed to replay is no configuration")]
fn only_seed() -> Option<u64> {
    std::env::var("TEST_SEED").ok().filter(|seed| !seed.is_empty()).map(|seed| seed.parse().expect("a number"))
}

/// Runs every seed, then checks that the runs met what the profile is for.
fn check(profile: &Profile, met: fn(&Seen) -> bool) {
    let only = only_seed();
    let mut seen = Seen::default();
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let _guard = Guard(seed);
        World::new(seed, profile).run(&mut seen);
    }
    assert!(only.is_some() || met(&seen), "the runs did not meet what they are for: {seen:?}");
}

#[test]
fn a_network_that_loses_delays_and_repeats() {
    let profile = Profile { bad_network: true, outages: true, ..Profile::default() };
    check(&profile, |seen| seen.takeovers > 0 && seen.resumed > 0 && seen.refused > 0 && seen.released > 10_000);
}

#[test]
fn processes_that_freeze_and_come_back() {
    let profile = Profile { bad_network: true, pauses: true, ..Profile::default() };
    check(&profile, |seen| seen.takeovers > 0 && seen.resumed > 0 && seen.deposed > 0);
}

#[test]
fn processes_that_die_stop_and_start() {
    let profile = Profile { bad_network: true, kills: true, stops: true, abandons: true, ..Profile::default() };
    check(&profile, |seen| seen.takeovers > 0 && seen.stopped > 0 && seen.deposed > 0);
}

#[test]
fn clocks_that_are_set() {
    let profile = Profile { clock_steps: true, pauses: true, stops: true, ..Profile::default() };
    check(&profile, |seen| seen.takeovers > 0 && seen.resumed > 0 && seen.clock_off > 0);
}

/// A process that starts again under the same name, at the same journal time, must not take the frames of its earlier
/// life for its own.
#[test]
fn processes_that_start_again_with_their_clocks_behind() {
    let profile = Profile { bad_network: true, kills: true, abandons: true, clocks_behind: true, ..Profile::default() };
    check(&profile, |seen| seen.takeovers > 0 && seen.deposed > 0);
}

/// A process that begins with a snapshot has the memory of one that reads everything, and leads as well.
#[test]
fn processes_that_begin_with_a_snapshot() {
    let profile = Profile { bad_network: true, kills: true, abandons: true, snapshots: true, ..Profile::default() };
    check(&profile, |seen| seen.takeovers > 0 && seen.deposed > 0 && seen.from_snapshots > 1_000);
}

/// No frame has another format than the journal at that place, and no turn another than it was decided under.
#[test]
fn leaders_that_raise_the_format() {
    let profile = Profile {
        bad_network: true,
        pauses: true,
        kills: true,
        stops: true,
        snapshots: true,
        raises: true,
        ..Profile::default()
    };
    check(&profile, |seen| seen.takeovers > 0 && seen.deposed > 0 && seen.resumed > 0 && seen.raised > 1_000);
}

#[test]
fn everything_at_once() {
    let profile = Profile {
        bad_network: true,
        outages: true,
        pauses: true,
        kills: true,
        stops: true,
        abandons: true,
        clock_steps: true,
        clocks_behind: false,
        snapshots: true,
        raises: true,
    };
    check(&profile, |seen| seen.takeovers > 0 && seen.deposed > 0 && seen.resumed > 0 && seen.stopped > 0);
}
