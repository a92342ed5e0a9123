//! Which bytes of one stream an answer of exact bytes has, and how it says so. Pure.

use relay_protocol::range::ByteRange;

use super::{http_range::Asked, query::Mode};
use crate::follow::{Found, View};

/// Last position of an answer whose end is not known yet (RFC 8673 section 2.2): the largest that
/// every client can hold.
const ENDLESS: u64 = (1 << 63) - 1;

/// Which bytes an answer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The whole stream: 200. `end` is `None` if it is followed and has not ended.
    Whole { end: Option<u64> },
    /// A range of it: 206 with this `Content-Range`. `end` is `None` if nobody knows it yet.
    Range { start: u64, end: Option<u64>, content_range: String },
    /// None of it: 416 with this `Content-Range`.
    Unsatisfiable { content_range: String },
}

/// A range that has no bytes, so that an answer would not be exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) ByteRange);

/// Chooses the bytes. `durable_end` is where the stream ends while it has no end.
pub(crate) fn part(view: &View, durable_end: u64, asked: Option<Asked>, mode: Mode) -> Part {
    let total = view.end().map(|end| end.length);
    let known = total.unwrap_or(durable_end);
    let waits = mode == Mode::Follow && total.is_none();
    let of = total.map_or("*".to_owned(), |total| total.to_string());
    let (start, last) = match asked {
        None if waits => return Part::Whole { end: None },
        None => return Part::Whole { end: Some(known) },
        Some(Asked::From { first, last }) => (first, last),
        Some(Asked::Suffix(length)) => (known.saturating_sub(length), known.checked_sub(1)),
    };
    let nothing = matches!(asked, Some(Asked::Suffix(length)) if length == 0 || known == 0);
    if nothing || (start >= known && !waits) {
        return Part::Unsatisfiable { content_range: format!("bytes */{known}") };
    }
    let last = if waits { last } else { Some(last.map_or(known - 1, |last| last.min(known - 1))) };
    let shown = last.unwrap_or(ENDLESS);
    Part::Range {
        start,
        end: last.map(|last| last.saturating_add(1)),
        content_range: format!("bytes {start}-{shown}/{of}"),
    }
}

/// The first range within `[start, end)` whose bytes will not come: they are lost, corrupt, or,
/// for a reader who does not wait, not here.
pub(crate) fn first_unreadable(
    view: &View,
    start: u64,
    end: Option<u64>,
    mode: Mode,
) -> Option<Unreadable> {
    let end = end.unwrap_or(u64::MAX);
    let mut at = start;
    while at < end {
        match view.at(at) {
            Found::Corrupt(range) | Found::Marked(range, _) => return Some(Unreadable(range)),
            Found::Hole(range) if mode == Mode::Once => return Some(Unreadable(range)),
            Found::Stored { range, .. } | Found::Hole(range) => at = range.end(),
            Found::End(_) | Found::Nothing => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Part, Unreadable, first_unreadable, part};
    use crate::{
        follow::View,
        read::{http_range::Asked, query::Mode},
        stream::{EndRecord, SegmentInfo},
    };
    use relay_protocol::{
        range::ByteRange,
        time::UnixMillis,
        write::{Crc32c, EndReason, WriterMarker},
    };

    fn info(start: u64, length: u64) -> SegmentInfo {
        SegmentInfo { start, length, newlines: 0, crc32c: 0, first_time: None, last_time: None }
    }

    fn view(
        segments: &[(u64, u64)],
        markers: Vec<(ByteRange, WriterMarker)>,
        length: Option<u64>,
    ) -> View {
        let end = length.map(|length| EndRecord {
            length,
            crc32c: Crc32c(0),
            reason: EndReason::Eof,
            exit: None,
            at: UnixMillis(0),
        });
        View::new(
            segments.iter().map(|(at, length)| info(*at, *length)),
            |_| false,
            markers.into_iter().collect(),
            end,
        )
    }

    fn from(first: u64, last: Option<u64>) -> Asked {
        Asked::From { first, last }
    }

    fn range(start: u64, end: Option<u64>, content_range: &str) -> Part {
        Part::Range { start, end, content_range: content_range.to_owned() }
    }

    #[test]
    fn a_range_of_what_is_there_is_cut_at_its_end() {
        let ended = view(&[(0, 10)], Vec::new(), Some(10));
        let asked = |asked| part(&ended, 10, asked, Mode::Once);
        assert_eq!(asked(None), Part::Whole { end: Some(10) });
        assert_eq!(asked(Some(from(2, Some(4)))), range(2, Some(5), "bytes 2-4/10"));
        assert_eq!(asked(Some(from(2, None))), range(2, Some(10), "bytes 2-9/10"));
        assert_eq!(asked(Some(from(2, Some(99)))), range(2, Some(10), "bytes 2-9/10"));
        assert_eq!(asked(Some(Asked::Suffix(3))), range(7, Some(10), "bytes 7-9/10"));
        assert_eq!(asked(Some(Asked::Suffix(99))), range(0, Some(10), "bytes 0-9/10"));
        let none = Part::Unsatisfiable { content_range: "bytes */10".to_owned() };
        assert_eq!(asked(Some(from(10, None))), none);
        assert_eq!(asked(Some(Asked::Suffix(0))), none);
        let running = view(&[(0, 10)], Vec::new(), None);
        assert_eq!(
            part(&running, 10, Some(from(2, None)), Mode::Once),
            range(2, Some(10), "bytes 2-9/*")
        );
    }

    #[test]
    fn who_follows_may_ask_for_bytes_that_are_yet_to_come() {
        let running = view(&[(0, 10)], Vec::new(), None);
        let asked = |asked| part(&running, 10, asked, Mode::Follow);
        assert_eq!(asked(None), Part::Whole { end: None });
        assert_eq!(asked(Some(from(50, Some(59)))), range(50, Some(60), "bytes 50-59/*"));
        assert_eq!(asked(Some(from(5, None))), range(5, None, "bytes 5-9223372036854775807/*"));
        let ended = view(&[(0, 10)], Vec::new(), Some(10));
        assert_eq!(
            part(&ended, 10, Some(from(5, None)), Mode::Follow),
            range(5, Some(10), "bytes 5-9/10")
        );
    }

    #[test]
    fn a_range_with_a_gap_is_told_and_one_beside_it_is_not() {
        let lost = ByteRange::new(4, 6).unwrap();
        let stored = view(&[(0, 4), (6, 4), (12, 2)], vec![(lost, WriterMarker::Dropped)], None);
        let check = |start, end, mode| first_unreadable(&stored, start, end, mode);
        assert_eq!(check(0, Some(14), Mode::Once), Some(Unreadable(lost)));
        assert_eq!(check(0, None, Mode::Follow), Some(Unreadable(lost)));
        assert_eq!(check(0, Some(4), Mode::Once), None);
        assert_eq!(check(6, Some(10), Mode::Once), None);
        let hole = ByteRange::new(10, 12).unwrap();
        assert_eq!(check(6, Some(14), Mode::Once), Some(Unreadable(hole)));
        assert_eq!(check(6, None, Mode::Follow), None);
    }
}
