//! Calls of providers in truth: what workers do, whatever the journal says.

use std::collections::BTreeMap;

use laneway_contract::{Epoch, RunId, SessionId};

use super::process::Life;
use super::world::World;

/// A call that goes on.
struct Call {
    run: RunId,
    session: SessionId,
}

/// Calls that go on, by worker and attempt.
#[derive(Default)]
pub(super) struct Calls(BTreeMap<(usize, u64), Call>);

impl Calls {
    pub(super) fn end(&mut self, worker: usize, attempt: u64) {
        self.0.remove(&(worker, attempt));
    }

    pub(super) fn end_all(&mut self, worker: usize) {
        self.0.retain(|(of, _), _| *of != worker);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl World {
    /// SCHED-1, SCHED-4: a call belongs to an attempt that executes, of the newest epoch, of a run that has not ended. SESS-3, in
    /// truth: no other worker calls for the session, unless it is frozen, when it can know nothing, or heeds nothing.
    pub(super) fn call_begins(&mut self, worker: usize, attempt: u64, run: RunId, session: SessionId, epoch: Epoch) {
        self.seen.calls += 1;
        self.facts.executes(run, epoch, &self.workers[worker].id);
        let others = self
            .calls
            .0
            .iter()
            .filter(|((other, key), call)| call.session == session && (*other, *key) != (worker, attempt));
        for ((other, _), call) in others {
            let frozen = matches!(self.workers[*other].life, Life::Frozen(_));
            assert!(
                frozen || self.workers[*other].heedless,
                "SESS-3: workers {worker} and {other} call for {session} ({run} and {})",
                call.run
            );
        }
        self.calls.0.insert((worker, attempt), Call { run, session });
    }
}
