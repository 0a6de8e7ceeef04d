//! What the tests of the whole system share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::format_push_string,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

pub mod access;
pub mod damage;
pub mod draw;
pub mod fold;
pub mod load;
pub mod nats;
pub mod provider;
pub mod proxy;
pub mod stack;
pub mod streams;
pub mod submits;
pub mod tmpfs;
pub mod watch;
