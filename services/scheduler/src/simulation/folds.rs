//! A fold of the whole journal from nothing.

use laneway_contract::Event;
use laneway_engine::State;
use laneway_journal::testing::{Reader, Stream};

use crate::fold;

/// SCHED-7: reading everything again gives the same state.
pub(super) fn folds_to(stream: &Stream, digest: u128, known: &State) {
    let (mut reader, mut state) = (Reader::default(), State::default());
    for number in 1..=stream.last() {
        let committed = reader.read::<Event>(stream.get(number).unwrap()).unwrap();
        assert!(fold(&mut state, &committed), "SCHED-7: a digest is not that of a fold from nothing");
    }
    assert_eq!(state.digest(), digest, "SCHED-7: a fold from nothing gives another state");
    assert!(bytes_of(&state) == bytes_of(known), "SCHED-7: a fold from nothing gives other bytes");
}

/// The state as a snapshot has it.
pub(super) fn bytes_of(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.write_snapshot(&mut bytes).unwrap();
    bytes
}
