//! What has called a tool is never repeated by itself, and sessions say so.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::*;

/// What an attempt has called, and what became of it.
#[derive(Debug, Default)]
struct Attempt {
    number: u32,
    calls: BTreeSet<String>,
    answered: BTreeSet<String>,
    /// Its worker was lost, or has given it up, after a tool was called: a person has to decide.
    undecided: bool,
    stalled: bool,
}

/// The newest attempts of runs that have not ended.
#[derive(Debug, Default)]
pub(super) struct Tools(BTreeMap<RunId, Attempt>);

impl Tools {
    /// Folds an event.
    pub(super) fn happened(&mut self, event: &Event) {
        match event {
            Event::RunClaimed { run_id, attempt, .. } => self.claimed(*run_id, *attempt),
            Event::MessageAppended(message) => self.appended(message),
            Event::LeaseExpired { run_id, .. } => self.lost(*run_id),
            Event::RunRetryScheduled { run_id, error, .. } => {
                if error.class == ErrorClass::WorkerLost {
                    self.lost(*run_id);
                }
                assert!(!self.is_undecided(*run_id), "{run_id} has called a tool, lost its worker, and is tried again");
            }
            Event::RunStalled { run_id, pending_tool_call_ids, .. } => {
                self.lost(*run_id);
                let attempt = self.0.get_mut(run_id).unwrap();
                assert!(attempt.undecided, "{run_id} has called no tool and is stalled");
                attempt.stalled = true;
                let open: BTreeSet<String> = attempt.calls.difference(&attempt.answered).cloned().collect();
                let told: BTreeSet<String> = pending_tool_call_ids.iter().cloned().collect();
                assert_eq!(told, open, "the calls of {run_id} that nobody has answered");
            }
            Event::RunReturned { run_id, .. } | Event::RunDispatched { run_id, .. } => {
                assert!(
                    !self.is_undecided(*run_id),
                    "{run_id} has called a tool, lost its worker, and goes on undecided"
                );
            }
            Event::RunDecided { run_id, decision, decided_by, .. } => {
                assert_eq!(*decided_by, super::ops::person(), "nobody has decided about {run_id}");
                let attempt = self.0.get_mut(run_id).unwrap();
                let approves = *decision == Decision::Approve;
                assert!(!(attempt.stalled && approves), "{run_id} is stalled, and goes on as if it were not");
                (attempt.undecided, attempt.stalled) = (false, false);
            }
            Event::RunSettled { run, .. } => drop(self.0.remove(&run.run_id)),
            _ => {}
        }
    }

    /// Nobody has decided about it, and it is not over.
    fn is_undecided(&self, id: RunId) -> bool {
        self.0.get(&id).is_some_and(|attempt| attempt.undecided)
    }

    fn claimed(&mut self, id: RunId, number: u32) {
        assert!(!self.is_undecided(id), "{id} has called a tool, lost its worker, and is claimed undecided");
        let attempt = self.0.entry(id).or_default();
        // What goes on after an approval is the same attempt.
        if attempt.number != number {
            *attempt = Attempt { number, ..Attempt::default() };
        }
    }

    fn appended(&mut self, message: &MessageRecord) {
        let (Some(run), Some(call)) = (message.run_id, &message.tool_call_id) else { return };
        let Some(attempt) = self.0.get_mut(&run) else { return };
        match message.role {
            MessageRole::ToolCall => drop(attempt.calls.insert(call.clone())),
            MessageRole::ToolResult => drop(attempt.answered.insert(call.clone())),
            _ => {}
        }
    }

    fn lost(&mut self, id: RunId) {
        let attempt = self.0.get_mut(&id).unwrap();
        attempt.undecided |= !attempt.calls.is_empty();
    }
}
