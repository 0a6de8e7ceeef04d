//! Behaviour of the engine, driven without clock or network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

mod decisions;
mod draw;
mod fairness;
mod incidents;
mod leases;
mod lifecycle;
mod limits;
mod memory;
mod replica;
mod runs;
mod simulation;
mod snapshots;
mod threads;
mod world;
