//! How much room events take in a frame. A turn is never split, so what it takes on by itself is bounded here.

use laneway_contract::{Event, MessageDraft, RunRecord};

use crate::command::Cancel;

/// A turn takes no further step when its events have more bytes than this, by [`weight`].
pub(crate) const MAX_TURN_BYTES: usize = 256 * 1024;
/// The most bytes of one step that concerns many runs; a single event may be larger.
const MAX_STEP_BYTES: usize = 128 * 1024;

/// The most bytes of a limit with its name.
const LIMIT_BYTES: usize = 320;

/// Not fewer bytes than the event takes in a frame.
pub(crate) fn weight(event: &Event) -> usize {
    match event {
        Event::ArtifactStored(artifact) => 512 + artifact.bytes.len(),
        Event::RunQueued { run, .. } | Event::RunSettled { run, .. } => run_weight(run),
        Event::MessageAppended(message) => 1_024 + 40 * message.attachments.len(),
        Event::LimitsChanged { changes, .. } => 1_024 + LIMIT_BYTES * changes.len(),
        Event::LimitsConfigured { limits } => 1_024 + LIMIT_BYTES * limits.by_name().len(),
        Event::RunStalled { pending_tool_call_ids, .. } => {
            1_024 + pending_tool_call_ids.iter().map(|id| 8 + id.len()).sum::<usize>()
        }
        Event::SessionCreated { .. } => 16 * 1_024,
        Event::SessionLoaded { .. } => 17 * 1_024,
        Event::SessionsEvicted { sessions, .. } => 1_024 + 1_024 * sessions.len(),
        Event::HashKeyCreated { .. }
        | Event::StateDigest { .. }
        | Event::IncidentNoted(_)
        | Event::KeysEvicted { .. }
        | Event::RunsForgotten { .. }
        | Event::SnapshotTaken(_)
        | Event::BudgetSet { .. }
        | Event::BudgetWarned { .. }
        | Event::CoolDownChanged { .. }
        | Event::SessionTouched { .. }
        | Event::RunParked { .. }
        | Event::RunDecided { .. }
        | Event::SessionStateChanged { .. }
        | Event::SessionPauseSet { .. }
        | Event::SessionEndRequested { .. }
        | Event::AppendKeyTaken { .. }
        | Event::RunDispatched { .. }
        | Event::RunReturned { .. }
        | Event::RunClaimed { .. }
        | Event::RunStopRequested { .. }
        | Event::ReportTaken { .. }
        | Event::LeaseExpired { .. }
        | Event::LateAnswerTaken { .. }
        | Event::RunRateLimited { .. }
        | Event::RunRetryScheduled { .. } => 1_024,
    }
}

fn run_weight(run: &RunRecord) -> usize {
    let input: usize = run.fields.input.iter().map(draft_weight).sum();
    let issues: usize = run.status.issues.iter().map(|issue| 8 + issue.len()).sum();
    2_048 + input + issues + 24 * run.status.output_message_ids.len()
}

fn draft_weight(draft: &MessageDraft) -> usize {
    512 + 40 * draft.attachments.len()
}

/// As many of the events as one step takes: at least one, at most [`Cancel::BATCH`].
pub(crate) fn one_step(events: impl Iterator<Item = Event>) -> Vec<Event> {
    let mut bytes = 0;
    let fits = |event: &Event| {
        let first = bytes == 0;
        bytes += weight(event);
        first || bytes <= MAX_STEP_BYTES
    };
    events.take(Cancel::BATCH).take_while(fits).collect()
}
