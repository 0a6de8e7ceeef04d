//! The worker: takes dispatched runs, claims them, calls their providers, streams the tokens and reports.
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | what a worker serves |
//! | `serving` | its providers, the models that it announces, and its pool |
//! | `announce` | tells the scheduler every second that it lives |
//! | `fetch` | takes dispatches, as many as there are free slots |
//! | `control` | hears that an attempt is to stop |
//! | `attempt` | one run from its claim to its report |
//! | `clock` | the clock that counts suspend, and the wall clock |

pub mod config;

mod announce;
mod attempt;
mod clock;
mod control;
mod decode;
mod fetch;
mod run;
mod serving;
mod slots;

pub use config::WorkerConfig;
pub use run::{WorkerError, pool, run};
