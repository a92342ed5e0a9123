//! Lines and remarks as records, one per line or per server-sent event.
//!
//! The form is [`relay_protocol::read::Record`]; it is written without building one per line.

use std::io::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use relay_protocol::{
    read::{Marker, StreamRef},
    time::UnixMillis,
};

use super::{
    lines::{Item, MAX_PART_BYTES, Run},
    output::Output,
};

/// How records are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One per line.
    Ndjson,
    /// One per server-sent event, with a position as its id.
    Events,
}

/// The position that stands for "read with its end". No byte has it.
pub(crate) const fn behind_end(position: u64) -> u64 {
    position.saturating_add(1)
}

/// A cursor whose last position is left open: that of the stream whose records are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenCursor {
    /// The other streams with their positions, and the name of this one with its colon; `None` if no
    /// position can be sent.
    pub(crate) before: Option<String>,
}

/// Writes records.
#[derive(Debug)]
pub(crate) struct Records {
    framing: Framing,
    buffer: Vec<u8>,
}

/// Position, length and capture time of a record.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: u64,
    time: Option<UnixMillis>,
}

impl Records {
    pub(crate) const fn new(framing: Framing) -> Self {
        Self { framing, buffer: Vec::new() }
    }

    /// Whether records carry positions.
    pub(crate) fn has_ids(&self) -> bool {
        self.framing == Framing::Events
    }

    /// Writes the next item of the stream `source`; `cursor` is where its position belongs.
    pub(crate) fn write(
        &mut self,
        source: &[u8],
        item: &Item,
        cursor: &OpenCursor,
        output: &mut Output,
    ) {
        match item {
            Item::Lines(run) => self.write_run(source, run, cursor, output),
            Item::Mark { range, marker } => {
                let place = Place { offset: range.start(), length: range.length(), time: None };
                self.write_marker(source, place, *marker);
                self.frame(range.end(), cursor, output);
            }
            Item::End(end) => {
                let place = Place { offset: end.length, length: 0, time: None };
                let marker = Marker::End { reason: end.reason, exit: end.exit };
                self.write_marker(source, place, marker);
                self.frame(behind_end(end.length), cursor, output);
            }
        }
    }

    fn write_run(&mut self, source: &[u8], run: &Run, cursor: &OpenCursor, output: &mut Output) {
        let mut rest = &run.bytes[..];
        let mut offset = run.offset;
        while !rest.is_empty() {
            let room = rest.len().min(MAX_PART_BYTES);
            let (part, behind) = rest.split_at(
                memchr::memchr(b'\n', rest.get(..room).unwrap_or_default())
                    .map_or(room, |at| at + 1),
            );
            let place = Place { offset, length: part.len() as u64, time: Some(run.time) };
            self.begin(source, place);
            self.write_bytes(part);
            offset += place.length;
            self.frame(offset, cursor, output);
            rest = behind;
        }
    }

    fn begin(&mut self, source: &[u8], place: Place) {
        self.buffer.clear();
        self.buffer.extend_from_slice(source);
        let Place { offset, length, time } = place;
        write!(self.buffer, ",\"offset\":{offset},\"length\":{length}").expect(MEMORY);
        if let Some(UnixMillis(time)) = time {
            write!(self.buffer, ",\"time\":{time}").expect(MEMORY);
        }
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        if let Ok(text) = std::str::from_utf8(bytes) {
            self.buffer.extend_from_slice(b",\"text\":");
            serde_json::to_writer(&mut self.buffer, text).expect(MEMORY);
        } else {
            write!(self.buffer, ",\"base64\":\"{}\"", STANDARD.encode(bytes)).expect(MEMORY);
        }
        self.buffer.push(b'}');
    }

    fn write_marker(&mut self, source: &[u8], place: Place, marker: Marker) {
        self.begin(source, place);
        self.buffer.extend_from_slice(b",\"marker\":");
        serde_json::to_writer(&mut self.buffer, &marker).expect(MEMORY);
        self.buffer.push(b'}');
    }

    /// Sends the record; a reader who got it goes on at `position`.
    fn frame(&self, position: u64, cursor: &OpenCursor, output: &mut Output) {
        match self.framing {
            Framing::Ndjson => {
                output.put(&self.buffer);
                output.put(b"\n");
            }
            Framing::Events => {
                if let OpenCursor { before: Some(before) } = cursor {
                    output.put(format!("id: {before}{position}\n").as_bytes());
                }
                output.put(b"data: ");
                output.put(&self.buffer);
                output.put(b"\n\n");
            }
        }
    }
}

const MEMORY: &str = "writing text into memory cannot fail";

/// The beginning of every record of a stream: an object that is not closed.
pub(crate) fn source_text(source: &StreamRef) -> Vec<u8> {
    let mut text = serde_json::to_vec(source).expect(MEMORY);
    text.pop();
    text
}

#[cfg(test)]
mod tests;
