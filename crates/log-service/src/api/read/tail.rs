//! Where an answer begins in a stream that is not shown whole.

use relay_protocol::{range::ByteRange, time::UnixMillis};

use super::lane::{Lane, Stored};
use crate::{
    api::error::ApiError,
    read::tail::{TailSearch, TailStart},
    stream::SegmentInfo,
};

/// Where the last `wanted` lines of a stream begin. Reads the segment where they do, the last one,
/// and else counts by the newlines that the index knows.
pub(super) async fn start(lane: &mut Lane, wanted: u64) -> Result<TailStart, ApiError> {
    let pieces: Vec<(SegmentInfo, ByteRange)> =
        lane.stored().view.pieces_backwards().map(|(info, shown)| (*info, shown)).collect();
    let mut search = TailSearch::new(wanted);
    for (info, shown) in pieces {
        if shown == info.range() && search.pass(info.newlines) {
            continue;
        }
        let Some(segment) = lane.segment(info.start).await? else {
            // Lines within it cannot be counted: the answer begins with the remark about it.
            return Ok(TailStart { position: shown.start(), lines: search.lines() });
        };
        let at = |position: u64| usize::try_from(position - segment.start).unwrap_or(usize::MAX);
        let bytes = segment.bytes.get(at(shown.start())..at(shown.end())).unwrap_or_default();
        if let Some(start) = search.look(shown.start(), bytes) {
            return Ok(start);
        }
    }
    Ok(TailStart { position: 0, lines: search.lines() })
}

/// A segment boundary before all lines that were captured from `moment` on.
///
/// The line that reaches into the first such segment began in one before it that has a newline.
/// What is too old of what lies between is left out line by line.
pub(super) fn since(stored: &Stored, moment: UnixMillis) -> u64 {
    let mut start = 0;
    for segment in stored.snapshot.segments.iter() {
        if segment.last_time.is_none_or(|last| last >= moment) {
            break;
        }
        if segment.newlines > 0 {
            start = segment.start;
        }
    }
    start
}
