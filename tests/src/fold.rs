//! What a store is to hold: a fold of the journal, made by the test.

use std::path::Path;

use laneway_bus::Bus;
use laneway_journal::Position;
use laneway_session_store::{View, Writer};
use tempfile::TempDir;

use crate::streams::committed;

/// A view that has applied the journal in order, once, without a fault.
pub struct Fold {
    view: View,
    writer: Writer,
    _folder: TempDir,
}

/// An entry: keyspace, key and value.
type Entry = (&'static str, Vec<u8>, Vec<u8>);

impl Default for Fold {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (view, writer) = View::open(folder.path()).expect("a view");
        Self { view, writer, _folder: folder }
    }
}

impl Fold {
    /// Compares every entry of the view in a folder, which no process has open, with the fold up to the same frame; that frame.
    pub async fn is_what_is_in(&mut self, bus: &Bus, folder: &Path) -> Position {
        let (at, found) = {
            let (view, _writer) = View::open(folder).expect("a view");
            (view.applied(), entries(&view))
        };
        let frames = committed(bus, self.view.applied(), at.number).await;
        self.writer.apply(&frames).expect("frames in their order");
        assert_eq!(self.view.applied(), at, "the view stands at another frame of that number");
        let expected = entries(&self.view);
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert_eq!(differs, None, "at frame {}", at.number);
        assert_eq!(found.len(), expected.len(), "entries at frame {}", at.number);
        at
    }
}

fn entries(view: &View) -> Vec<Entry> {
    let mut all = Vec::new();
    view.dump(|space, key, value| all.push((space, key.to_vec(), value.to_vec()))).expect("a view that can be read");
    all
}
