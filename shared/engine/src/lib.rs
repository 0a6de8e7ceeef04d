//! The state machine that decides everything: sessions, threads, runs, limits, leases.
//!
//! Pure: a command, hints and a time go in, events come out; [`State::apply`] folds events and decides nothing. No
//! clock, no randomness, no I/O, no text of a caller or a model.
//!
//! Invariant: folding the same events gives the same state (`tests::simulation::replay`).
//! Invariant: a state read back from its snapshot has the same bytes and digest, and decides the same (`tests::simulation`).
//! Invariant: a limit is never exceeded, and a session executes one run at a time (`tests::simulation`).

mod accounts;
mod admit;
mod apply;
mod budget;
mod command;
mod decide;
mod digest;
mod explain;
mod hints;
mod index;
mod memory;
mod queue;
mod rates;
mod run;
mod schedule;
mod session;
mod slab;
mod slots;
mod snapshot;
mod state;
mod table;
mod turn;
mod turns;
mod weight;

pub mod testing;
#[cfg(test)]
mod tests;

pub use budget::{Account, Amount};
pub use command::{
    Append, Cancel, CancelTarget, Claim, Command, Create, Decide, EndSession, LimitsChange, Load, NewSession,
    PauseSession, Report, SetBudget, SetLimits, Submit,
};
pub use hints::{Hints, Lease, WorkerHint};
pub use memory::Question;
pub use run::{EndedRun, Phase, Requeued, Run, Taken};
pub use session::{AppendKey, Seat, Session};
pub use slots::{Gauge, GaugeName, Slots, reserve};
pub use snapshot::{SNAPSHOT_FORMAT, SnapshotError, SnapshotRecords};
pub use state::State;
pub use turn::{Decided, MAX_TURN_EVENTS};
