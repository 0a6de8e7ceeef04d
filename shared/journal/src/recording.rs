//! A recorded journal: its frames in a file, from the first on, each as it is stored.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LANEWAYJ` |
//! | 2 | the version of this layout, 1 |
//! | 4, then as many | the length of a frame, and the frame; again for each |
//! | 4 | a length of 0: the recording ends here |
//! | 8 | how many frames it holds |
//! | 32 | the BLAKE3 hash of the last; zeros when there is none |
//!
//! Numbers are unsigned, the most significant byte first. A frame names the hash of the one before and the end that of the
//! last, so no byte of a frame can change unnoticed, and a file that was cut short has no end.

use std::io::{self, ErrorKind, Read, Write};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::chain::{Chain, Fault, Link, Loss, lost};
use crate::frame::{Committed, FrameHash, MAX_FRAME_BYTES};

/// What a recording begins with.
const MAGIC: &[u8; 8] = b"LANEWAYJ";

/// The layout that this program writes, and the newest that it reads.
pub const VERSION: u16 = 1;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file begins with something else.
    #[error("no_recording: the file is no recorded journal: make one with `laneway replay --from nats --save FILE`")]
    NoRecording,
    /// A newer program wrote the file.
    #[error("newer_recording: the recording has version {version}, this program reads up to {VERSION}")]
    NewerRecording {
        /// Its version.
        version: u16,
    },
    /// The file ends before the recording does.
    #[error("cut_short: the recording ends at frame {number}, before its end")]
    CutShort {
        /// The frame at which it ends.
        number: u64,
    },
    /// What stands in the place of a frame is none, or the end names others than those before it.
    #[error("broken_recording: at frame {number} {what}")]
    Broken {
        /// The frame that was expected.
        number: u64,
        /// What is there.
        what: &'static str,
    },
    /// The frames are not one journal.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The file cannot be read.
    #[error("cannot read the recording: {0}")]
    Io(io::Error),
}

/// Writes a recording.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    frames: u64,
    last: FrameHash,
}

impl<W: Write> RecordingWriter<W> {
    /// Begins a recording.
    pub fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        Ok(Self { out, frames: 0, last: FrameHash::ZERO })
    }

    /// Adds the bytes of the next frame.
    pub fn put(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(frame)?;
        self.frames += 1;
        self.last = FrameHash::of(frame);
        Ok(())
    }

    /// How many frames it holds so far.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Ends the recording. Without its end it is refused as cut short.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&0_u32.to_be_bytes())?;
        self.out.write_all(&self.frames.to_be_bytes())?;
        self.out.write_all(self.last.as_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a recording, frame by frame, each strictly the successor of the one before.
#[derive(Debug)]
pub struct RecordingReader<E, R> {
    input: R,
    chain: Chain,
    bytes_read: u64,
    ended: bool,
    buffer: Vec<u8>,
    event: PhantomData<fn() -> E>,
}

impl<E: DeserializeOwned, R: Read> RecordingReader<E, R> {
    /// Reads what stands before the first frame.
    pub fn open(input: R) -> Result<Self, RecordingError> {
        let chain = Chain::default();
        let mut reader = Self { input, chain, bytes_read: 0, ended: false, buffer: Vec::new(), event: PhantomData };
        let magic = reader.array();
        if matches!(magic, Err(RecordingError::CutShort { .. })) || magic? != *MAGIC {
            return Err(RecordingError::NoRecording);
        }
        let version = u16::from_be_bytes(reader.array()?);
        match version {
            VERSION => Ok(reader),
            0 => Err(RecordingError::NoRecording),
            _ => Err(RecordingError::NewerRecording { version }),
        }
    }

    /// The next frame; none at the end of the recording. After an error there is nothing more to read.
    pub fn next_frame(&mut self) -> Result<Option<Committed<E>>, RecordingError> {
        if self.ended {
            return Ok(None);
        }
        let number = self.chain.next();
        let length = u32::from_be_bytes(self.array()?) as usize;
        if length == 0 {
            self.end(number)?;
            return Ok(None);
        }
        if length > MAX_FRAME_BYTES {
            return Err(RecordingError::Broken { number, what: "stands a length that no frame has" });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(length, 0);
        self.fill(&mut buffer)?;
        let link = self.chain.accept(number, &buffer);
        self.buffer = buffer;
        match link? {
            Link::Next(committed) => Ok(Some(committed)),
            // Frames are asked for by their numbers, one after the other.
            Link::Repeat | Link::Gap => Err(lost(number, Loss::Disordered).into()),
        }
    }

    /// Bytes of the file that were read.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn end(&mut self, number: u64) -> Result<(), RecordingError> {
        self.ended = true;
        let frames = u64::from_be_bytes(self.array()?);
        let last = FrameHash::from_bytes(self.array()?);
        if (frames, last) != (self.chain.position.number, self.chain.position.hash) {
            return Err(RecordingError::Broken { number, what: "the end names other frames than those before it" });
        }
        let mut more = [0];
        match self.input.read(&mut more).map_err(RecordingError::Io)? {
            0 => Ok(()),
            _ => Err(RecordingError::Broken { number, what: "something stands behind the end" }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordingError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RecordingError> {
        let number = self.chain.next();
        self.input.read_exact(bytes).map_err(|error| {
            let is_end = error.kind() == ErrorKind::UnexpectedEof;
            if is_end { RecordingError::CutShort { number } } else { RecordingError::Io(error) }
        })?;
        self.bytes_read += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
