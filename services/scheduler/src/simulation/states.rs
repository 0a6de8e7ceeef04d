//! States of sessions, by the table of their conditions.

use laneway_contract::*;

use super::facts::{Facts, Place};

impl Facts {
    pub(super) fn changes_state(&mut self, event: &Event) {
        match event {
            Event::SessionStateChanged { session_id, from, status, .. } => {
                let session = self.sessions.get_mut(session_id).unwrap();
                let before = session.state.replace(status.state).unwrap_or(SessionState::Created);
                assert_eq!(before, *from, "{session_id} was in another state");
                assert!(!before.is_terminal(), "{session_id} was {before} and goes on");
            }
            Event::RunClaimed { session_id, .. } => self.sessions.get_mut(session_id).unwrap().ever_claimed = true,
            _ => {}
        }
    }

    /// After each turn: the first condition that holds decides.
    pub(super) fn states_hold(&self, touched: impl Iterator<Item = SessionId>) {
        for id in touched {
            let session = &self.sessions[&id];
            let state = session.state.unwrap_or(SessionState::Created);
            let runs: Vec<Place> = self.runs.values().filter(|run| run.session == id).map(|run| run.place).collect();
            if state.is_terminal() {
                assert!(runs.is_empty(), "{id} is {state} and has runs");
                continue;
            }
            let expected = if runs.contains(&Place::Parked) {
                SessionState::Blocked
            } else if runs.contains(&Place::Running) {
                SessionState::Active
            } else if session.paused {
                SessionState::Paused
            } else if session.ever_claimed {
                SessionState::Idle
            } else {
                SessionState::Created
            };
            assert_eq!(state, expected, "the state of {id}, with its runs {runs:?}");
        }
    }
}
