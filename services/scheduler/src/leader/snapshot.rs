//! Beginning to read, from a snapshot where there is one, and journaling those that were taken.

use laneway_contract::SnapshotTaken;
use laneway_runtime::Shutdown;
use tokio::time::Instant;

use super::{Ending, Leader};
use crate::SchedulerError;
use crate::start::{self, Replay};

impl Leader {
    /// Takes the state from the newest snapshot, before anything of the journal was read: at the start, and when the
    /// memory is not to be trusted any more.
    pub(super) async fn begin_reading(&mut self, shutdown: &Shutdown) -> Result<(), SchedulerError> {
        if !std::mem::take(&mut self.unread) || !matches!(self.ending, Ending::No) {
            return Ok(());
        }
        let began = Instant::now();
        let Some(start) = shutdown.unless_requested(Box::pin(start::load(&self.bus))).await else { return Ok(()) };
        let start = start.map_err(SchedulerError::Journal)?;
        if let Some((SnapshotTaken { sequence, bytes, records, .. }, _)) = &start.from {
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!(snapshot = sequence, bytes, records, seconds, "begins with a snapshot");
        }
        self.snapshots.started(&start);
        self.replay = Replay::up_to(start.end);
        self.core.begin_with(start.state);
        self.core.journal.has_had(start.had);
        if let Some(base) = start.base {
            self.core.journal.begin_behind(base);
        }
        Ok(())
    }

    /// Begins the next snapshot when it is time, and journals the one that was taken.
    pub(super) fn snapshot_if_due(&mut self) {
        if !self.core.leads() || !matches!(self.ending, Ending::No) {
            return;
        }
        let Self { core, snapshots, .. } = self;
        match snapshots.to_journal() {
            Some(taken) => core.journal_snapshot(taken.clone(), |at| {
                let durable = snapshots.journaled(at);
                Box::new(move |_| durable())
            }),
            None => snapshots.begin_if_due(core.journal.position().number, core.journal.read_bytes()),
        }
    }
}
