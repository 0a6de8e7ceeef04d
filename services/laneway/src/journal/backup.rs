//! The file that everything is saved in before a stream is touched: one JSON value a line (docs/operations.md).
//!
//! A repair reads nothing but this file, so that it has been read back by then, and one that broke off can begin again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use laneway_bus::Bus;
use laneway_bus::async_nats::HeaderMap;
use laneway_contract::Stream;
use serde::{Deserialize, Serialize};

use super::raw::{self, Found, Raw};
use crate::exit::CliError;
use crate::output::Output;

/// The version of the format.
const VERSION: u32 = 1;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    /// The first.
    Head { laneway_backup: u32 },
    /// A message.
    Message { stream: Kind, sequence: u64, subject: String, headers: Vec<(String, String)>, payload: String },
    /// Behind the messages of a stream: how it ended.
    Stream { stream: Kind, last: u64, messages: u64, replicas: usize },
    /// The last: BLAKE3 of all lines before it.
    End { end: String },
}

/// The streams that are saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The journal.
    Journal,
    /// The public events.
    Flight,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Journal, Self::Flight];

    pub(super) const fn stream(self) -> Stream {
        match self {
            Self::Journal => Stream::Journal,
            Self::Flight => Stream::Flight,
        }
    }
}

/// How the streams ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) journal: u64,
    pub(super) flight: u64,
    /// Replicas of the journal.
    pub(super) replicas: usize,
}

/// Saves both streams in a new file, and has the system write it to the disk.
pub(super) async fn write(bus: &Bus, out: Output, path: &Path) -> Result<(), CliError> {
    let mut writer = Writer::create(path)?;
    for kind in Kind::ALL {
        let Some(found) = raw::find(bus, kind.stream()).await? else { continue };
        let mut messages = 0;
        let last = raw::each(bus, kind.stream(), 1, out, |message| {
            messages += 1;
            writer.line(&line(kind, message))
        });
        let last = last.await?;
        all_of(&found, messages)?;
        writer.line(&Line::Stream { stream: kind, last, messages, replicas: found.config.num_replicas })?;
    }
    writer.end()
}

/// Compares what was read with what the stream says that it holds: a backup that is short would agree with itself, and a
/// repair cuts what it does not have. Nobody writes by then.
fn all_of(found: &Found, messages: u64) -> Result<(), CliError> {
    if messages == found.messages {
        return Ok(());
    }
    let held = found.messages;
    let why = format!(
        "it says that it holds {held} messages, and {messages} were delivered: start nats-server again, then repeat"
    );
    Err(raw::unreadable(&found.config.name, &why))
}

/// Saves these messages, as [`write`] does those of the streams.
#[cfg(test)]
pub(super) fn save(path: &Path, streams: [(Kind, Vec<Raw>, usize); 2]) -> Result<(), CliError> {
    let mut writer = Writer::create(path)?;
    for (stream, messages, replicas) in streams {
        let last = messages.last().map_or(0, |message| message.sequence);
        let count = messages.len() as u64;
        messages.into_iter().try_for_each(|message| writer.line(&line(stream, message)))?;
        writer.line(&Line::Stream { stream, last, messages: count, replicas })?;
    }
    writer.end()
}

struct Writer {
    file: BufWriter<File>,
    hash: blake3::Hasher,
    path: PathBuf,
}

impl Writer {
    fn create(path: &Path) -> Result<Self, CliError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = BufWriter::new(file.map_err(|source| file_error(path, source))?);
        let mut writer = Self { file, hash: blake3::Hasher::new(), path: path.to_owned() };
        writer.line(&Line::Head { laneway_backup: VERSION })?;
        Ok(writer)
    }

    fn line(&mut self, line: &Line) -> Result<(), CliError> {
        let mut text = serde_json::to_vec(line).map_err(|error| file_error(&self.path, error.into()))?;
        text.push(b'\n');
        self.hash.update(&text);
        self.file.write_all(&text).map_err(|source| file_error(&self.path, source))
    }

    fn end(mut self) -> Result<(), CliError> {
        let end = self.hash.finalize().to_hex().to_string();
        self.line(&Line::End { end })?;
        let error = |source| file_error(&self.path, source);
        let file = self.file.into_inner().map_err(|failed| error(failed.into_error()))?;
        file.sync_all().map_err(error)?;
        // Without its name in the folder, a power loss takes the file as well.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(error)
    }
}

/// Reads a file to its end, handing over its messages; fails unless it is whole.
pub(super) fn read(path: &Path, mut take: impl FnMut(Kind, Raw) -> Result<(), CliError>) -> Result<Ends, CliError> {
    let error = |source| file_error(path, source);
    let malformed = |why: &str| CliError::Repair(format!("{} is no whole backup: {why}", path.display()));
    let mut reader = BufReader::new(File::open(path).map_err(error)?);
    let (mut text, mut hash) = (String::new(), blake3::Hasher::new());
    let (mut ends, mut counted) = (Ends::default(), 0);
    let mut is_first = true;
    loop {
        text.clear();
        if reader.read_line(&mut text).map_err(error)? == 0 {
            return Err(malformed("its last line is missing"));
        }
        let line: Line = serde_json::from_str(&text).map_err(|error| malformed(&error.to_string()))?;
        let is_head = matches!(line, Line::Head { laneway_backup: VERSION });
        if is_head != std::mem::take(&mut is_first) {
            return Err(malformed("it does not begin as one of this version"));
        }
        match line {
            Line::Head { .. } => {}
            Line::Message { stream, sequence, subject, headers, payload } => {
                counted += 1;
                let payload = BASE64.decode(payload).map_err(|error| malformed(&error.to_string()))?;
                take(stream, Raw { sequence, subject, headers: map(&headers), payload: Bytes::from(payload) })?;
            }
            Line::Stream { stream, last, messages, replicas } => {
                if std::mem::take(&mut counted) != messages {
                    return Err(malformed("messages are missing"));
                }
                match stream {
                    Kind::Journal => (ends.journal, ends.replicas) = (last, replicas),
                    Kind::Flight => ends.flight = last,
                }
            }
            Line::End { end } => {
                let is_right = hash.finalize().to_hex().as_str() == end;
                return if is_right { Ok(ends) } else { Err(malformed("its hash is another")) };
            }
        }
        hash.update(text.as_bytes());
    }
}

fn line(kind: Kind, message: Raw) -> Line {
    let Raw { sequence, subject, headers, payload } = message;
    let values = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let headers = values.map(|(name, value)| (name.to_string(), value.as_str().to_owned())).collect();
    Line::Message { stream: kind, sequence, subject, headers, payload: BASE64.encode(payload) }
}

fn map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.as_str(), value.as_str());
    }
    map
}

fn file_error(path: &Path, source: std::io::Error) -> CliError {
    CliError::File { what: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use laneway_bus::async_nats::jetstream::stream::Config;

    use super::{Found, all_of};

    #[test]
    fn what_is_saved_is_all_that_the_stream_says_it_holds() {
        let found = Found { last: 9, messages: 7, config: Config::default() };
        assert!(all_of(&found, 7).is_ok());
        for messages in [0, 6, 8] {
            assert!(all_of(&found, messages).is_err(), "{messages}");
        }
    }
}
