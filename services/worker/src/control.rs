//! Hears that an attempt is to stop, and tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use laneway_bus::ControlSignals;
use laneway_contract::{ControlMessage, Epoch, RunId, Stop};
use tokio::sync::watch;

use crate::run::Worker;

/// The attempts of this worker that can be stopped.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    // A run may be here twice: an attempt that still reports, and the next one.
    listening: Mutex<Listening>,
}

/// By run, and by claim.
type Listening = BTreeMap<(RunId, u64), watch::Sender<Option<Asked>>>;

/// What was asked of the highest epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    epoch: Epoch,
    stop: Stop,
}

/// The ear of one attempt; deaf again when dropped.
#[derive(Debug)]
pub(crate) struct StopSignal {
    stops: Arc<Stops>,
    key: (RunId, u64),
    asked: watch::Receiver<Option<Asked>>,
}

impl Stops {
    /// Listens for a run. Begin before its claim is sent: a signal may come before the claim's answer.
    pub(crate) fn listen(self: &Arc<Self>, run_id: RunId, claim_id: u64) -> StopSignal {
        let (sender, asked) = watch::channel(None);
        let key = (run_id, claim_id);
        self.lock().insert(key, sender);
        StopSignal { stops: self.clone(), key, asked }
    }

    /// Tells the attempts of the run. Signals of other workers' runs find nobody.
    pub(crate) fn deliver(&self, signal: &ControlMessage) {
        let asked = Asked { epoch: signal.epoch, stop: signal.stop };
        for (_, sender) in self.lock().range((signal.run_id, 0)..=(signal.run_id, u64::MAX)) {
            sender.send_if_modified(|before| {
                let newer = before.is_none_or(|before| before.epoch < asked.epoch);
                if newer {
                    *before = Some(asked);
                }
                newer
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        // A map is whole after any panic.
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StopSignal {
    /// What was asked of this epoch so far.
    pub(crate) fn asked(&self, epoch: Epoch) -> Option<Stop> {
        self.asked.borrow().filter(|asked| asked.epoch == epoch).map(|asked| asked.stop)
    }

    /// Ends when this epoch is to stop. May be dropped and called again.
    pub(crate) async fn stopped(&self, epoch: Epoch) -> Stop {
        let mut asked = self.asked.clone();
        let is_mine = |asked: &Option<Asked>| asked.is_some_and(|asked| asked.epoch == epoch);
        match asked.wait_for(is_mine).await.ok().and_then(|asked| *asked) {
            Some(asked) => asked.stop,
            // The sender lives as long as this ear.
            None => std::future::pending().await,
        }
    }
}

impl Drop for StopSignal {
    fn drop(&mut self) {
        self.stops.lock().remove(&self.key);
    }
}

/// Passes signals on. Never ends.
pub(crate) async fn listen(worker: &Worker) {
    if worker.config.ignore_control {
        return std::future::pending().await;
    }
    let mut signals = ControlSignals::new(&worker.bus);
    loop {
        let signal = signals.next().await;
        worker.stops.deliver(&signal);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use laneway_contract::{ControlMessage, RunId, Stop};

    use super::Stops;

    fn signal(run_id: RunId, epoch: u64, stop: Stop) -> ControlMessage {
        ControlMessage { run_id, epoch, stop }
    }

    #[test]
    fn only_the_epoch_that_is_meant_stops() {
        let stops = Arc::new(Stops::default());
        let run = RunId::generate();
        let ear = stops.listen(run, 1);
        stops.deliver(&signal(RunId::generate(), 5, Stop::Cancel));
        stops.deliver(&signal(run, 4, Stop::Cancel));
        assert_eq!(ear.asked(5), None);
        assert_eq!(ear.stopped(5).now_or_never(), None);
        stops.deliver(&signal(run, 5, Stop::Timeout));
        assert_eq!(ear.asked(5), Some(Stop::Timeout));
        assert_eq!(ear.stopped(5).now_or_never(), Some(Stop::Timeout));
        // The last value of an older epoch may be told again.
        stops.deliver(&signal(run, 4, Stop::Cancel));
        assert_eq!(ear.asked(5), Some(Stop::Timeout));
    }

    #[test]
    fn two_attempts_of_a_run_are_told_apart() {
        let stops = Arc::new(Stops::default());
        let run = RunId::generate();
        let (old, new) = (stops.listen(run, 1), stops.listen(run, 2));
        stops.deliver(&signal(run, 8, Stop::Cancel));
        assert_eq!((old.asked(7), new.asked(8)), (None, Some(Stop::Cancel)));
        drop(old);
        assert_eq!(stops.lock().len(), 1);
        drop(new);
        assert!(stops.lock().is_empty());
    }
}
