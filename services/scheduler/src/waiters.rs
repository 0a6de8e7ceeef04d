//! Who waits for the end of which run.

use std::collections::HashMap;
use std::sync::Arc;

use laneway_contract::{RunId, RunRecord};
use tokio::sync::oneshot;

/// What those who wait are told, once it is in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// How the run ended.
    pub(crate) ending: Arc<Ending>,
    /// The frame that ended it.
    pub(crate) journal_seq: u64,
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The run as it stays.
    pub(crate) record: RunRecord,
    /// The text of its answer, where the same turn brought it.
    pub(crate) output: Option<String>,
}

/// Those who wait, by run. Lives as long as a leadership: then they are told nothing, and ask again.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_run: HashMap<RunId, Vec<oneshot::Sender<Ended>>>,
    closed: bool,
}

impl Waiters {
    /// Waits for the end of a live run. The receiver fails when the leadership ends first.
    pub(crate) fn watch(&mut self, run: RunId) -> oneshot::Receiver<Ended> {
        let (tell, told) = oneshot::channel();
        if !self.closed {
            let waiting = self.by_run.entry(run).or_default();
            // Those who gave up go here, so that a run that is asked for again and again does not gather them.
            waiting.retain(|waiter| !waiter.is_closed());
            waiting.push(tell);
        }
        told
    }

    /// Those who wait for a run that has just ended.
    pub(crate) fn take(&mut self, run: RunId) -> Vec<oneshot::Sender<Ended>> {
        self.by_run.remove(&run).unwrap_or_default()
    }

    /// Sends everybody away, also those who come later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.by_run.clear();
    }
}
