//! Where the frames come from: the deployment's stream, or a recording. One after the other, never all of them in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use laneway_bus::Bus;
use laneway_contract::{Event, Stream};
use laneway_journal::{Committed, Follower, Position, RecordingError, RecordingReader, RecordingWriter};
use tempfile::NamedTempFile;

use super::ReplayError;
use crate::exit::CliError;
use crate::output::Output;

/// Frames that are taken from the stream at a time.
const BATCH: usize = 256;
/// How often it is said how far the reading has come.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// Frames, from the first on.
pub(crate) struct Source {
    from: From,
    save: Option<Save>,
    progress: Progress,
}

enum From {
    File { reader: Box<RecordingReader<Event, BufReader<File>>>, name: String },
    Stream { follower: Box<Follower<Event>>, last: u64, ready: VecDeque<(Committed<Event>, Bytes)> },
}

/// A recording in the making: under its name only when it is whole.
struct Save {
    writer: RecordingWriter<BufWriter<NamedTempFile>>,
    path: PathBuf,
}

impl Source {
    /// The frames of a recording.
    pub(crate) fn file(path: &Path, out: Output) -> Result<Self, CliError> {
        let name = path.display().to_string();
        let file = |source| CliError::File { what: name.clone(), source };
        let opened = File::open(path).map_err(file)?;
        let total = opened.metadata().map_err(file)?.len();
        let reader =
            RecordingReader::open(BufReader::new(opened)).map_err(|error| recording_error(name.clone(), error))?;
        let from = From::File { reader: Box::new(reader), name };
        Ok(Self { from, save: None, progress: Progress::new(out, total) })
    }

    /// The frames that the stream of a deployment holds now, saved to a file on the way where one is named.
    pub(crate) async fn stream(bus: &Bus, save: Option<&Path>, out: Output) -> Result<Self, CliError> {
        let name = bus.prefix().stream(Stream::Journal);
        let follower = Follower::new(bus.client().clone(), &name, Position::START);
        let Some(last) = follower.end_hint().await else {
            let reason = format!("the stream {name} is not there, or its server does not answer");
            return Err(CliError::Stream { doing: "replay".to_owned(), reason });
        };
        let from = From::Stream { follower: Box::new(follower), last, ready: VecDeque::new() };
        let save = save.map(Save::begin).transpose()?;
        Ok(Self { from, save, progress: Progress::new(out, last) })
    }

    /// The next frame; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Committed<Event>>, CliError> {
        let next = match &mut self.from {
            From::File { reader, name } => {
                let next = reader.next_frame().map_err(|error| recording_error(name.clone(), error))?;
                next.map(|committed| (committed, Bytes::new(), reader.bytes_read()))
            }
            From::Stream { follower, last, ready } => {
                if ready.is_empty() && follower.position().number < *last {
                    ready.extend(follower.next_stored(BATCH).await.map_err(ReplayError::Fault)?);
                }
                let next = ready.pop_front().filter(|(committed, _)| committed.position.number <= *last);
                next.map(|(committed, bytes)| {
                    let number = committed.position.number;
                    (committed, bytes, number)
                })
            }
        };
        let Some((committed, bytes, done)) = next else { return Ok(None) };
        if let Some(save) = &mut self.save {
            save.put(&bytes)?;
        }
        self.progress.at(committed.position.number, done)?;
        Ok(Some(committed))
    }

    /// Gives the recording its name. How many frames it holds; none where nothing is saved.
    pub(crate) fn finish(self) -> Result<Option<u64>, CliError> {
        self.save.map(Save::finish).transpose()
    }
}

fn recording_error(file: String, error: RecordingError) -> CliError {
    match error {
        RecordingError::Io(source) => CliError::File { what: file, source },
        RecordingError::NoRecording
        | RecordingError::NewerRecording { .. }
        | RecordingError::CutShort { .. }
        | RecordingError::Broken { .. }
        | RecordingError::Fault(_) => ReplayError::Recording { file, error }.into(),
    }
}

impl Save {
    fn begin(path: &Path) -> Result<Self, CliError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |source| failed(path, source);
        // Readable by its owner alone: the frames hold the content of messages.
        let file = NamedTempFile::new_in(folder).map_err(failed)?;
        let writer = RecordingWriter::begin(BufWriter::new(file)).map_err(failed)?;
        Ok(Self { writer, path: path.to_owned() })
    }

    fn put(&mut self, frame: &[u8]) -> Result<(), CliError> {
        self.writer.put(frame).map_err(|source| failed(&self.path, source))
    }

    fn finish(self) -> Result<u64, CliError> {
        let Self { writer, path } = self;
        let frames = writer.frames();
        let persist = || {
            let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(frames)
        };
        persist().map_err(|source| failed(&path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> CliError {
    CliError::File { what: path.display().to_string(), source }
}

/// Says on stderr how far the reading has come.
struct Progress {
    out: Output,
    total: u64,
    said: Instant,
}

impl Progress {
    fn new(out: Output, total: u64) -> Self {
        Self { out, total, said: Instant::now() }
    }

    fn at(&mut self, frame: u64, done: u64) -> Result<(), CliError> {
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let percent = done.saturating_mul(100) / self.total.max(1);
            self.out.note(format!("frame {frame} is read, {percent} % of the journal"))?;
        }
        Ok(())
    }
}
