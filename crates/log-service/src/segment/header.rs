//! The header of a segment: a zstd skippable frame, which every zstd decoder steps over.
//!
//! ```text
//! 0x184D2A50 (u32 LE) · length of what follows (u32 LE)
//! version 1 (u8) · mode (u8) · uuid (16) · start (u64) · raw length, raw crc32c, newlines (u32 each)
//! length and crc32c of the zstd frames (u32 each) · capture times · appends
//! crc32c of all of the header before it (u32)
//! ```
//! Integers are little-endian; counts and times are varints.

use relay_protocol::{capability::StreamUuid, limit::MAX_SEGMENT_BYTES};

use super::{
    Corrupt, SegmentTimes,
    times::{self, put_varint},
};

const MAGIC: u32 = 0x184D_2A50;
const VERSION: u8 = 1;
/// Longest header: 4,096 capture times of at most 14 bytes, 64 appends of at most 74, and 62 bytes.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// Longest idempotency key: twice a UUID in text.
pub const MAX_KEY_BYTES: usize = 64;
/// Appends with a key that one segment holds.
pub(crate) const MAX_APPENDS: usize = 64;

/// How the bytes of a stream find their place. Its first data decides, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The writer says where they go.
    Ranged,
    /// They go where the stream ends.
    Appended,
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream that the bytes belong to.
    pub stream: StreamUuid,
    /// How the stream is written.
    pub mode: Mode,
    /// Offset of the first byte.
    pub start: u64,
    /// Number of raw bytes.
    pub length: u64,
    /// CRC-32C of the raw bytes.
    pub crc32c: u32,
    /// Number of newlines among them.
    pub newlines: u64,
    /// When the bytes were captured.
    pub times: SegmentTimes,
    /// Appends with an idempotency key that lie in this segment.
    pub appends: Vec<Append>,
}

/// An append that may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Key that the writer gave it, 1 to [`MAX_KEY_BYTES`] bytes.
    pub key: String,
    /// Where it landed.
    pub start: u64,
    /// How long it is.
    pub length: u64,
}

/// Where the zstd frames lie and what they must be.
pub(super) struct Stored {
    pub(super) offset: usize,
    pub(super) length: usize,
    pub(super) crc: u32,
}

impl Header {
    /// The header of `raw`, which begins at `start`.
    #[must_use]
    pub fn of(stream: StreamUuid, start: u64, raw: &[u8]) -> Self {
        Self {
            stream,
            mode: Mode::Ranged,
            start,
            length: raw.len() as u64,
            crc32c: crc32c::crc32c(raw),
            newlines: memchr::memchr_iter(b'\n', raw).count() as u64,
            times: SegmentTimes::default(),
            appends: Vec::new(),
        }
    }

    pub(super) fn encode(&self, frames: &[u8]) -> Vec<u8> {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut encoded = Vec::with_capacity(128 + frames.len());
        encoded.extend_from_slice(&MAGIC.to_le_bytes());
        encoded.extend_from_slice(&[0; 4]);
        encoded.push(VERSION);
        encoded.push(match self.mode {
            Mode::Ranged => 0,
            Mode::Appended => 1,
        });
        encoded.extend_from_slice(&self.stream.0);
        encoded.extend_from_slice(&self.start.to_le_bytes());
        encoded.extend_from_slice(&small(self.length));
        encoded.extend_from_slice(&self.crc32c.to_le_bytes());
        encoded.extend_from_slice(&small(self.newlines));
        encoded.extend_from_slice(&small(frames.len() as u64));
        encoded.extend_from_slice(&crc32c::crc32c(frames).to_le_bytes());
        times::encode(&self.times, self.start, &mut encoded);
        put_varint(self.appends.len() as u64, &mut encoded);
        for Append { key, start, length } in &self.appends {
            put_varint(key.len() as u64, &mut encoded);
            encoded.extend_from_slice(key.as_bytes());
            put_varint(start.wrapping_sub(self.start), &mut encoded);
            put_varint(*length, &mut encoded);
        }
        let body = small(encoded.len() as u64 + 4 - 8);
        encoded[4..8].copy_from_slice(&body);
        let crc = crc32c::crc32c(&encoded);
        encoded.extend_from_slice(&crc.to_le_bytes());
        encoded
    }

    pub(super) fn decode(encoded: &[u8]) -> Result<(Self, Stored), Corrupt> {
        let body = checked_body(encoded)?;
        let offset = body.len() + 12;
        let mut reader = Reader { rest: body };
        if reader.take(1)? != [VERSION] {
            return Err(Corrupt("its version is unknown"));
        }
        let mode = match reader.take(1)? {
            [0] => Mode::Ranged,
            [1] => Mode::Appended,
            _ => return Err(Corrupt("its mode is unknown")),
        };
        let stream = StreamUuid(reader.array()?);
        let start = u64::from_le_bytes(reader.array()?);
        let length = u64::from(reader.small()?);
        if !(1..=MAX_SEGMENT_BYTES as u64).contains(&length) || start.checked_add(length).is_none()
        {
            return Err(Corrupt("its length is wrong"));
        }
        let crc32c = reader.small()?;
        let newlines = u64::from(reader.small()?);
        let frames = usize::try_from(reader.small()?).unwrap_or(usize::MAX);
        let stored = Stored { offset, length: frames, crc: reader.small()? };
        let times = times::decode(start, &mut reader)?;
        let appends = decode_appends(start, &mut reader)?;
        if !reader.rest.is_empty() {
            return Err(Corrupt("its header is too long"));
        }
        Ok((Self { stream, mode, start, length, crc32c, newlines, times, appends }, stored))
    }
}

/// The header without magic, length and checksum, once those are right.
fn checked_body(encoded: &[u8]) -> Result<&[u8], Corrupt> {
    const SHORT: Corrupt = Corrupt("its header is cut short");
    let mut reader = Reader { rest: encoded };
    if reader.small()? != MAGIC {
        return Err(Corrupt("it does not begin like one"));
    }
    let length = usize::try_from(reader.small()?).unwrap_or(usize::MAX);
    let end = length.checked_add(8).filter(|end| *end <= MAX_HEADER_BYTES).ok_or(SHORT)?;
    let frame = encoded.get(..end).ok_or(SHORT)?;
    let (checked, crc) = frame.split_last_chunk::<4>().ok_or(SHORT)?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
        return Err(Corrupt("its header fails its checksum"));
    }
    checked.get(8..).ok_or(SHORT)
}

fn decode_appends(start: u64, reader: &mut Reader<'_>) -> Result<Vec<Append>, Corrupt> {
    const WRONG: Corrupt = Corrupt("its idempotency keys are malformed");
    let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if count > MAX_APPENDS {
        return Err(WRONG);
    }
    let mut appends = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if length > MAX_KEY_BYTES {
            return Err(WRONG);
        }
        let key = std::str::from_utf8(reader.take(length)?).map_err(|_| WRONG)?.to_owned();
        let start = start.wrapping_add(reader.varint()?);
        appends.push(Append { key, start, length: reader.varint()? });
    }
    Ok(appends)
}

/// Takes the header apart from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(Corrupt("its header is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Corrupt> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or(Corrupt("its header is cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn small(&mut self) -> Result<u32, Corrupt> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Corrupt("a number in its header is too long"))
    }
}
