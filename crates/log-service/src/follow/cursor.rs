//! Where a reader that comes back goes on.

use std::collections::HashMap;

use relay_protocol::{
    read::{Cursor, StreamKey},
    time::UnixMillis,
};

/// A stream that was read to its end is left out of positions once the newest stream of the pod is
/// this much younger, in milliseconds. Without that, positions would grow with every restart of a
/// container. The time covers streams that were created together and listed one after the other.
const SETTLED_MILLIS: u64 = 10_000;

/// Where to begin with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At this position.
    At(u64),
    /// Not at all: it was read with its end.
    Finished,
}

/// Whether a finished stream may be left out of positions.
pub(crate) const fn settled(created: UnixMillis, newest: UnixMillis) -> bool {
    created.0.saturating_add(SETTLED_MILLIS) < newest.0
}

/// Where a reader with this cursor goes on in each of the pod's streams.
///
/// A stream that the cursor does not name is new and begins at 0, unless it is so much older than
/// the newest one named that it had been finished and left out.
pub(crate) fn resume(cursor: &Cursor, streams: &[(StreamKey, UnixMillis)]) -> Vec<Start> {
    let named: HashMap<&StreamKey, u64> =
        cursor.positions.iter().map(|(name, position)| (name, *position)).collect();
    let position = |name: &StreamKey| named.get(name).copied();
    let named = streams.iter().filter(|(name, _)| position(name).is_some());
    let newest = named.map(|(_, created)| *created).max();
    let start = |(name, created): &(StreamKey, UnixMillis)| match (position(name), newest) {
        (Some(position), _) => Start::At(position),
        (None, Some(newest)) if settled(*created, newest) => Start::Finished,
        (None, _) => Start::At(0),
    };
    streams.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::{Start, resume};
    use relay_protocol::{
        read::{Cursor, StreamKey, StreamRef},
        time::UnixMillis,
    };

    fn stream(instance: &str, name: &str) -> StreamKey {
        StreamKey::of(&StreamRef {
            pod: None,
            container: "main".parse().unwrap(),
            instance: instance.parse().unwrap(),
            stream: name.parse().unwrap(),
        })
    }

    #[test]
    fn streams_go_on_where_the_cursor_says_and_new_ones_begin_at_their_first_byte() {
        let streams = [
            (stream("a", "stdout"), UnixMillis(1_000)),
            (stream("b", "stdout"), UnixMillis(50_000)),
            (stream("b", "stderr"), UnixMillis(49_990)),
            (stream("c", "stdout"), UnixMillis(90_000)),
        ];
        let cursor = Cursor { positions: vec![(stream("b", "stdout"), 7)] };
        let starts = [Start::Finished, Start::At(7), Start::At(0), Start::At(0)];
        assert_eq!(resume(&cursor, &streams), starts);
        assert_eq!(resume(&Cursor::default(), &streams), [Start::At(0); 4]);
        let gone = Cursor { positions: vec![(stream("z", "stdout"), 7)] };
        assert_eq!(resume(&gone, &streams), [Start::At(0); 4]);
    }
}
