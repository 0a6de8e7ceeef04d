//! What reads answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod lists;
mod live;
mod threads;
mod windows;
