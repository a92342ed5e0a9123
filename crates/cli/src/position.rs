//! How far a reader came, so that a broken connection loses and repeats nothing.

use std::collections::{HashMap, HashSet};

use relay_protocol::{
    name::{ContainerName, StreamName},
    read::{Content, Cursor, Marker, Record, StreamKey, StreamRef, StreamState},
    time::UnixMillis,
};

/// Length of a cursor past which what is over is left out of it: the service takes heads of 16 KiB,
/// and a trigger may have any number of streams while it is followed.
const MAX_CURSOR_BYTES: usize = 8 << 10;
/// A position in a stream that is over: nothing of it comes again.
const BEHIND_THE_END: u64 = u64::MAX;

/// Positions in all streams that are read.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    streams: HashMap<StreamRef, Position>,
    /// Streams that there were.
    count: u64,
}

#[derive(Debug, Default)]
struct Position {
    /// After the last byte read.
    next: u64,
    /// `next` when the connection was last made: the service may repeat what lies before.
    resumed: u64,
    end: End,
    /// Whether a record of it came.
    came: bool,
    /// How many streams came before it.
    number: u64,
}

/// Whether a stream is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Unknown,
    /// The service says so; its end may still come.
    Told,
    /// Its end came.
    Came,
}

/// Whether a record was seen on an earlier connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    New,
    Repeated,
}

/// Which of the streams are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) container: Option<ContainerName>,
    pub(crate) stream: Option<StreamName>,
}

impl Selection {
    fn takes(&self, source: &StreamRef) -> bool {
        self.container.as_ref().is_none_or(|container| *container == source.container)
            && self.stream.as_ref().is_none_or(|stream| *stream == source.stream)
    }
}

impl Positions {
    /// Begins behind what is already there, but for what the service sends of it.
    ///
    /// With it, a reader of the last lines who connects again does not get the older lines of a
    /// stream that had none among the last.
    pub(crate) fn behind(streams: &[StreamState], selection: &Selection) -> Self {
        let selected = streams.iter().filter(|state| selection.takes(&state.source));
        let mut positions = Self::default();
        for state in selected {
            let number = positions.count;
            positions.count += 1;
            let end = if state.end.is_some() { End::Told } else { End::Unknown };
            let position = Position { next: state.length, number, end, ..Position::default() };
            positions.streams.insert(state.source.clone(), position);
        }
        positions
    }

    /// Takes note of a record that came.
    pub(crate) fn note(&mut self, record: &Record) -> Novelty {
        let end = record.offset.saturating_add(record.length);
        let Some(position) = self.streams.get_mut(&record.source) else {
            let number = self.count;
            let told = if is_end(record) { End::Came } else { End::Unknown };
            let position = Position { next: end, resumed: 0, end: told, came: true, number };
            self.count += 1;
            self.streams.insert(record.source.clone(), position);
            return Novelty::New;
        };
        position.came = true;
        if is_end(record) {
            let before = std::mem::replace(&mut position.end, End::Came);
            return if before == End::Came { Novelty::Repeated } else { Novelty::New };
        }
        if end <= position.resumed {
            return Novelty::Repeated;
        }
        // A remark about bytes that are shown as well does not stand for them.
        if record.content != Content::Marker(Marker::Conflict) {
            position.next = end.max(position.next);
        }
        Novelty::New
    }

    /// Where to go on. From now on, what lies before is known.
    pub(crate) fn resume(&mut self) -> Cursor {
        for position in self.streams.values_mut() {
            position.resumed = position.next;
            if position.end == End::Told && !position.came {
                // The last lines were none of its lines: its end is not among them, either.
                (position.end, position.next) = (End::Came, BEHIND_THE_END);
            }
        }
        let left_out = self.left_out();
        let named = self.streams.iter().filter(|(source, _)| !left_out.contains(*source));
        let mut positions: Vec<_> =
            named.map(|(source, position)| (StreamKey::of(source), position.next)).collect();
        positions.sort();
        // Of what is not named nothing came, so it is read from its first byte on, unless something
        // that came is not named either.
        Cursor { settled: left_out.is_empty().then(UnixMillis::default), positions }
    }

    /// The streams that are over, from the oldest on, until a cursor without them fits into a header.
    /// The service takes what is so much older than the newest for read; the rest comes again.
    fn left_out(&self) -> HashSet<StreamRef> {
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        let length = |(source, position): (&StreamRef, &Position)| {
            StreamKey::of(source).to_string().len() + digits(position.next) + 2
        };
        let mut total: usize = self.streams.iter().map(length).sum();
        let over = self.streams.iter().filter(|(_, position)| position.end != End::Unknown);
        let mut over: Vec<_> = over.collect();
        over.sort_unstable_by_key(|(_, position)| position.number);
        let mut left_out = HashSet::new();
        for stream in over {
            if total <= MAX_CURSOR_BYTES {
                break;
            }
            total -= length(stream);
            left_out.insert(stream.0.clone());
        }
        left_out
    }

    /// Whether there are streams and all that were seen are over.
    pub(crate) fn all_ended(&self) -> bool {
        !self.streams.is_empty() && self.streams.values().all(|position| position.end == End::Came)
    }
}

/// Whether the streams that are read are over, as the service says.
pub(crate) fn has_ended(streams: &[StreamState], selection: &Selection) -> bool {
    let mut selected = streams.iter().filter(|state| selection.takes(&state.source)).peekable();
    selected.peek().is_some() && selected.all(|state| state.end.is_some())
}

fn is_end(record: &Record) -> bool {
    matches!(record.content, Content::Marker(Marker::End { .. }))
}

#[cfg(test)]
mod tests {
    use super::{Novelty, Positions, Selection, StreamKey, has_ended};
    use proptest::prelude::*;
    use relay_protocol::read::{Content, Marker, Record, StreamState};

    fn record(stream: &str, offset: u64, length: u64, content: &str) -> Record {
        let text = format!(
            r#"{{"container":"main","instance":"a1","stream":"{stream}","offset":{offset},"length":{length},{content}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const END: &str = r#""marker":{"kind":"end","reason":"eof"}"#;
    const TEXT: &str = r#""text":"x""#;

    fn pod(end: &str) -> Vec<StreamState> {
        let text = format!(
            r#"[{{"container":"main","instance":"a1","stream":"stdout","created":0,"length":9{end}}},
                {{"container":"main","instance":"a1","stream":"stderr","created":0,"length":4}}]"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_reader_goes_on_behind_the_last_byte_of_every_stream() {
        let mut positions = Positions::default();
        assert_eq!(positions.resume().to_string(), "0~");
        positions.note(&record("stdout", 0, 5, TEXT));
        positions.note(&record("stderr", 0, 2, r#""marker":{"kind":"dropped"}"#));
        positions.note(&record("stdout", 5, 3, TEXT));
        assert_eq!(positions.resume().to_string(), "0~main/stderr@a1:2,main/stdout@a1:8");
    }

    #[test]
    fn streams_of_several_pods_are_told_apart() {
        let mut positions = Positions::default();
        let mut of = |pod: &str, offset| {
            let mut record = record("stdout", offset, 5, TEXT);
            record.source.pod = Some(pod.parse().unwrap());
            positions.note(&record)
        };
        assert_eq!((of("a", 0), of("b", 0)), (Novelty::New, Novelty::New));
        let cursor = positions.resume().to_string();
        assert_eq!(cursor.split(',').filter(|one| one.ends_with(":5")).count(), 2, "{cursor}");
    }

    #[test]
    fn a_cursor_leaves_out_the_oldest_that_are_over_when_it_gets_long() {
        let mut positions = Positions::default();
        for number in 0..5_000 {
            let mut record = record("stdout", 0, 5, if number % 50 == 0 { TEXT } else { END });
            record.source.pod = Some(format!("p{number}").parse().unwrap());
            positions.note(&record);
        }
        let newest: Vec<_> = positions.streams.keys().cloned().collect();
        let cursor = positions.resume();
        assert!((7_000..=8 << 10).contains(&cursor.to_string().len()), "{cursor}");
        assert_eq!(cursor.settled, None, "what is not named is not new");
        let named = |number: u32| {
            let pod = Some(format!("p{number}").parse().unwrap());
            let source = newest.iter().find(|source| source.pod == pod).unwrap();
            cursor.positions.iter().any(|(key, _)| *key == StreamKey::of(source))
        };
        assert!(named(0) && named(4_950), "what is not over is named");
        assert!(named(4_999) && !named(1));
        let mut end = record("stdout", 0, 5, END);
        end.source.pod = Some("p1".parse().unwrap());
        assert_eq!(positions.note(&end), Novelty::Repeated, "the service may send it again");
    }

    #[test]
    fn the_end_of_a_stream_that_has_none_of_the_last_lines_does_not_come_later() {
        let streams = pod(r#","end":"eof""#);
        let mut positions = Positions::behind(&streams, &Selection::default());
        let cursor = "0~main/stderr@a1:4,main/stdout@a1:18446744073709551615";
        assert_eq!(positions.resume().to_string(), cursor);
        assert_eq!(positions.note(&record("stdout", 5, 4, TEXT)), Novelty::Repeated);
        assert_eq!(positions.note(&record("stdout", 9, 0, END)), Novelty::Repeated);
        // One that has some is read on to its end.
        let mut positions = Positions::behind(&streams, &Selection::default());
        assert_eq!(positions.note(&record("stdout", 5, 4, TEXT)), Novelty::New);
        assert_eq!(positions.resume().to_string(), "0~main/stderr@a1:4,main/stdout@a1:9");
        assert_eq!(positions.note(&record("stdout", 9, 0, END)), Novelty::New);
    }

    #[test]
    fn a_cursor_leaves_out_what_was_over_before_the_first_connection() {
        let ended = pod(r#","end":"eof""#);
        let of = |number: u32| {
            let mut state = ended[usize::from(number.is_multiple_of(50))].clone();
            state.source.pod = Some(format!("p{number}").parse().unwrap());
            state
        };
        let streams: Vec<_> = (0..5_000).map(of).collect();
        let mut positions = Positions::behind(&streams, &Selection::default());
        let cursor = positions.resume();
        assert!((7_000..=8 << 10).contains(&cursor.to_string().len()), "{cursor}");
        let named = |number: u32| {
            let name = StreamKey::of(&of(number).source);
            cursor.positions.iter().any(|(key, _)| *key == name)
        };
        assert!(named(0) && named(4_950), "what is not over is named");
        assert!(named(4_999) && !named(1));
        let mut end = record("stdout", 9, 0, END);
        end.source.pod = Some("p4999".parse().unwrap());
        assert_eq!(positions.note(&end), Novelty::Repeated, "it was not asked for");
    }

    #[test]
    fn what_an_earlier_connection_brought_is_known_and_nothing_else() {
        let mut positions = Positions::default();
        positions.note(&record("stdout", 0, 5, TEXT));
        positions.note(&record("stdout", 5, 0, END));
        positions.resume();
        assert_eq!(positions.note(&record("stdout", 0, 5, TEXT)), Novelty::Repeated);
        assert_eq!(positions.note(&record("stdout", 5, 0, END)), Novelty::Repeated);
        assert_eq!(positions.note(&record("stdout", 5, 1, TEXT)), Novelty::New);
        assert_eq!(positions.note(&record("stderr", 0, 0, END)), Novelty::New);
    }

    #[test]
    fn a_remark_about_bytes_that_follow_does_not_stand_for_them() {
        let mut positions = Positions::default();
        positions.note(&record("stdout", 0, 5, TEXT));
        positions.note(&record("stdout", 5, 9, r#""marker":{"kind":"conflict"}"#));
        assert_eq!(positions.resume().to_string(), "0~main/stdout@a1:5");
    }

    #[test]
    fn a_reader_of_the_last_lines_does_not_get_older_ones_later() {
        let stderr = Selection { stream: Some("stderr".parse().unwrap()), container: None };
        let mut positions = Positions::behind(&pod(""), &stderr);
        assert_eq!(positions.note(&record("stderr", 2, 2, TEXT)), Novelty::New);
        assert_eq!(positions.resume().to_string(), "0~main/stderr@a1:4");
        assert!(!positions.all_ended());
    }

    #[test]
    fn the_log_is_over_when_all_streams_that_are_read_are() {
        let mut positions = Positions::default();
        assert!(!positions.all_ended());
        positions.note(&record("stdout", 0, 0, END));
        assert!(positions.all_ended());
        positions.note(&record("stderr", 0, 1, TEXT));
        assert!(!positions.all_ended());
        let ended = pod(r#","end":"eof""#);
        let stdout = Selection { stream: Some("stdout".parse().unwrap()), container: None };
        let other = Selection { stream: None, container: Some("other".parse().unwrap()) };
        assert!(has_ended(&ended, &stdout) && !has_ended(&pod(""), &stdout));
        assert!(!has_ended(&ended, &Selection::default()) && !has_ended(&ended, &other));
    }

    proptest! {
        /// A service that holds `total` bytes and repeats up to `back` of them after every cut.
        #[test]
        fn every_byte_is_read_once_however_often_the_connection_breaks(
            cuts in prop::collection::vec((0..20_u64, 0..10_u64), 0..8),
        ) {
            let (mut positions, mut read) = (Positions::default(), Vec::new());
            for (bytes, back) in cuts {
                let from = positions.resume().positions.first().map_or(0, |stream| stream.1);
                for offset in from.saturating_sub(back)..from + bytes {
                    let record = record("stdout", offset, 1, TEXT);
                    if positions.note(&record) == Novelty::New {
                        read.push(offset);
                    }
                }
            }
            prop_assert_eq!(&read, &(0..read.len() as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_kinds_of_content_are_told_apart() {
        assert_eq!(record("stdout", 0, 1, TEXT).content, Content::Text("x".to_owned()));
        assert!(matches!(record("stdout", 0, 0, END).content, Content::Marker(Marker::End { .. })));
    }
}
