//! The flight recorder: one public, ordered stream of JSON events, folded from the journal.
//!
//! It keeps no state. A public event is a pure function of one journal event, its turn's time and the bytes of the public
//! event before it; where in the journal it has its origin is stored with it. So a start goes on behind the last stored
//! event, and what has to be written again has the same bytes at the same sequence: none missing, none twice.
//!
//! | part | what it is |
//! |---|---|
//! | [`event`] | which public events a frame has |
//! | `payload` | the payload of each, key by key |
//! | [`hash`] | the chain from event to event |
//! | [`recorder`] | the service |
//! | `trace` | the spans of runs and sessions that have ended |
//! | [`mod@verify`] | looks for missing, altered and reordered events |

pub mod event;
pub mod hash;
pub mod recorder;
pub mod verify;

mod payload;
mod trace;

pub use event::{PublicEvent, public_events};
pub use hash::EventHash;
pub use recorder::{Lag, Recorder, RecorderError, run};
pub use verify::{Breach, Break, Report, Verifier, VerifyError, verify};
