//! What the journal stores of each event.

use super::*;

/// A line for each event of the table: its name and its bytes in a frame of this format.
const FORMAT_3: &str = include_str!("format-3.txt");

/// IMPORTANT: bytes of a released format are never edited. What changes gets a new format, and a file beside this one.
#[test]
fn the_bytes_of_an_event_in_a_frame_never_change() {
    let mut golden = FORMAT_3.lines();
    for (event, _) in table() {
        let bytes = rmp_serde::to_vec(&event).unwrap();
        let name = format!("{event:?}").split([' ', '(']).next().unwrap().to_owned();
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(golden.next(), Some(format!("{name} {hex}").as_str()));
        assert_eq!(rmp_serde::from_slice::<Event>(&bytes).unwrap(), event);
    }
    assert_eq!(golden.next(), None);
    assert_eq!(laneway_journal::frame::FORMAT, 3);
}
