use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use relay_protocol::{
    limit::LATE_FILL,
    range::ByteRange,
    read::Marker,
    time::UnixMillis,
    write::{Crc32c, EndReason, WriterMarker},
};
use tokio::time::Instant;

use super::{HOLE_PATIENCE, Patience, Step, StreamReader, View};
use crate::stream::{EndRecord, Moment, SegmentInfo};

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

fn info(start: u64, end: u64) -> SegmentInfo {
    let length = end - start;
    SegmentInfo { start, length, newlines: 0, crc32c: 0, first_time: None, last_time: None }
}

fn view(segments: &[(u64, u64)], markers: &[(u64, u64)], length: Option<u64>) -> View {
    let extents = segments.iter().map(|(start, end)| info(*start, *end));
    let markers =
        markers.iter().map(|(start, end)| (range(*start, *end), WriterMarker::Dropped)).collect();
    View::new(extents, |_| false, markers, length.map(end))
}

fn end(length: u64) -> EndRecord {
    EndRecord {
        crc32c: Crc32c(0),
        length,
        reason: EndReason::Eof,
        exit: None,
        at: UnixMillis(1_000),
    }
}

fn mark(start: u64, end: u64, marker: Marker) -> Step {
    Step::Mark { range: range(start, end), marker }
}

fn clock() -> Moment {
    Moment { steady: Instant::now(), wall: UnixMillis(2_000) }
}

fn later(clock: Moment, by: Duration) -> Moment {
    Moment { steady: clock.steady + by, ..clock }
}

#[test]
fn a_follower_waits_ten_seconds_at_a_hole_and_then_shows_a_gap() {
    let start = clock();
    let stored = view(&[(0, 5), (9, 12)], &[], None);
    let mut reader = StreamReader::new(0, Patience::For(HOLE_PATIENCE));
    assert_eq!(reader.next(&stored, start), Step::Read { segment: 0, range: range(0, 5) });
    reader.advance(5);
    let until = start.steady + HOLE_PATIENCE;
    assert_eq!(reader.next(&stored, start), Step::Wait(Some(until)));
    let nearly = later(start, HOLE_PATIENCE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(reader.next(&stored, nearly), Step::Wait(Some(until)));
    assert_eq!(reader.next(&stored, later(start, HOLE_PATIENCE)), mark(5, 9, Marker::Gap));
}

#[test]
fn a_hole_that_begins_to_fill_is_waited_for_anew() {
    let start = clock();
    let mut reader = StreamReader::new(5, Patience::For(HOLE_PATIENCE));
    let before = view(&[(0, 5), (9, 12)], &[], None);
    assert_eq!(reader.next(&before, start), Step::Wait(Some(start.steady + HOLE_PATIENCE)));
    let filled = view(&[(0, 5), (5, 7), (9, 12)], &[], None);
    let now = later(start, Duration::from_secs(9));
    assert_eq!(reader.next(&filled, now), Step::Read { segment: 5, range: range(5, 7) });
    reader.advance(7);
    assert_eq!(reader.next(&filled, now), Step::Wait(Some(now.steady + HOLE_PATIENCE)));
}

#[test]
fn after_the_end_a_hole_may_be_filled_for_ten_minutes_and_then_is_missing() {
    let stored = view(&[(0, 5)], &[], Some(8));
    let late = UnixMillis(1_000 + u64::try_from(LATE_FILL.as_millis()).unwrap());
    for patience in [Patience::Never, Patience::For(HOLE_PATIENCE), Patience::Forever] {
        let closed = Moment { wall: late, ..clock() };
        let mut reader = StreamReader::new(5, patience);
        assert_eq!(reader.next(&stored, closed), mark(5, 8, Marker::Missing));
        reader.advance(8);
        assert_eq!(reader.next(&stored, closed), Step::End(end(8)));
        reader.close();
        assert_eq!(reader.next(&stored, closed), Step::Over);
    }
    let open = Moment { wall: UnixMillis(late.0 - 1), ..clock() };
    let next = |patience| StreamReader::new(5, patience).next(&stored, open);
    assert_eq!(next(Patience::Never), mark(5, 8, Marker::Gap));
    assert_eq!(next(Patience::For(HOLE_PATIENCE)), Step::Wait(Some(open.steady + HOLE_PATIENCE)));
    assert_eq!(next(Patience::Forever), Step::Wait(None));
}

#[test]
fn stored_bytes_win_over_a_marker_and_a_marker_over_waiting() {
    let stored = view(&[(4, 6)], &[(0, 9)], None);
    let mut reader = StreamReader::new(0, Patience::For(HOLE_PATIENCE));
    assert_eq!(reader.next(&stored, clock()), mark(0, 4, Marker::Dropped));
    reader.advance(4);
    assert_eq!(reader.next(&stored, clock()), Step::Read { segment: 4, range: range(4, 6) });
    reader.advance(6);
    assert_eq!(reader.next(&stored, clock()), mark(6, 9, Marker::Dropped));
    reader.advance(9);
    assert_eq!(reader.next(&stored, clock()), Step::Wait(None));
}

/// What happens to a stream while it is followed.
#[derive(Clone, Debug)]
enum Event {
    Stored(u64, u64),
    Marked(u64, u64),
    Passes(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..50_u64, 1..10_u64).prop_map(|(start, length)| Event::Stored(start, length)),
        1 => (0..50_u64, 1..6_u64).prop_map(|(start, length)| Event::Marked(start, length)),
        1 => (0..12_u64).prop_map(|seconds| Event::Passes(Duration::from_secs(seconds))),
    ]
}

/// The truth about one byte of the stream.
fn byte(position: u64) -> u8 {
    u8::try_from(position % 251).unwrap()
}

/// Shows everything that can be shown, and checks that it is the next of the stream.
struct Shown {
    /// For every position, the byte or the remark that stood for it.
    positions: Vec<Result<u8, Marker>>,
    ended: bool,
}

impl Shown {
    fn follow(&mut self, reader: &mut StreamReader, view: &View, clock: Moment) {
        loop {
            assert_eq!(reader.position(), self.positions.len() as u64);
            match reader.next(view, clock) {
                Step::Read { segment, range } => {
                    assert!(segment <= range.start() && !range.is_empty());
                    self.positions.extend((range.start()..range.end()).map(|at| Ok(byte(at))));
                    reader.advance(range.end());
                }
                Step::Mark { range, marker } => {
                    assert!(!range.is_empty());
                    self.positions.extend((range.start()..range.end()).map(|_| Err(marker)));
                    reader.advance(range.end());
                }
                Step::End(end) => {
                    assert_eq!(end.length, self.positions.len() as u64);
                    assert!(!self.ended, "the end is shown once");
                    self.ended = true;
                    reader.close();
                }
                Step::Wait(_) | Step::Over => return,
            }
        }
    }
}

proptest! {
    /// Commits, markers and late fills in any order: every position is shown once, in order, as
    /// its byte or as a remark; a byte is missing from what is shown only if it came too late.
    #[test]
    fn every_byte_is_shown_once_and_in_order(events in prop::collection::vec(event(), 0..30)) {
        let mut segments: Vec<(u64, u64)> = Vec::new();
        let mut markers: Vec<(u64, u64)> = Vec::new();
        let mut clock = clock();
        let mut reader = StreamReader::new(0, Patience::For(HOLE_PATIENCE));
        let mut shown = Shown { positions: Vec::new(), ended: false };
        let mut known: BTreeSet<u64> = BTreeSet::new();
        for event in events {
            match event {
                Event::Stored(start, length) => {
                    if segments.iter().all(|segment| segment.0 != start) {
                        segments.push((start, start + length));
                        segments.sort_unstable();
                        let begun = shown.positions.len() as u64;
                        known.extend((start..start + length).filter(|at| *at >= begun));
                    }
                }
                Event::Marked(start, length) => markers.push((start, start + length)),
                Event::Passes(time) => clock = later(clock, time),
            }
            shown.follow(&mut reader, &view(&segments, &markers, None), clock);
        }
        let length = segments.iter().chain(&markers).map(|range| range.1).max().unwrap_or(0);
        let stored = view(&segments, &markers, Some(length));
        shown.follow(&mut reader, &stored, clock);
        clock = later(clock, HOLE_PATIENCE);
        for _ in 0..100 {
            shown.follow(&mut reader, &stored, clock);
            clock = later(clock, HOLE_PATIENCE);
        }
        prop_assert!(shown.ended);
        prop_assert_eq!(shown.positions.len() as u64, length);
        for (at, shown) in shown.positions.iter().enumerate() {
            if let Ok(shown) = shown {
                prop_assert_eq!(*shown, byte(at as u64));
                prop_assert!(segments.iter().any(|segment| (segment.0..segment.1).contains(&(at as u64))));
            } else if known.contains(&(at as u64)) {
                // Stored before the reader came there, and yet not shown.
                let covered = segments.iter().any(|segment| (segment.0..segment.1).contains(&(at as u64)));
                prop_assert!(!covered, "the byte at {at} was there in time");
            }
        }
    }
}
