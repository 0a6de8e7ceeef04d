//! Checking the journal, and repairing one that was damaged (docs/adr/0012-repair-from-a-store.md).
//!
//! | part | what it is |
//! |---|---|
//! | `raw` | the messages of a stream as they are |
//! | `check` | what is wrong with the journal and what views have of it |
//! | `flight` | the public events against the frames that they come from |
//! | `backup` | the file that everything is saved in first |
//! | `plan` | what would be kept, brought back and lost |
//! | `repair` | doing it |

mod backup;
pub(crate) mod check;
mod flight;
mod plan;
mod raw;
pub(crate) mod repair;

#[cfg(test)]
mod tests;
