//! The journal: one JetStream stream with a single, fenced writer.
//!
//! Every service folds the frames of this stream; only the leading scheduler writes them. The protocol (fence, repeated
//! publish, leadership, journal time) is free of I/O and simulated; the driver and the follower connect it to JetStream.
//!
//! | part | what it is |
//! |---|---|
//! | [`frame`] | what a message of the stream holds, and its limits |
//! | [`draft`] | a turn while it is being decided, and how turns become a frame |
//! | [`chain`] | which frame may follow which; what else stops a reader |
//! | [`clock`] | the two clocks that the protocol takes as arguments |
//! | [`node`] | the protocol: standby, candidate, leader |
//! | [`driver`] | the protocol on a real server, for the scheduler |
//! | [`snapshot`] | snapshots of the state on the server: found through the journal, written, read, deleted |
//! | [`follow`] | reading the journal from a stored position, for the views |
//! | `testing` | what simulations are made of; part of every build, so that the binary and its tests share one |
//! | [`recording`] | a journal in a file |
//! | [`place`] | where in the journal a public event has its origin |
//! | [`audit`] | reading a journal that may be damaged: what is wrong, and how far it is right |
//! | [`rewrite`] | writing a stream again from frames that are right, and what a view still holds |

pub mod audit;
pub mod chain;
pub mod clock;
pub mod draft;
pub mod driver;
pub mod follow;
pub mod frame;
pub mod node;
pub mod place;
pub mod recording;
pub mod rewrite;
pub mod snapshot;

mod check;
mod fence;
mod leader;
mod msgpack;
mod standby;
mod store;
mod tail;
mod time;

pub use chain::{Base, Fault, Loss};
pub use draft::{TurnDraft, TurnTooLarge};
pub use driver::{Journal, JournalConfig, Progress};
pub use follow::{Follower, check_position};
pub use frame::{Body, Committed, Formats, Frame, FrameHash, Position, Turn};
pub use node::{NotLeading, Released};
pub use recording::{RecordingError, RecordingReader, RecordingWriter};
pub use snapshot::Snapshots;

#[cfg(test)]
mod sim;
pub mod testing;
