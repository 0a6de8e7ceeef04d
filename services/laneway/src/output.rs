//! What a command shows: tables and lines for people, one JSON value per line for programs.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use laneway_contract::{RunView, SessionRecord};
use serde::Serialize;

/// The standard output, and how the caller wants it.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Output for a program (`json`) or a person.
    #[must_use]
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads.
    #[must_use]
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person looks at a terminal that shows colours.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// Writes a line.
    pub fn line(self, text: impl Display) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Writes a piece of text at once, without an end of line.
    pub fn piece(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Writes bytes as they are.
    pub fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes a value as one line of JSON.
    pub fn value<T: Serialize>(self, value: &T) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Writes a remark for a person on stderr, where it is in nobody's way.
    pub fn note(self, text: impl Display) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(io::stderr().lock(), "{text}")
    }

    /// Shows a reply: as JSON, or as `people` writes it.
    pub fn reply<T: Serialize>(self, value: &T, people: impl FnOnce(&T) -> String) -> io::Result<()> {
        if self.json { self.value(value) } else { self.line(people(value)) }
    }
}

/// A table with a line of headings; as wide as the terminal, or as its content where there is none.
#[must_use]
pub fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names and values, one pair a line; a value without content shows as `-`.
#[must_use]
pub fn fields(value: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(map)) = serde_json::to_value(value) else {
        return String::new();
    };
    let width = map.keys().map(String::len).max().unwrap_or_default();
    let line = |(name, value): (&String, &serde_json::Value)| format!("{name:width$}  {}", plain(value));
    map.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) if list.is_empty() => "-".to_owned(),
        serde_json::Value::Object(map) if map.is_empty() => "-".to_owned(),
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => value.to_string(),
    }
}

/// The value as text, or `-`.
#[must_use]
pub fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A length of time for people: `340 ms`, `1.2 s`, `3 min 05 s`.
#[must_use]
pub fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ if millis % 60_000 < 1_000 => format!("{} min", millis / 60_000),
        _ => format!("{} min {:02} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

/// Sessions as a table.
#[must_use]
pub fn sessions_table(sessions: &[SessionRecord]) -> String {
    table(
        ["SESSION", "STATE", "MODEL", "ROLE", "WP", "MESSAGES", "TOKENS", "UPDATED"],
        sessions.iter().map(|session| {
            [
                session.session_id.to_string(),
                session.status.state.to_string(),
                session.fields.model_id.to_string(),
                session.fields.role.clone(),
                or_dash(session.fields.wp_id.as_deref()),
                session.status.messages_count.to_string(),
                session.status.total_tokens.to_string(),
                session.updated_at.to_string(),
            ]
        }),
    )
}

/// Runs as a table, with queue wait, tokens and duration.
#[must_use]
pub fn runs_table(runs: &[RunView]) -> String {
    table(
        ["RUN", "SESSION", "STATE", "WHY", "MODEL", "LANE", "TRY", "QUEUED", "TOKENS IN/OUT", "TOOK"],
        runs.iter().map(|run| {
            let status = &run.status;
            [
                run.run_id.to_string(),
                run.session_id.to_string(),
                status.state.to_string(),
                why(run),
                run.fields.model_id.to_string(),
                run.fields.lane.to_string(),
                status.attempt.to_string(),
                or_dash(status.queue_wait_ms.map(span)),
                format!("{}/{}", status.usage.input_tokens, status.usage.output_tokens),
                or_dash(took(run).map(span)),
            ]
        }),
    )
}

/// From the run's first claim to its end, in milliseconds.
#[must_use]
pub fn took(run: &RunView) -> Option<u64> {
    Some(run.status.ended_at?.millis_since(run.status.started_at?))
}

/// Why a run waits, failed or was cancelled; `-` when there is nothing to say.
#[must_use]
pub fn why(run: &RunView) -> String {
    let status = &run.status;
    if let Some(approval) = &status.approval_id {
        return format!("approval {approval}");
    }
    if status.reason != laneway_contract::WaitReason::None {
        return status.reason.to_string();
    }
    if let Some(cancel) = status.cancel.as_ref().filter(|cancel| !cancel.too_late) {
        return format!("by {}", cancel.by.id);
    }
    or_dash(status.error.as_ref().map(|error| error.code.as_str()))
}

#[cfg(test)]
mod tests;
