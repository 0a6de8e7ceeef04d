//! What checks the engine from outside, in its own simulation and in that of the whole scheduler. Panics are its answers.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::wildcard_enum_match_arm, reason = "it checks")]

mod model;

#[cfg(test)]
pub(crate) use model::Place;
pub use model::{Budget, Model, Workers};
