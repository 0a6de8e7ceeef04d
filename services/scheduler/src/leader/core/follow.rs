//! Following the frames of other leaders.

use laneway_contract::Event;
use laneway_journal::Committed;

use super::{Core, Log};
use crate::{SchedulerError, fold};

impl<J: Log> Core<J> {
    /// Folds a frame of another leader, or of this process's own past. An error ends the process.
    pub(crate) fn follow(&mut self, committed: &Committed<Event>) -> Result<(), SchedulerError> {
        if fold(&mut self.state, committed) {
            return Ok(());
        }
        let number = committed.position.number;
        tracing::error!(number, "the fold of the journal differs from its leader's");
        Err(SchedulerError::Diverged { number })
    }
}
