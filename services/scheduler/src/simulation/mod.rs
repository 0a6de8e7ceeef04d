//! The whole scheduler by seed: several processes, each the real core over the real protocol of the journal, with the real
//! edge, handlers and reader before it; workers, clients, store replicas and NATS as actors in virtual time. Half of the seeds
//! hold at most 10 sessions and 20 append keys in memory; some have rates, some budgets. In half of them processes begin with
//! snapshots (`snapshots`): fold, bytes, hashes and what is journaled are the product's; the stream of objects, when one is taken
//! and the loop that looks for the newest are the world's.
//!
//! Whatever can go wrong does: processes and workers die, freeze and come back between any two steps, their cables are out,
//! messages are lost, late, repeated and out of order, answers of the server are stale, wall clocks are set. Then it gets calm.
//!
//! Checked at every frame, by an observer that sees the stream alone (`facts`, `slots`): SCHED-4, 6, 7, SESS-3, 6, leases in
//! full, every run ends once. At every dispatch (`ledger`): it is the run that goes next, and the pool, by the slow model of
//! the engine's simulation and what the leader had heard of workers (SCHED-5); no bucket lacks what it takes of it and no
//! budget has two takers (SCHED-6); waits for a rate are recorded once, with their parameters (SCHED-3); levels and budgets
//! of the state are those of the model. Of tools (`tools`, `states`): what has called one and lost its worker is stalled,
//! its session BLOCKED, and nobody claims it before a person has decided; states of sessions are those of the table. At
//! every reply and every call of a provider (`replies`, `calls`): nothing is said before its frame or by a deposed leader,
//! repeats get the first answer, a call belongs to an attempt that executes (SCHED-1), no two workers call for one session.
//! Of what memory gives up (`facts`, `stores`): each session comes back as it was, once, and an order for it gets what it
//! would have got: `unavailable` only where no replica answers, or several orders share room for a few sessions. In the calm
//! (`calm`): every run ends (SCHED-2), no slot is idle (SCHED-8), all folds are equal, byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]
#![allow(clippy::large_enum_variant, clippy::match_same_arms, reason = "messages and facts are told apart, not stored")]

mod api;
mod attempt;
mod calls;
mod calm;
mod chaos;
mod client;
mod facts;
mod folds;
mod ledger;
mod ops;
mod process;
mod replies;
mod seen;
mod server;
mod shell;
mod slots;
mod snapshots;
mod states;
mod stores;
mod tools;
mod weather;
mod worker;
mod world;

use std::thread;

use seen::Seen;
use world::World;

/// Seeds of one run of the tests.
const SEEDS: u64 = 2_000;
/// Seeds of one round of the endless simulation.
const ROUND: u64 = 5_000;
/// Seeds that are played twice.
const TWICE: u64 = 20;

#[test]
fn every_rule_holds_in_every_seed() {
    play(0, SEEDS).check();
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..TWICE {
        let (first, again) = (World::new(seed).run(), World::new(seed).run());
        assert_eq!(first, again, "seed {seed}: what happens does not follow from the seed");
    }
}

/// `just simulate`: plays a round of seeds; a panic names the seed, which `TEST_SEED` plays again.
#[test]
#[ignore = "endless: just simulate"]
#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]
fn endless() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("TEST_SEED") {
        let _guard = Guard(seed);
        println!("{:?}", World::new(seed).run());
        return;
    }
    let first = SEEDS + number("TEST_ROUND").unwrap_or(0) * ROUND;
    play(first, first + ROUND);
    println!("scheduler: seeds {first} to {}", first + ROUND - 1);
}

/// Plays seeds on all processors, and adds up what happened.
fn play(first: u64, end: u64) -> Seen {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    thread::scope(|scope| {
        let share = |index| {
            scope.spawn(move || {
                let mut seen = Seen::default();
                for seed in (first + index..end).step_by(threads as usize) {
                    let _guard = Guard(seed);
                    seen.add(&World::new(seed).run());
                }
                seen
            })
        };
        let shares: Vec<_> = (0..threads).map(share).collect();
        let mut all = Seen::default();
        for share in shares {
            match share.join() {
                Ok(seen) => all.add(&seen),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// Says which seed failed.
struct Guard(u64);

impl Drop for Guard {
    #[allow(clippy::print_stderr, reason = "the seed is what a failure is replayed by")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed {}: just simulate --seed {} plays it again", self.0, self.0);
        }
    }
}
