//! What is written: lines that are the same in every run.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Result;

/// Bytes of a line with its newline.
pub(crate) const LINE: usize = 100;
/// Bytes of different lines; they are repeated behind that. No compressor here looks back as far.
const DIFFERENT: usize = 32 << 20;

/// What the lines are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As programs write them: times, levels, names, ids, numbers. zstd -1 makes them 4 times
    /// smaller.
    Real,
    /// One line again and again: whatever is fast only on them is not fast.
    Same,
}

/// A sequence that is the same everywhere.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// From its beginning.
    pub(crate) const fn new() -> Self {
        Self(1)
    }

    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    /// One of several things.
    pub(crate) fn one_of<'a, T>(&mut self, words: &'a [T]) -> &'a T {
        let count = u64::try_from(words.len()).expect("a short list");
        &words[usize::try_from(self.next() % count).expect("an index of a short list")]
    }
}

/// Different lines, as bytes: `DIFFERENT` of them, cut at a line.
pub(crate) fn block(kind: Kind) -> Vec<u8> {
    let mut numbers = Numbers::new();
    let mut bytes = Vec::with_capacity(DIFFERENT);
    let mut micros = 0;
    while bytes.len() + LINE <= DIFFERENT {
        micros += numbers.next() % 2_000;
        let mut line = match kind {
            Kind::Real => real(&mut numbers, micros),
            Kind::Same => "request served".to_owned(),
        };
        if line.len() < LINE {
            line = format!("{line:<99}");
        }
        line.truncate(LINE - 1);
        bytes.extend(line.bytes());
        bytes.push(b'\n');
    }
    bytes
}

fn real(numbers: &mut Numbers, micros: u64) -> String {
    let time = format!(
        "2026-03-01T{:02}:{:02}:{:02}.{:06}Z",
        micros / 3_600_000_000 % 24,
        micros / 60_000_000 % 60,
        micros / 1_000_000 % 60,
        micros % 1_000_000
    );
    let worker = numbers.next() % 16;
    let id = numbers.next() & 0xffff_ffff;
    match numbers.next() % 8 {
        0 => format!(
            "{time} WARN  worker-{worker:02} req={id:08x} retry {} of 5 after {} ms: connection reset by peer",
            numbers.next() % 5,
            numbers.next() % 9_000
        ),
        1 => format!(
            "{time} DEBUG worker-{worker:02} req={id:08x} cache {} key=user:{}:profile",
            numbers.one_of(&["hit", "miss", "stale"]),
            numbers.next() % 1_000_000
        ),
        2 => format!(
            "{{\"time\":\"{time}\",\"level\":\"info\",\"id\":\"{id:08x}\",\"took\":{},\"message\":\"job done\"}}",
            numbers.next() % 100_000
        ),
        _ => format!(
            "{time} INFO  worker-{worker:02} req={id:08x} {} /v1/{}/{} {} {}B {}us",
            numbers.one_of(&["GET", "PUT", "POST", "DELETE"]),
            numbers.one_of(&["items", "users", "orders", "sessions"]),
            numbers.next() % 1_000_000,
            numbers.one_of(&["200", "200", "200", "204", "304", "404", "500"]),
            numbers.next() % 65_536,
            numbers.next() % 500_000
        ),
    }
}

/// Writes a file of about `bytes` bytes in whole blocks and whole lines. Returns its length.
pub(crate) fn write(path: &Path, kind: Kind, bytes: u64) -> Result<u64> {
    let block = block(kind);
    let mut file = BufWriter::new(fs::File::create(path)?);
    let mut left = bytes - bytes % u64::try_from(LINE)?;
    let length = left;
    while left > 0 {
        let count = block.len().min(usize::try_from(left)?);
        file.write_all(&block[..count])?;
        left -= u64::try_from(count)?;
    }
    file.flush()?;
    Ok(length)
}
