//! Deciding when held bytes are stored, and what an outcome means for those who wait.

use std::time::Duration;

use bytes::Bytes;
use relay_protocol::{limit::MAX_SEGMENT_BYTES, range::ByteRange};
use tokio::time::Instant;

use super::{
    Stream, Waiter,
    pending::{InFlight, Piece, slice},
    write::Flush,
};
use crate::segment::{Append, Header, Mode, SegmentTimes};

/// Pieces that are held at most before all are stored: bounds the cost of each decision.
const MAX_HELD_PIECES: usize = 1024;

/// Bytes to store as one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where they belong.
    pub range: ByteRange,
    /// The bytes.
    pub bytes: Bytes,
    /// When they were captured.
    pub times: SegmentTimes,
    /// Appends with a key among them.
    pub appends: Vec<Append>,
    /// How the stream is written.
    pub mode: Mode,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Store this, and ask again at once. Several may be on their way.
    Commit(Commit),
    /// Ask again at this time, or after a write or an outcome.
    Wait(Instant),
    /// Ask again after a write or an outcome.
    Idle,
}

/// How a commit went.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is durable, as a segment with this header.
    Stored(Header),
    /// Another segment begins there, and is durable.
    Exists(Header, Bytes),
    /// The store failed. The bytes may be there all the same.
    Failed,
}

/// What a waiting request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All its bytes are durable.
    Stored,
    /// Other bytes are stored in this range.
    Conflict(ByteRange),
    /// They are not taken; repeat the request.
    Failed,
    /// The end of the stream moved: append again.
    Moved,
}

/// What an outcome leads to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Whom to tell what.
    pub verdicts: Vec<(Waiter, Verdict)>,
    /// Bytes that lost against stored ones, and where they belong.
    pub loser: Option<(u64, Bytes)>,
}

/// Held pieces that touch.
struct Run {
    start: u64,
    end: u64,
    arrived: Instant,
    flush: Flush,
}

impl Run {
    fn of(piece: &Piece) -> Self {
        Self { start: piece.start, end: piece.end(), arrived: piece.arrived, flush: piece.flush }
    }

    fn join(&mut self, piece: &Piece) {
        self.end = piece.end();
        self.arrived = self.arrived.min(piece.arrived);
        if piece.flush == Flush::Now {
            self.flush = Flush::Now;
        }
    }

    fn due(&self, last_commit: Option<Instant>, hold: Duration) -> Option<Instant> {
        let full = self.end - self.start >= MAX_SEGMENT_BYTES as u64;
        if full || self.flush == Flush::Now {
            return None;
        }
        Some(last_commit.map_or(self.arrived, |last| self.arrived.max(last + hold)))
    }
}

impl Stream {
    /// What to do now, when bytes may be held for `hold`.
    ///
    /// A commit is due when the bytes arrive, but not before `hold` has passed since the last one:
    /// so the first bytes after silence are stored at once, and a steady trickle once per `hold`.
    pub fn next(&mut self, now: Instant, hold: Duration) -> Next {
        // An append's place is certain only once the one before it has arrived.
        if self.mode == Some(Mode::Appended) && self.pending.is_committing() {
            return Next::Idle;
        }
        if self.pending.held_count() >= MAX_HELD_PIECES {
            self.pending.flush();
        }
        let mut wait: Option<Instant> = None;
        let mut due = None;
        for run in self.runs() {
            match run.due(self.last_commit, hold).filter(|due| *due > now) {
                None => {
                    due = Some(run.start);
                    break;
                }
                Some(later) => wait = Some(wait.map_or(later, |wait| wait.min(later))),
            }
        }
        let Some(start) = due else { return wait.map_or(Next::Idle, Next::Wait) };
        let mode = self.mode.unwrap_or(Mode::Ranged);
        let Some(commit) = self.pending.commit(start, MAX_SEGMENT_BYTES as u64) else {
            return Next::Idle;
        };
        self.last_commit = Some(now);
        Next::Commit(Commit { mode, ..commit.clone() })
    }

    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut held = self.pending.held().peekable();
        std::iter::from_fn(move || {
            let mut run = Run::of(held.next()?);
            while let Some(piece) = held.next_if(|piece| piece.start == run.end) {
                run.join(piece);
            }
            Some(run)
        })
    }

    /// Records how the commit that begins at `start` went.
    ///
    /// # Panics
    ///
    /// If no such commit is on its way.
    pub fn settle(&mut self, start: u64, outcome: Outcome) -> Settled {
        let flight = self.pending.take(start).expect("an outcome belongs to a commit on its way");
        match (outcome, self.mode) {
            (Outcome::Stored(header), _) => {
                self.learn(&header);
                Settled { verdicts: self.tell_stored(), loser: None }
            }
            (Outcome::Exists(header, bytes), Some(Mode::Appended)) => {
                self.settle_lost_append(&flight, &header, &bytes)
            }
            (Outcome::Exists(header, bytes), _) => self.settle_existing(flight, &header, &bytes),
            (Outcome::Failed, Some(Mode::Appended)) => {
                let mut verdicts = self.tell(flight.commit.range, |_| Verdict::Failed);
                verdicts.extend(self.move_held());
                Settled { verdicts, loser: None }
            }
            (Outcome::Failed, _) => {
                self.doubtful.push(flight.commit.range);
                let verdicts = self.tell(flight.commit.range, |_| Verdict::Failed);
                Settled { verdicts, loser: None }
            }
        }
    }

    /// A segment with our start is there: ours, if an earlier answer was lost, or another's.
    fn settle_existing(&mut self, flight: InFlight, header: &Header, bytes: &Bytes) -> Settled {
        self.learn(header);
        let Commit { range, bytes: ours, .. } = flight.commit.clone();
        let theirs = ByteRange::from_length(header.start, bytes.len()).unwrap_or(range);
        let common = range.intersect(theirs).unwrap_or(range);
        let differ = |part: ByteRange| {
            slice(range.start(), &ours, part) != slice(theirs.start(), bytes, part)
        };
        if !differ(common) {
            self.pending.hold_again(flight, theirs.end());
            return Settled { verdicts: self.tell_stored(), loser: None };
        }
        let mut verdicts = self.tell(range, |wanted| match wanted.intersect(common) {
            Some(part) if differ(part) => Verdict::Conflict(part),
            _ => Verdict::Failed,
        });
        verdicts.extend(self.tell_stored());
        Settled { verdicts, loser: Some((range.start(), ours)) }
    }

    fn settle_lost_append(&mut self, flight: &InFlight, header: &Header, bytes: &Bytes) -> Settled {
        let Commit { range, bytes: ours, appends, .. } = &flight.commit;
        self.learn(header);
        // An earlier attempt of ours arrived although the store reported a failure.
        let same = !appends.is_empty() && *appends == header.appends && ours == bytes;
        let mut verdicts = self.move_held();
        if same {
            verdicts.extend(self.tell_stored());
        } else {
            verdicts.extend(self.tell(*range, |_| Verdict::Moved));
        }
        Settled { verdicts, loser: None }
    }

    /// Appends behind one that did not arrive have lost their place.
    fn move_held(&mut self) -> Vec<(Waiter, Verdict)> {
        let held: Vec<ByteRange> = self.pending.held().map(Piece::range).collect();
        self.pending.clear_held();
        held.into_iter().flat_map(|range| self.tell(range, |_| Verdict::Moved)).collect()
    }

    /// Those whose bytes are all stored.
    fn tell_stored(&mut self) -> Vec<(Waiter, Verdict)> {
        let stored = &self.stored;
        let (told, waiting) = self.waiters.drain(..).partition(|(_, range)| stored.covers(*range));
        self.waiters = waiting;
        let told: Vec<(Waiter, ByteRange)> = told;
        told.into_iter().map(|(waiter, _)| (waiter, Verdict::Stored)).collect()
    }

    /// Those who wait for a byte of `range`.
    fn tell(
        &mut self,
        range: ByteRange,
        verdict: impl Fn(ByteRange) -> Verdict,
    ) -> Vec<(Waiter, Verdict)> {
        let concerned = |wanted: &ByteRange| wanted.intersect(range).is_some();
        let (told, waiting): (Vec<_>, Vec<_>) =
            self.waiters.drain(..).partition(|(_, wanted)| concerned(wanted));
        self.waiters = waiting;
        told.into_iter().map(|(waiter, wanted)| (waiter, verdict(wanted))).collect()
    }
}
