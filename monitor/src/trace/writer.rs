//! Writes a trace file.

use std::io::{self, Write};

use super::frame::{self, kind};
use super::{Head, MAGIC};
use crate::input::Input;

/// Writes frames as they come; [`TraceWriter::finish`] marks the end.
pub struct TraceWriter<W: Write> {
    out: W,
    payload: Vec<u8>,
}

impl<W: Write> TraceWriter<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// Those of writing.
    pub fn new(mut out: W, head: &Head) -> io::Result<Self> {
        let head = serde_json::to_vec(head)?;
        out.write_all(&MAGIC)?;
        out.write_all(&(head.len() as u32).to_le_bytes())?;
        out.write_all(&head)?;
        Ok(Self { out, payload: Vec::new() })
    }

    /// Writes one input.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&mut self, input: &Input<'_>) -> io::Result<()> {
        self.payload.clear();
        let kind = frame::encode(input, &mut self.payload);
        self.frame(kind)
    }

    /// Has all that was written handed on.
    ///
    /// # Errors
    /// Those of writing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the end mark and gives the writer back.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.payload.clear();
        self.frame(kind::END)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn frame(&mut self, kind: u32) -> io::Result<()> {
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&(self.payload.len() as u32).to_le_bytes())?;
        self.out.write_all(&self.payload)
    }
}
