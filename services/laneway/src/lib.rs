//! The one binary of Laneway, as a library: what `laneway` does on the command line.
//!
//! | part | what it is |
//! |---|---|
//! | [`cli`] | the verbs, one file for each family |
//! | [`client`] | a small typed client of the services |
//! | [`follow`] | reading a token stream |
//! | [`demo`] | the main job in front of the user |
//! | `replay` | a journal folded again, and decided again under other limits |
//! | `services` | the services of this process |
//! | `ready` | whether a service does its work, seen from outside |
//! | [`nats_child`] | a nats-server of our own |
//! | `journal` | checks a damaged journal, and repairs it |
//! | [`top`] | the live screen of a deployment |
//! | [`output`] | tables, lines and JSON |
//! | [`exit`] | errors and exit codes |

pub mod cli;
pub mod client;
pub mod demo;
pub mod exit;
pub mod follow;
pub mod nats_child;
pub mod output;
pub mod top;

mod journal;
mod ready;
mod replay;
mod services;
