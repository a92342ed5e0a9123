//! Where a reader goes on in the streams that are not open: not yet, or not any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use relay_protocol::{
    read::{Cursor, StreamKey},
    time::UnixMillis,
};

/// How long after its creation a stream may still show in the index, in milliseconds: clocks differ,
/// and a service that ended in the middle of a creation is made up for by a later request.
pub(crate) const LATE_MILLIS: u64 = 600_000;
/// How much older than the newest stream that is named another is taken to be read where a cursor does
/// not say it, in milliseconds. Streams that are created together are listed one after the other.
const SETTLED_MILLIS: u64 = 10_000;
/// Streams that were read to their ends, of which an id still says so. Each takes some 25 bytes.
const MAX_FINISHED: usize = 64;

/// Where to go on in streams that are not open.
///
/// # Assumptions
///
/// Streams without a position are opened in the order of their creation. So what a cursor does not
/// name is new, or so old that it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    /// Streams that were created before, and have no position, were read to their ends.
    settled: UnixMillis,
    next: BTreeMap<StreamKey, u64>,
    /// Those that were read to their ends, by the time of their creation.
    finished: BTreeSet<(UnixMillis, StreamKey)>,
    /// All of this as a cursor begins with it, once it was asked for.
    text: Option<String>,
}

impl Positions {
    /// Goes on where a reader of these streams was.
    pub(crate) fn resume(
        &mut self,
        cursor: Cursor,
        streams: impl Iterator<Item = (StreamKey, UnixMillis)>,
    ) {
        self.text = None;
        self.next = cursor.positions.into_iter().collect();
        self.settled = cursor.settled.unwrap_or_else(|| {
            let named = streams.filter(|(name, _)| self.next.contains_key(name));
            let newest = named.map(|(_, created)| created.0).max().unwrap_or_default();
            UnixMillis(newest.saturating_sub(SETTLED_MILLIS))
        });
    }

    /// Whether there is nothing left to read of a stream.
    pub(crate) fn is_read(&self, name: &StreamKey, created: UnixMillis) -> bool {
        self.is_settled(created) && !self.next.contains_key(name)
    }

    /// Whether a stream that was created then need not be named once it was read.
    pub(crate) fn is_settled(&self, created: UnixMillis) -> bool {
        created < self.settled
    }

    /// Where to go on in a stream.
    pub(crate) fn get(&self, name: &StreamKey) -> Option<u64> {
        self.next.get(name).copied()
    }

    /// Says where to go on in a stream that is opened later.
    pub(crate) fn put(&mut self, name: StreamKey, position: u64) {
        self.text = None;
        self.next.insert(name, position);
    }

    /// As [`put`](Self::put), of a stream that was read to its end.
    pub(crate) fn finish(&mut self, name: StreamKey, created: UnixMillis, position: u64) {
        self.finished.insert((created, name.clone()));
        self.put(name, position);
        self.forget_old();
    }

    /// A stream is open: it says itself how far it was read.
    pub(crate) fn open(&mut self, name: &StreamKey, created: UnixMillis) {
        self.text = None;
        self.next.remove(name);
        self.see(created);
    }

    /// Takes note of how new streams are of which all that came before are known.
    pub(crate) fn see(&mut self, created: UnixMillis) {
        let settled = UnixMillis(created.0.saturating_sub(LATE_MILLIS));
        if settled > self.settled {
            self.text = None;
            self.settled = settled;
            self.forget_old();
        }
    }

    /// Names no more what is old, or more than is worth its bytes.
    fn forget_old(&mut self) {
        loop {
            let is_too_long = self.finished.len() > MAX_FINISHED;
            let is_old = |(created, _): &(UnixMillis, StreamKey)| self.is_settled(*created);
            if !self.finished.first().is_some_and(|first| is_too_long || is_old(first)) {
                return;
            }
            let Some((created, name)) = self.finished.pop_first() else { return };
            self.next.remove(&name);
            self.settled = self.settled.max(UnixMillis(created.0.saturating_add(1)));
        }
    }

    /// The beginning of a cursor, with a comma if it names streams. Past `most` bytes it is cut.
    pub(crate) fn text(&mut self, most: usize) -> &str {
        let Self { settled, next, finished: _, text } = self;
        text.get_or_insert_with(|| {
            let mut text = format!("{}~", settled.0);
            for (name, position) in next {
                if text.len() > most {
                    break;
                }
                write!(text, "{name}:{position},").expect("memory takes all text");
            }
            text
        })
    }
}

#[cfg(test)]
mod tests;
