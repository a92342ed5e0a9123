//! What a reader of one stream does next. Pure.
//!
//! A follower is a position, not a queue: it asks what is stored there, and waits, shows or ends.

mod positions;
mod view;

use std::time::Duration;

use relay_protocol::{limit::LATE_FILL, range::ByteRange, read::Marker, write::WriterMarker};
use tokio::time::Instant;

use crate::stream::{EndRecord, Moment};
pub(crate) use positions::{LATE_MILLIS, Positions};
pub(crate) use view::{Found, View};

/// How long a follower waits at a hole that later bytes exist behind.
pub(crate) const HOLE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a reader waits at a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all: it reads what is there now.
    Never,
    /// This long, and then it shows a `gap`.
    For(Duration),
    /// Until the bytes come or are known to be lost: it cannot show a `gap`.
    Forever,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Show these bytes, from the segment that begins at `segment`.
    Read { segment: u64, range: ByteRange },
    /// Show this remark in place of these bytes.
    Mark { range: ByteRange, marker: Marker },
    /// Ask again when the stream changes, and at this time if there is one.
    Wait(Option<Instant>),
    /// Show the end; nothing comes after it.
    End(EndRecord),
    /// The end was shown.
    Over,
}

/// Position of one reader in one stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamReader {
    position: u64,
    patience: Patience,
    /// The hole in front of the position, and since when the reader stands there.
    hole: Option<(u64, Instant)>,
    over: bool,
}

impl StreamReader {
    pub(crate) const fn new(position: u64, patience: Patience) -> Self {
        Self { position, patience, hole: None, over: false }
    }

    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Decides what comes at the position.
    ///
    /// # Guarantees
    ///
    /// What is shown is contiguous: each `Read` and `Mark` begins at the position, and
    /// [`advance`](Self::advance) past it is the only way on. So every byte is shown once, or a
    /// remark in its place.
    pub(crate) fn next(&mut self, view: &View, moment: Moment) -> Step {
        if self.over {
            return Step::Over;
        }
        match view.at(self.position) {
            Found::Stored { segment, range } => Step::Read { segment, range },
            Found::Corrupt(range) => Step::Mark { range, marker: Marker::Corrupt },
            Found::Marked(range, WriterMarker::Dropped) => {
                Step::Mark { range, marker: Marker::Dropped }
            }
            Found::Marked(range, WriterMarker::Restarted) => {
                Step::Mark { range, marker: Marker::Restarted }
            }
            Found::Hole(range) => self.at_hole(range, view.end(), moment),
            Found::End(end) => Step::End(end),
            Found::Nothing => Step::Wait(None),
        }
    }

    /// A hole is `missing` once nobody may fill it, and a `gap` when the reader's patience ends.
    fn at_hole(&mut self, range: ByteRange, end: Option<EndRecord>, moment: Moment) -> Step {
        let late = u64::try_from(LATE_FILL.as_millis()).unwrap_or(u64::MAX);
        if end.is_some_and(|end| end.at.0.saturating_add(late) <= moment.wall.0) {
            return Step::Mark { range, marker: Marker::Missing };
        }
        let gap = Step::Mark { range, marker: Marker::Gap };
        match self.patience {
            Patience::Never => gap,
            Patience::Forever => Step::Wait(None),
            Patience::For(patience) => {
                let since = match self.hole {
                    Some((start, since)) if start == range.start() => since,
                    _ => moment.steady,
                };
                self.hole = Some((range.start(), since));
                if since + patience <= moment.steady {
                    gap
                } else {
                    Step::Wait(Some(since + patience))
                }
            }
        }
    }

    /// Goes on behind what was shown.
    pub(crate) fn advance(&mut self, to: u64) {
        debug_assert!(to >= self.position, "a reader never goes back");
        self.position = to;
        self.hole = None;
    }

    /// Notes that the end was shown.
    pub(crate) fn close(&mut self) {
        self.over = true;
    }
}

#[cfg(test)]
mod tests;
