//! One stream of an answer: takes from the store what its reader decides.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use relay_protocol::{
    range::ByteRange,
    read::{Marker, StreamKey},
    time::UnixMillis,
};
use tokio::{sync::watch, time::Instant};

use super::{piece, segments::Segments};
use crate::{
    api::error::ApiError,
    clock::unix_millis,
    follow::{HOLE_PATIENCE, Patience, Step, StreamReader, View},
    hub::{FollowGuard, IndexEntry, SegmentError, Snapshot, StreamHandle},
    read::{
        lines::{Begins, Item, Lines, MAX_PART_BYTES},
        query::Mode,
        record::{behind_end, source_text},
    },
    segment::Segment,
    stream::{EndRecord, Moment},
};

/// What a lane can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Read on.
    Reading,
    /// Wait for a change, or until this time.
    Waiting(Option<Instant>),
    /// Everything was handed out.
    Over,
}

/// One stream of an answer.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) entry: IndexEntry,
    /// Which run of the container, in the order of the answer.
    pub(super) run: usize,
    /// The beginning of its records.
    pub(super) source_text: Vec<u8>,
    /// Its name in cursors.
    pub(super) name: StreamKey,
    /// Position after what was handed to the writer.
    pub(super) shown: u64,
    /// The next item, if it is known.
    pub(super) head: Option<Item>,
    pub(super) state: State,
    handle: Arc<StreamHandle>,
    segments: Segments,
    changes: watch::Receiver<u64>,
    /// Shortens the hold of the stream while someone follows.
    _guard: Option<FollowGuard>,
    mode: Mode,
    stored: Stored,
    reader: StreamReader,
    lines: Lines,
    /// Most bytes to read at once, and to hold of an unfinished line.
    most: usize,
    /// Bytes that were read and not all handed out.
    held: usize,
    /// What a segment holds beyond what was handed to `lines`.
    planned: VecDeque<Planned>,
    compared: Option<Compared>,
}

/// What is known to be stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) snapshot: Snapshot,
    pub(super) view: View,
    /// Starts of segments that failed their checksum.
    corrupt: BTreeSet<u64>,
}

/// A piece of a segment, or a remark about one.
#[derive(Debug)]
enum Planned {
    Bytes(Arc<Segment>, ByteRange),
    Conflict(ByteRange),
}

/// A segment that was compared with all that hold the same bytes, when the first of it was read.
#[derive(Debug)]
struct Compared {
    start: u64,
    agrees: bool,
    /// Where others say something else, by rising end; those that were told are gone.
    conflicts: VecDeque<ByteRange>,
}

impl Stored {
    pub(super) fn new(snapshot: Snapshot, corrupt: BTreeSet<u64>) -> Self {
        let Snapshot { segments, markers, end, .. } = &snapshot;
        let is_corrupt = |start| corrupt.contains(&start);
        let view = View::new(segments.iter(), is_corrupt, markers.clone(), *end);
        Self { snapshot, view, corrupt }
    }

    /// Takes a newer state. Where no segment is new it costs little: markers may come by thousands.
    pub(super) fn renew(&mut self, snapshot: Snapshot) {
        if snapshot.segments.is_same(&self.snapshot.segments) {
            self.view.renew(snapshot.markers.clone(), snapshot.end);
            self.snapshot = snapshot;
        } else {
            *self = Self::new(snapshot, std::mem::take(&mut self.corrupt));
        }
    }
}

impl Lane {
    /// Opens a stream; nothing is read of it yet.
    pub(super) async fn open(
        handle: Arc<StreamHandle>,
        entry: IndexEntry,
        run: usize,
        mode: Mode,
    ) -> Result<Self, ApiError> {
        let changes = handle.changes();
        if handle.snapshot().end.is_none() {
            handle.refresh().await?;
        }
        let stored = Stored::new(handle.snapshot(), BTreeSet::new());
        Ok(Self {
            run,
            source_text: source_text(&entry.source),
            name: StreamKey::of(&entry.source),
            shown: 0,
            head: None,
            state: State::Reading,
            changes,
            _guard: (mode == Mode::Follow).then(|| handle.follow()),
            mode,
            reader: StreamReader::new(0, patience(mode)),
            lines: Lines::new(entry.created),
            most: MAX_PART_BYTES,
            held: 0,
            planned: VecDeque::new(),
            compared: None,
            stored,
            segments: Segments::new(Arc::clone(&handle)),
            handle,
            entry,
        })
    }

    /// Begins at this position. Behind the end, the stream was read with its end.
    pub(super) fn start(&mut self, position: u64) {
        self.shown = position;
        self.reader = StreamReader::new(position, patience(self.mode));
        // Remarks and the end belong where the line before them was.
        let before = position.checked_sub(1).and_then(|at| self.stored.snapshot.segments.at(at));
        let ends_here = before.filter(|segment| segment.end() == position);
        let time = ends_here.and_then(|segment| segment.last_time);
        self.lines = Lines::new(time.unwrap_or(self.entry.created));
        if self.is_read() {
            self.state = State::Over;
        }
    }

    /// The position behind everything that is stored.
    pub(super) fn reach(&self) -> u64 {
        let end = self.end().map(|end| behind_end(end.length));
        end.unwrap_or_else(|| self.stored.view.reach())
    }

    /// How the stream ended, if that is known.
    pub(super) fn end(&self) -> Option<EndRecord> {
        self.stored.snapshot.end
    }

    /// Whether it was read with its end.
    pub(super) fn is_read(&self) -> bool {
        self.end().is_some_and(|end| end.length < self.shown)
    }

    pub(super) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The good bytes of a segment; `None` if it is corrupt, which is remembered.
    pub(super) async fn segment(&mut self, start: u64) -> Result<Option<Arc<Segment>>, ApiError> {
        match self.segments.get(start).await {
            Ok(segment) => Ok(Some(segment)),
            Err(SegmentError::Store { source, .. }) => Err(source.into()),
            Err(SegmentError::Corrupt { .. }) => {
                let mut corrupt = std::mem::take(&mut self.stored.corrupt);
                corrupt.insert(start);
                self.stored = Stored::new(self.stored.snapshot.clone(), corrupt);
                Ok(None)
            }
        }
    }

    /// Reads until the next item is known, or nothing more can be read now, at most `most` bytes at
    /// once.
    pub(super) async fn fill(&mut self, most: usize) -> Result<(), ApiError> {
        self.most = most;
        self.lines.hold_at_most(most);
        if let State::Waiting(until) = self.state {
            let due = until.is_some_and(|until| until <= Instant::now());
            if due || self.has_changed() {
                self.state = State::Reading;
            }
        }
        while self.head.is_none() && self.state == State::Reading {
            self.head = self.lines.next();
            if self.head.is_none() && !self.take_planned() {
                self.held = 0;
                self.step().await?;
            }
        }
        Ok(())
    }

    /// How many bytes it holds that were not handed out.
    pub(super) fn held(&self) -> usize {
        self.held + self.lines.held()
    }

    /// Whether it can go on where it was after what it holds was let go of. A segment that others
    /// contradict is held, so that each contradiction is told once.
    fn can_let_go(&self) -> bool {
        self.compared.as_ref().is_none_or(|compared| compared.agrees)
    }

    /// Whether it can be closed, and be opened again where it was: it has an item, and is not in the
    /// middle of a line.
    pub(super) fn can_close(&self) -> bool {
        let is_between = match &self.head {
            Some(Item::Lines(run)) => run.begins == Begins::Line,
            Some(Item::Mark { .. } | Item::End(_)) => true,
            None => false,
        };
        is_between && self.can_let_go()
    }

    /// Lets go of what was not handed out: it is read again.
    pub(super) fn let_go(&mut self) {
        let lines = match &self.head {
            _ if !self.can_let_go() => return,
            Some(Item::Lines(run)) => Lines::resume(run.time, run.begins),
            None => self.lines.restart(),
            Some(Item::Mark { .. } | Item::End(_)) => return,
        };
        (self.head, self.held, self.compared) = (None, 0, None);
        self.planned.clear();
        self.state = State::Reading;
        self.start(self.shown);
        self.lines = lines;
    }

    /// Hands the next planned piece to the cutting of lines.
    fn take_planned(&mut self) -> bool {
        match self.planned.pop_front() {
            Some(Planned::Bytes(segment, range)) => self.lines.push(&segment, range),
            Some(Planned::Conflict(range)) => self.lines.mark(range, Marker::Conflict),
            None => return false,
        }
        true
    }

    async fn step(&mut self) -> Result<(), ApiError> {
        let moment = Moment { steady: Instant::now(), wall: unix_millis() };
        let step = self.reader.next(&self.stored.view, moment);
        // Bytes do not change once they are stored; everything else may have.
        if !matches!(step, Step::Read { .. } | Step::Over) && self.look_again(step).await? {
            return Ok(());
        }
        match step {
            Step::Read { segment, range } => self.load(segment, range).await?,
            Step::Mark { range, marker } => {
                self.lines.mark(range, marker);
                self.reader.advance(range.end());
            }
            Step::End(end) => {
                self.lines.end(end);
                self.reader.close();
            }
            Step::Wait(_) if self.mode == Mode::Once => {
                self.lines.cut();
                self.reader.close();
            }
            Step::Wait(until) => self.state = State::Waiting(until),
            Step::Over => self.state = State::Over,
        }
        Ok(())
    }

    /// Takes the newest state of the stream; whether there was a newer one.
    ///
    /// A gap is declared only after the store was asked for what others may have stored there.
    async fn look_again(&mut self, step: Step) -> Result<bool, ApiError> {
        if self.mode == Mode::Once {
            return Ok(false);
        }
        if matches!(step, Step::Mark { marker: Marker::Gap | Marker::Missing, .. }) {
            self.handle.refresh().await?;
        }
        let changed = self.has_changed();
        if changed {
            self.changes.mark_unchanged();
            self.stored.renew(self.handle.snapshot());
        }
        Ok(changed)
    }

    async fn load(&mut self, start: u64, range: ByteRange) -> Result<(), ApiError> {
        let Some(segment) = self.segment(start).await? else { return Ok(()) };
        self.compare(&segment, range).await?;
        let (range, is_last) = piece::first(&segment, range, self.most);
        let mut from = range.start();
        let segment = Arc::new(piece::copy(&segment, range));
        self.held = segment.bytes.len();
        while let Some(conflict) = self.conflict_until(range.end()) {
            self.plan(&segment, from, conflict.end());
            self.planned.push_back(Planned::Conflict(conflict));
            from = conflict.end();
        }
        self.plan(&segment, from, range.end());
        self.reader.advance(range.end());
        if is_last {
            self.segments.read_ahead(&self.stored.view, range.end());
        }
        Ok(())
    }

    fn plan(&mut self, segment: &Arc<Segment>, start: u64, end: u64) {
        if let Some(range) = ByteRange::new(start, end).filter(|range| !range.is_empty()) {
            self.planned.push_back(Planned::Bytes(Arc::clone(segment), range));
        }
    }

    /// Finds where other segments say something else than this one, of which `range` is shown.
    ///
    /// Once for all parts: a conflict is told when all of its bytes were shown, in whichever part
    /// it ends.
    async fn compare(&mut self, segment: &Segment, range: ByteRange) -> Result<(), ApiError> {
        let start = segment.start;
        if self.compared.as_ref().is_some_and(|compared| compared.start == start) {
            return Ok(());
        }
        let rivals: Vec<_> = self.stored.view.rivals(start, range).collect();
        let mut conflicts = Vec::new();
        for (start, overlap) in rivals {
            let rival = self.segment(start).await?;
            if rival.is_some_and(|rival| {
                piece::bytes(&rival, overlap) != piece::bytes(segment, overlap)
            }) {
                conflicts.push(overlap);
            }
        }
        conflicts.sort_by_key(|conflict| conflict.end());
        let agrees = conflicts.is_empty();
        self.compared = Some(Compared { start, agrees, conflicts: conflicts.into() });
        Ok(())
    }

    /// The next conflict that ends at `position` or before, which is told now.
    fn conflict_until(&mut self, position: u64) -> Option<ByteRange> {
        let conflicts = &mut self.compared.as_mut()?.conflicts;
        conflicts.pop_front_if(|conflict| conflict.end() <= position)
    }

    /// To wait for what is stored, marked or ended since the last look.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Asks the store for what other processes wrote.
    pub(super) fn probe(&self) -> impl Future<Output = Result<(), ApiError>> + Send + use<> {
        let handle = Arc::clone(&self.handle);
        async move {
            handle.refresh().await?;
            Ok(())
        }
    }

    /// When its newest bytes were captured, or it was created.
    pub(super) fn newest(&self) -> UnixMillis {
        let last = self.stored.snapshot.segments.last();
        last.and_then(|segment| segment.last_time).unwrap_or(self.entry.created)
    }

    /// When the line before the next item began: where the item belongs.
    pub(super) fn time(&self) -> UnixMillis {
        match &self.head {
            Some(Item::Lines(run)) => run.time,
            // Behind the last lines of the streams beside it, also where a line was captured in the
            // millisecond in which the service was told: they end when the run does.
            Some(Item::End(end)) => UnixMillis(end.at.0.saturating_add(1)).max(self.lines.time()),
            _ => self.lines.time(),
        }
    }
}

const fn patience(mode: Mode) -> Patience {
    match mode {
        Mode::Once => Patience::Never,
        Mode::Follow => Patience::For(HOLE_PATIENCE),
    }
}
