//! The spans of runs and sessions, derived once they have ended.

use laneway_contract::Event;
use laneway_journal::{Body, Frame};
use laneway_runtime::telemetry::{SessionTrace, record_run, record_session};

/// Exports the spans of the runs and sessions that end in a frame, where an exporter is configured. A frame that is written
/// again after a restart gives the same spans again: their ids come from the run and the session.
pub(crate) fn record(frame: &Frame<Event>) {
    let Body::Turns(turns) = &frame.body else { return };
    for turn in turns {
        for event in &turn.events {
            if let Event::RunSettled { run, .. } = event {
                record_run(run, turn.at);
            }
            if let Event::SessionStateChanged { session_id, status, duration_ms, .. } = event
                && status.state.is_terminal()
            {
                let created_at = turn.at.plus_millis(-(*duration_ms as i64));
                let (ended_at, state) = (turn.at, status.state);
                record_session(&SessionTrace { session_id: *session_id, created_at, ended_at, state });
            }
        }
    }
}
