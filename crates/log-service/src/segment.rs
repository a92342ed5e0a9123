//! Layout of a segment in the store. Pure.
//!
//! A segment is a zstd skippable frame that holds the [`Header`], and then independent zstd frames
//! of at most 256 KiB raw each. So `zstd -d` reads it, and segments concatenate.

mod header;
mod times;

use bytes::Bytes;
use relay_protocol::limit::MAX_SEGMENT_BYTES;

pub(crate) use header::MAX_APPENDS;
pub use header::{Append, Header, MAX_HEADER_BYTES, MAX_KEY_BYTES, Mode};
pub use times::{MAX_ENTRIES, SegmentTimes};

/// Raw bytes of one zstd frame.
pub const FRAME_BYTES: usize = 256 << 10;
/// The level whose cost the ingest target is derived from: 329 MiB per CPU-second measured.
const LEVEL: i32 = 1;

/// A segment that was read back: bytes that passed their checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offset of the first byte.
    pub start: u64,
    /// The bytes; never empty.
    pub bytes: Bytes,
    /// When they were captured.
    pub times: SegmentTimes,
}

impl Segment {
    /// Position after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// What is stored is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment is corrupt: {0}")]
pub struct Corrupt(pub(crate) &'static str);

/// More bytes than a segment holds, or none: a mistake of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a segment holds 1 to {MAX_SEGMENT_BYTES} bytes, not {0}")]
pub struct WrongLength(pub usize);

/// Lays out a segment. Costs about 3 ms of CPU for 1 MiB.
///
/// # Errors
///
/// [`WrongLength`] for no bytes or more than [`MAX_SEGMENT_BYTES`].
///
/// # Panics
///
/// Never: the level exists and the buffers have room.
pub fn encode(header: &Header, raw: &[u8]) -> Result<Bytes, WrongLength> {
    if raw.is_empty() || raw.len() > MAX_SEGMENT_BYTES || raw.len() as u64 != header.length {
        return Err(WrongLength(raw.len()));
    }
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("level 1 exists");
    let mut frames = Vec::with_capacity(raw.len() / 2);
    for chunk in raw.chunks(FRAME_BYTES) {
        let frame = compressor.compress(chunk).expect("the buffer has room for the worst case");
        frames.extend_from_slice(&frame);
    }
    let mut encoded = header.encode(&frames);
    encoded.extend_from_slice(&frames);
    Ok(encoded.into())
}

/// Reads a whole segment back.
///
/// # Guarantees
///
/// Memory is bounded by [`MAX_SEGMENT_BYTES`], whatever the input says. What is returned passed
/// its checksum.
///
/// # Errors
///
/// [`Corrupt`] for every input that [`encode`] did not make.
pub fn decode(encoded: &[u8]) -> Result<(Header, Bytes), Corrupt> {
    let (header, stored) = Header::decode(encoded)?;
    let frames = encoded.get(stored.offset..).unwrap_or_default();
    if frames.len() != stored.length || crc32c::crc32c(frames) != stored.crc {
        return Err(Corrupt("its compressed bytes fail their checksum"));
    }
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    let raw = decompress(frames, length)?;
    if crc32c::crc32c(&raw) != header.crc32c {
        return Err(Corrupt("its bytes fail their checksum"));
    }
    Ok((header, raw.into()))
}

/// Reads the header from the first bytes of a segment.
///
/// [`MAX_HEADER_BYTES`] always suffice.
///
/// # Errors
///
/// [`Corrupt`] if they are not the beginning of a segment, or too few.
pub fn decode_header(prefix: &[u8]) -> Result<Header, Corrupt> {
    Header::decode(prefix).map(|(header, _)| header)
}

/// `length` was checked to be at most [`MAX_SEGMENT_BYTES`] when the header was read.
fn decompress(frames: &[u8], length: usize) -> Result<Vec<u8>, Corrupt> {
    // The bulk decoder reads concatenated frames and never writes past `length`.
    let raw = zstd::bulk::decompress(frames, length).map_err(|_| Corrupt("it is not zstd"))?;
    if raw.len() == length { Ok(raw) } else { Err(Corrupt("it is too short")) }
}

#[cfg(test)]
mod tests;
