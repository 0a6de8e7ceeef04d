//! What is noted changes nothing.

use laneway_contract::*;

use super::world::*;
use crate::*;

fn incident(place: String) -> Command {
    Command::Note(Incident {
        found: "max_deliveries".to_owned(),
        place,
        stream_seq: Some(u64::MAX),
        count: u64::MAX,
        action: "none".to_owned(),
        run_id: None,
        session_id: None,
    })
}

#[test]
fn an_incident_is_one_event_that_changes_nothing_and_is_bounded() {
    let mut world = World::new();
    let before = world.state.digest();
    let longest = "p".repeat(Incident::MAX_TEXT_BYTES);
    let events = world.run(&incident(longest.clone())).unwrap();
    assert!(matches!(&events[..], [Event::IncidentNoted(noted)] if noted.place == longest), "{events:?}");
    assert_eq!(world.state.digest(), before);
    assert_eq!(world.replayed().digest(), before);
    assert_eq!(world.run(&incident(longest + "p")).unwrap_err().code, ErrorCode::BadRequest);
}
