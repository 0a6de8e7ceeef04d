//! The whole system, as its users run it: separate processes, real nats-servers. One binary, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod access;
mod architecture;
mod bad_input;
mod cancel;
mod cli;
mod cluster;
mod compose;
mod conversation;
mod crashes;
mod cuts;
mod data_loss;
mod doctor;
mod events;
mod eviction;
mod frozen;
mod full_disk;
mod intake;
mod journal;
mod lifecycle;
mod limits;
mod operator;
mod power;
mod privacy;
mod queueing;
mod rates;
mod recovery;
mod replay;
mod snapshots;
mod takeover;
mod telemetry;
mod upgrades;
