//! Behaviour of the engine, driven without clock or network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

mod leases;
mod lifecycle;
mod limits;
mod random_walk;
mod runs;
mod threads;
mod world;
