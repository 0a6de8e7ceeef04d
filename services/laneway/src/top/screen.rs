//! The terminal: refresh each second, keys, and the way back to the shell.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::model::Model;
use super::source::Source;
use super::{REFRESH, view};
use crate::cli::on_signals;
use crate::exit::{CliError, Exit};

/// How soon the reader of keys notices that nobody listens any more.
const KEYS: Duration = Duration::from_millis(100);

/// Shows the deployment until somebody leaves.
pub(super) async fn run(source: Source) -> Result<Exit, CliError> {
    let signals = on_signals()?;
    // IMPORTANT: made before the terminal is changed, so that it comes back also when only a part of the change worked.
    let _back = Back;
    let terminal = ratatui::try_init()?;
    tokio::select! {
        shown = show(terminal, source) => shown.map(|()| Exit::Done),
        () = signals.requested() => Ok(Exit::Interrupted),
    }
}

/// Gives the terminal back to the shell.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What a person did.
enum Did {
    Leave,
    Resize,
}

async fn show(mut terminal: DefaultTerminal, mut source: Source) -> Result<(), CliError> {
    let mut model = Model::default();
    let mut keys = keys();
    let mut seconds = tokio::time::interval(REFRESH);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| view::draw(frame, &model))?;
        let next = async {
            seconds.tick().await;
            source.look().await
        };
        tokio::pin!(next);
        let look = loop {
            tokio::select! {
                look = &mut next => break look,
                did = keys.recv() => match did {
                    Some(Ok(Did::Resize)) => {
                        terminal.draw(|frame| view::draw(frame, &model))?;
                    }
                    Some(Ok(Did::Leave)) | None => return Ok(()),
                    Some(Err(error)) => return Err(error.into()),
                },
            }
        };
        match look {
            Ok(look) => model.take(look),
            Err(error) => model.miss(error.to_string()),
        }
    }
}

/// What a person does, read on a thread of its own, which ends when nobody listens.
fn keys() -> mpsc::Receiver<io::Result<Did>> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            let did = match event::poll(KEYS).and_then(|there| if there { event::read().map(Some) } else { Ok(None) }) {
                Ok(event) => event.and_then(|event| did(&event)).map(Ok),
                Err(error) => Some(Err(error)),
            };
            if let Some(did) = did {
                let ends = !matches!(did, Ok(Did::Resize));
                if sender.blocking_send(did).is_err() || ends {
                    return;
                }
            }
        }
    });
    receiver
}

fn did(event: &Event) -> Option<Did> {
    match event {
        Event::Key(key) if leaves(key) => Some(Did::Leave),
        Event::Resize(..) => Some(Did::Resize),
        Event::Key(_) | Event::Mouse(_) | Event::Paste(_) | Event::FocusGained | Event::FocusLost => None,
    }
}

/// In raw mode, Ctrl-C is a key like any other.
fn leaves(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (control && key.code == KeyCode::Char('c')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_leave() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        for (event, expected) in [
            (key(KeyCode::Char('q'), KeyModifiers::NONE), true),
            (key(KeyCode::Esc, KeyModifiers::NONE), true),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), true),
            (key(KeyCode::Char('c'), KeyModifiers::NONE), false),
            (key(KeyCode::Enter, KeyModifiers::NONE), false),
            (Event::FocusLost, false),
        ] {
            assert_eq!(matches!(did(&event), Some(Did::Leave)), expected, "{event:?}");
        }
    }
}
