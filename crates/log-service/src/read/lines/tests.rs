use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use relay_protocol::{
    range::ByteRange,
    read::Marker,
    time::{CaptureTimes, UnixMillis},
    write::{Crc32c, EndReason},
};

use super::{Begins, Ends, Item, Lines, MAX_PART_BYTES, Run};
use crate::{
    segment::{Segment, SegmentTimes},
    stream::EndRecord,
};

const CREATED: UnixMillis = UnixMillis(1);

fn segment(start: u64, bytes: &[u8], times: &[(u64, u64)]) -> Arc<Segment> {
    let mut noted = CaptureTimes::default();
    for (offset, time) in times {
        noted.note(*offset, UnixMillis(*time));
    }
    let mut times = SegmentTimes::default();
    times.extend(&noted, start, start + bytes.len() as u64);
    Arc::new(Segment { start, bytes: Bytes::copy_from_slice(bytes), times })
}

fn whole(segment: &Segment) -> ByteRange {
    ByteRange::new(segment.start, segment.end()).unwrap()
}

fn end(length: u64) -> EndRecord {
    EndRecord { crc32c: Crc32c(0), length, reason: EndReason::Eof, exit: None, at: UnixMillis(0) }
}

fn take(lines: &mut Lines) -> Vec<Run> {
    std::iter::from_fn(|| lines.next())
        .filter_map(|item| if let Item::Lines(run) = item { Some(run) } else { None })
        .collect()
}

/// Each run as its text, time and ends.
fn shown(runs: &[Run]) -> Vec<(&str, u64, Ends)> {
    runs.iter()
        .map(|run| (std::str::from_utf8(&run.bytes).unwrap(), run.time.0, run.ends))
        .collect()
}

#[test]
fn lines_of_one_time_are_one_run_and_a_line_has_the_time_of_its_first_byte() {
    let mut lines = Lines::new(CREATED);
    // The time changes within the second line and at the beginning of the fourth.
    let segment = segment(0, b"a\nbbb\nc\nd\n", &[(0, 5), (3, 6), (8, 7)]);
    lines.push(&segment, whole(&segment));
    let runs = take(&mut lines);
    let expected = [("a\nbbb\n", 5, Ends::Line), ("c\n", 6, Ends::Line), ("d\n", 7, Ends::Line)];
    assert_eq!(shown(&runs), expected);
}

#[test]
fn an_unfinished_line_is_held_until_its_newline_and_keeps_its_time() {
    let mut lines = Lines::new(CREATED);
    let first = segment(0, b"a\nb", &[(0, 5)]);
    lines.push(&first, whole(&first));
    assert_eq!(shown(&take(&mut lines)), [("a\n", 5, Ends::Line)]);
    let second = segment(3, b"cd\ne\n", &[(3, 9)]);
    lines.push(&second, whole(&second));
    assert_eq!(shown(&take(&mut lines)), [("bcd\n", 5, Ends::Line), ("e\n", 9, Ends::Line)]);
}

#[test]
fn a_remark_or_the_end_releases_an_unfinished_line() {
    let mut lines = Lines::new(CREATED);
    let first = segment(0, b"ab", &[]);
    lines.push(&first, whole(&first));
    assert_eq!(lines.next(), None);
    let gap = ByteRange::new(2, 5).unwrap();
    lines.mark(gap, Marker::Dropped);
    let Some(Item::Lines(run)) = lines.next() else { unreachable!("the held bytes come first") };
    assert_eq!((run.ends, run.time), (Ends::Within, CREATED));
    assert_eq!(lines.next(), Some(Item::Mark { range: gap, marker: Marker::Dropped }));
    let second = segment(5, b"c", &[]);
    lines.push(&second, whole(&second));
    assert_eq!(lines.next(), None);
    lines.end(end(6));
    let Some(Item::Lines(run)) = lines.next() else { unreachable!("the held byte comes first") };
    assert_eq!((run.begins, run.ends), (Begins::Line, Ends::Last));
    assert_eq!(lines.next(), Some(Item::End(end(6))));
}

#[test]
fn leaving_out_lines_moves_the_offset_with_them() {
    let run = Run {
        offset: 10,
        bytes: Bytes::from_static(b"a\nbb\nc"),
        time: CREATED,
        begins: Begins::Within,
        ends: Ends::Last,
    };
    assert_eq!(run.lines(), 3);
    let rest = run.clone().skip(2).unwrap();
    assert_eq!((rest.offset, &rest.bytes[..], rest.begins), (15, &b"c"[..], Begins::Line));
    assert_eq!(run.skip(3), None);
}

/// Where segments begin and end in a text that is cut at these places.
fn bounds(cuts: &[usize], length: usize) -> Vec<usize> {
    let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut % (length + 1)).collect();
    bounds.extend([0, length]);
    bounds.sort_unstable();
    bounds.dedup();
    bounds
}

proptest! {
    /// Whatever the segments: all bytes once, in order; whole lines; each with its own time.
    #[test]
    fn runs_hold_every_byte_and_only_whole_lines(
        text in prop::collection::vec(prop_oneof![3 => Just(b'x'), 2 => Just(b'\n'), 1 => any::<u8>()], 0..200),
        cuts in prop::collection::vec(0..200_usize, 0..6),
        times in prop::collection::btree_map(1..200_u64, 2..9_u64, 0..12),
    ) {
        let times: Vec<(u64, u64)> = std::iter::once((0, 2)).chain(times).collect();
        let bounds = bounds(&cuts, text.len());
        let mut lines = Lines::new(CREATED);
        let mut runs = Vec::new();
        for piece in bounds.windows(2) {
            let segment = segment(piece[0] as u64, &text[piece[0]..piece[1]], &times);
            lines.push(&segment, whole(&segment));
            runs.extend(take(&mut lines));
        }
        lines.end(end(text.len() as u64));
        runs.extend(take(&mut lines));

        let mut offset = 0;
        for run in &runs {
            prop_assert_eq!(run.offset, offset);
            prop_assert_eq!(run.begins, Begins::Line);
            offset = run.end();
            prop_assert_eq!(run.ends == Ends::Last, run.bytes.last() != Some(&b'\n'));
            let mut start = run.offset;
            for line in run.bytes.split_inclusive(|byte| *byte == b'\n') {
                let time = times.iter().rev().find(|(from, _)| *from <= start).unwrap().1;
                prop_assert_eq!(run.time.0, time, "line at {}", start);
                start += line.len() as u64;
            }
        }
        let joined: Vec<u8> = runs.iter().flat_map(|run| run.bytes.to_vec()).collect();
        prop_assert_eq!(joined, text);
    }

    /// A line longer than a part comes in parts of one size, wherever its segments begin.
    #[test]
    fn long_lines_come_in_parts(cuts in prop::collection::vec(0..300_000_usize, 0..4), length in 0..300_000_usize) {
        let mut text = vec![b'y'; length];
        text.extend_from_slice(b"\nz\n");
        let bounds = bounds(&cuts, text.len());
        let mut lines = Lines::new(CREATED);
        let mut runs = Vec::new();
        for piece in bounds.windows(2) {
            let segment = segment(piece[0] as u64, &text[piece[0]..piece[1]], &[]);
            lines.push(&segment, whole(&segment));
            runs.extend(take(&mut lines));
        }
        for run in &runs {
            prop_assert!(run.ends == Ends::Line || run.bytes.len() % MAX_PART_BYTES == 0);
        }
        let joined: Vec<u8> = runs.iter().flat_map(|run| run.bytes.to_vec()).collect();
        prop_assert_eq!(joined, text);
        prop_assert_eq!(lines.held.len(), 0);
    }
}

#[test]
fn lines_longer_than_what_may_be_held_come_in_parts() {
    let segment = segment(0, b"0123456789\nab\n0123456", &[]);
    let mut lines = Lines::new(CREATED);
    let push = |lines: &mut Lines, start, end| {
        lines.push(&segment, ByteRange::new(start, end).unwrap());
        take(lines).iter().map(|run| run.bytes.clone()).collect::<Vec<_>>()
    };
    assert!(push(&mut lines, 0, 6).is_empty(), "all of it may be held");
    // Less than is held already.
    lines.hold_at_most(4);
    assert_eq!(push(&mut lines, 6, 14), ["012345", "6789\n", "ab\n"]);
    assert_eq!(push(&mut lines, 14, 17), [""; 0]);
    assert_eq!(push(&mut lines, 17, 21), ["0123"]);
    lines.cut();
    assert_eq!(take(&mut lines).pop().unwrap().bytes, "456");
}
