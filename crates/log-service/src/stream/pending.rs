//! Bytes that were accepted and are not durable yet.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use relay_protocol::{range::ByteRange, time::CaptureTimes};
use tokio::time::Instant;

use super::{commit::Commit, write::Flush};
use crate::{
    budget::Permit,
    segment::{Append, MAX_APPENDS, SegmentTimes},
};

/// Consecutive bytes of one request.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
    pub(super) times: Arc<CaptureTimes>,
    pub(super) arrived: Instant,
    pub(super) flush: Flush,
    pub(super) append: Option<Append>,
    /// Gives the memory back when the last piece of the request is gone.
    pub(super) _permit: Arc<Permit>,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(super) fn range(&self) -> ByteRange {
        ByteRange::new(self.start, self.end()).expect("a piece ends after it begins")
    }

    /// Cuts off and returns the bytes from `at` on, which lies within.
    fn split_off(&mut self, at: u64) -> Self {
        let head = usize::try_from(at - self.start).expect("a piece fits into memory");
        Self { start: at, bytes: self.bytes.split_off(head), ..self.clone() }
    }
}

/// Held pieces and commits on their way. No two of them overlap.
#[derive(Debug, Default)]
pub(super) struct Pending {
    held: BTreeMap<u64, Piece>,
    committing: BTreeMap<u64, InFlight>,
}

/// A commit on its way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) commit: Commit,
    pieces: Vec<Piece>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.committing.is_empty()
    }

    pub(super) fn is_committing(&self) -> bool {
        !self.committing.is_empty()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Piece> {
        self.held.values()
    }

    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// Position after the last pending byte; 0 if there is none.
    pub(super) fn end(&self) -> u64 {
        let held = self.held.last_key_value().map_or(0, |(_, piece)| piece.end());
        let last = self.committing.last_key_value();
        held.max(last.map_or(0, |(_, flight)| flight.commit.range.end()))
    }

    pub(super) fn insert(&mut self, piece: Piece) {
        self.held.insert(piece.start, piece);
    }

    pub(super) fn flush(&mut self) {
        self.held.values_mut().for_each(|piece| piece.flush = Flush::Now);
    }

    /// All pending bytes that lie in `range`, in order of what they belong to.
    pub(super) fn overlapping(&self, range: ByteRange) -> Vec<(ByteRange, Bytes)> {
        let cut = |start: u64, bytes: &Bytes| {
            let all = ByteRange::from_length(start, bytes.len())?;
            let part = all.intersect(range)?;
            Some((part, slice(start, bytes, part)))
        };
        let begin = |last: Option<u64>| last.unwrap_or(range.start());
        let first = begin(self.held.range(..=range.start()).next_back().map(|(start, _)| *start));
        let held = self.held.range(first..range.end().max(first));
        let held = held.filter_map(|(start, piece)| cut(*start, &piece.bytes));
        let first =
            begin(self.committing.range(..=range.start()).next_back().map(|(start, _)| *start));
        let flights = self.committing.range(first..range.end().max(first));
        let flights = flights.filter_map(|(start, flight)| cut(*start, &flight.commit.bytes));
        held.chain(flights).collect()
    }

    pub(super) fn find_append(&self, key: &str) -> Option<&Append> {
        let flights = self.committing.values().flat_map(|flight| &flight.commit.appends);
        let held = self.held.values().filter_map(|piece| piece.append.as_ref());
        flights.chain(held).find(|append| append.key == key)
    }

    /// Turns held bytes from `start` on into a commit of at most `limit` bytes.
    pub(super) fn commit(&mut self, start: u64, limit: u64) -> Option<&Commit> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = start;
        while let Some(mut piece) = self.held.remove(&at) {
            let room = start + limit - at;
            let keyed = pieces.iter().filter(|piece| piece.append.is_some()).count();
            let whole = piece.append.is_some() && !pieces.is_empty();
            let too_long = piece.bytes.len() as u64 > room;
            if room == 0 || (whole && (too_long || keyed == MAX_APPENDS)) {
                self.held.insert(at, piece);
                break;
            }
            if too_long {
                let rest = piece.split_off(start + limit);
                self.held.insert(rest.start, rest);
            }
            at = piece.end();
            pieces.push(piece);
        }
        let range = ByteRange::new(start, at).filter(|range| !range.is_empty())?;
        let commit = Commit { range, ..assemble(&pieces) };
        let flight = InFlight { commit, pieces };
        Some(&self.committing.entry(start).insert_entry(flight).into_mut().commit)
    }

    pub(super) fn take(&mut self, start: u64) -> Option<InFlight> {
        self.committing.remove(&start)
    }

    /// Holds again what a commit had beyond `from`, to be stored at once.
    pub(super) fn hold_again(&mut self, flight: InFlight, from: u64) {
        for mut piece in flight.pieces {
            if piece.start < from && from < piece.end() {
                piece = piece.split_off(from);
            }
            if piece.start >= from {
                self.insert(Piece { flush: Flush::Now, ..piece });
            }
        }
    }

    /// Lets go of all held pieces.
    pub(super) fn clear_held(&mut self) {
        self.held.clear();
    }
}

fn assemble(pieces: &[Piece]) -> Commit {
    let mut times = SegmentTimes::default();
    for piece in pieces {
        times.extend(&piece.times, piece.start, piece.end());
    }
    let bytes = match pieces {
        [piece] => piece.bytes.clone(),
        pieces => {
            let length = pieces.iter().map(|piece| piece.bytes.len()).sum();
            let mut joined = BytesMut::with_capacity(length);
            for piece in pieces {
                joined.extend_from_slice(&piece.bytes);
            }
            joined.freeze()
        }
    };
    let appends = pieces.iter().filter_map(|piece| piece.append.clone()).collect();
    let range = ByteRange::new(0, 0).expect("an empty range is one");
    Commit { range, bytes, times, appends, mode: crate::segment::Mode::Ranged }
}

/// The bytes of `part`, which lies within the bytes that begin at `start`.
pub(super) fn slice(start: u64, bytes: &Bytes, part: ByteRange) -> Bytes {
    let at = |offset: u64| usize::try_from(offset - start).expect("bytes in memory fit into usize");
    bytes.slice(at(part.start())..at(part.end()))
}
