//! Streams that are read together, as one sequence of items.

use std::{collections::BTreeMap, fmt::Write as _};

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_protocol::time::UnixMillis;
use tokio::{sync::watch, time::Instant};

use super::Writer;
use crate::{
    api::{
        error::ApiError,
        read::{
            lane::{Lane, State},
            runs, tail,
        },
    },
    follow::Positions,
    hub::IndexEntry,
    read::{
        lines::{Ends, Item},
        merge,
        output::Output,
        record::{OpenCursor, behind_end},
    },
};

/// Streams whose stores are asked at once.
const PARALLEL: usize = 16;
/// Longest id of an event: the service takes heads of 16 KiB, and tokens and cookies are in them, too.
const MAX_ID_BYTES: usize = 8 << 10;

/// What streams that are read together hold of their segments.
const SHARED_BYTES: usize = 16 << 20;
/// What one of them holds: at most what is worth reading at once, at least some lines.
const SHARE_BYTES: (usize, usize) = (4 << 10, 128 << 10);
/// Streams of a part of a workflow that one reader has open: as many as have a share. Beside that,
/// each takes some 4 KiB.
pub(super) const MAX_OPEN: usize = 4096;

/// Streams that are read together.
///
/// Memory: a part of a segment and an unfinished line for each stream that is not over, each of
/// them at most 128 KiB and all together at most 16 MiB of either, and a batch of the answer. Segments
/// stay in the cache that all share.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) output: Output,
    writer: Writer,
    /// Streams being read, by a number that no other ever has.
    lanes: BTreeMap<usize, Lane>,
    /// How many there were.
    count: usize,
    /// Numbers in the order of the answer.
    order: Vec<usize>,
    /// The streams that are not among them.
    pub(super) positions: Positions,
    /// When the last of those that are over ended.
    ended: UnixMillis,
    /// Lines to leave out still, so that `tail` of them remain.
    pub(super) skip: u64,
    since: Option<UnixMillis>,
    /// The stream whose line is unfinished.
    unfinished: Option<usize>,
}

impl Merged {
    pub(super) fn new(writer: Writer, since: Option<UnixMillis>) -> Self {
        Self {
            output: Output::default(),
            writer,
            lanes: BTreeMap::new(),
            count: 0,
            order: Vec::new(),
            positions: Positions::default(),
            ended: UnixMillis::default(),
            skip: 0,
            since,
            unfinished: None,
        }
    }

    /// Lines captured before it are left out.
    pub(super) fn since(&self) -> Option<UnixMillis> {
        self.since
    }

    /// The streams that are read. Those that are over are gone.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }

    /// When the last of all streams that have ended did.
    pub(super) fn ended(&self) -> UnixMillis {
        let ended = self.lanes().filter_map(|lane| lane.end().map(|end| end.at));
        ended.fold(self.ended, UnixMillis::max)
    }

    /// Reads a stream from its position on, or else from where `since` says.
    pub(super) fn add(&mut self, mut lane: Lane) {
        match (self.positions.get(&lane.name), self.since) {
            (Some(position), _) => lane.start(position),
            (None, Some(moment)) => lane.start(tail::since(lane.stored(), moment)),
            (None, None) => {}
        }
        self.positions.open(&lane.name, lane.entry.created);
        // The same whenever it is opened.
        let place = |lane: &Lane| {
            let entry = &lane.entry;
            (lane.run, runs::rank(entry), entry.created, entry.uuid)
        };
        let new = place(&lane);
        let at = self.order.partition_point(|number| place(&self.lanes[number]) <= new);
        self.order.insert(at, self.count);
        self.lanes.insert(self.count, lane);
        self.count += 1;
    }

    /// How many streams are open.
    pub(super) fn open(&self) -> usize {
        self.lanes.len()
    }

    /// Closes half of the streams that have an item, those whose items come last, and says when these
    /// come. They go on there once they are opened again.
    pub(super) fn put_off(&mut self) -> Vec<(UnixMillis, IndexEntry)> {
        let heads = self.lanes.iter().filter(|(_, lane)| lane.can_close());
        let mut heads: Vec<_> = heads.map(|(number, lane)| (lane.time(), *number)).collect();
        heads.sort_unstable();
        let mut closed = Vec::new();
        for (time, number) in heads.split_off(heads.len() / 2) {
            let Some(lane) = self.lanes.remove(&number) else { continue };
            self.positions.put(lane.name, lane.shown);
            closed.push((time, lane.entry));
        }
        self.order.retain(|number| self.lanes.contains_key(number));
        closed
    }

    /// Closes the streams that are over, and remembers how far they were read.
    fn close(&mut self) {
        let over = self.lanes.iter().filter(|(_, lane)| is_done(lane)).map(|(number, _)| *number);
        let over: Vec<usize> = over.collect();
        for lane in over.iter().filter_map(|number| self.lanes.remove(number)) {
            match lane.end().filter(|_| lane.is_read()) {
                Some(end) => {
                    self.ended = self.ended.max(end.at);
                    self.positions.finish(lane.name, lane.entry.created, lane.shown);
                }
                None => self.positions.put(lane.name, lane.shown),
            }
        }
        if !over.is_empty() {
            self.order.retain(|number| self.lanes.contains_key(number));
        }
    }

    /// Reads until the next item of each stream of the first runs is known, as far as can be now.
    pub(super) async fn fill(&mut self, last_run: usize) -> Result<(), ApiError> {
        let share = (SHARED_BYTES / self.lanes.len().max(1)).clamp(SHARE_BYTES.0, SHARE_BYTES.1);
        for lane in self.lanes.values_mut().filter(|lane| lane.run <= last_run) {
            // It was read when they were fewer. What it holds at most now is two shares.
            if lane.held() > 3 * share {
                lane.let_go();
            }
            lane.fill(share).await?;
        }
        self.close();
        Ok(())
    }

    /// The stream whose item comes next, and where in time it belongs.
    pub(super) fn first(&self) -> Option<(usize, UnixMillis)> {
        let heads = self.order.iter().filter_map(|number| {
            let lane = &self.lanes[number];
            lane.head.is_some().then(|| (*number, lane.time()))
        });
        let number = merge::first(heads, self.unfinished)?;
        Some((number, self.lanes[&number].time()))
    }

    /// Writes the next item of a stream.
    pub(super) fn show(&mut self, number: usize) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let Some(item) = lane.head.take() else { return };
        self.unfinished = None;
        lane.shown = match &item {
            Item::Lines(run) => {
                self.unfinished = (run.ends == Ends::Within).then_some(number);
                run.end()
            }
            Item::Mark { range, .. } => range.end(),
            Item::End(end) => behind_end(end.length),
        };
        let Some(item) = self.wanted(item) else { return };
        let before = self.has_ids().then(|| self.id(number)).flatten();
        match &mut self.writer {
            Writer::Text(text) => text.write(number, &item, &mut self.output),
            Writer::Records(records) => {
                let cursor = OpenCursor { before };
                let source = &self.lanes[&number].source_text;
                records.write(source, &item, &cursor, &mut self.output);
            }
        }
    }

    fn has_ids(&self) -> bool {
        matches!(&self.writer, Writer::Records(records) if records.has_ids())
    }

    /// Positions in all streams but that of this number, and its name; `None` if they are too many for
    /// a header.
    fn id(&mut self, number: usize) -> Option<String> {
        let mut id = self.positions.text(MAX_ID_BYTES).to_owned();
        for (_, lane) in self.lanes.iter().filter(|(other, _)| **other != number) {
            if id.len() > MAX_ID_BYTES {
                return None;
            }
            write!(id, "{}:{},", lane.name, lane.shown).expect("memory takes all text");
        }
        write!(id, "{}:", self.lanes[&number].name).expect("memory takes all text");
        (id.len() <= MAX_ID_BYTES).then_some(id)
    }

    /// What of an item `tail` and `since` leave.
    fn wanted(&mut self, item: Item) -> Option<Item> {
        let run = match item {
            Item::Lines(run) => run,
            // Whoever came back to what stands between lines that are passed over would get the rest of them.
            Item::Mark { .. } | Item::End(_) => return (self.skip == 0).then_some(item),
        };
        let lines = if self.skip > 0 { run.lines() } else { 0 };
        let skip = self.skip;
        self.skip = skip.saturating_sub(lines);
        let run = match skip {
            0 => run,
            skip if skip >= lines => return None,
            skip => run.skip(skip)?,
        };
        self.since.is_none_or(|since| run.time >= since).then_some(Item::Lines(run))
    }

    /// Nothing can be read now. Where no stream waits at a hole, all that was stored is shown or passed
    /// over, but for unfinished lines: what comes is none of the lines to leave out.
    pub(super) fn begin_live(&mut self) {
        if self.deadline().is_none() {
            self.skip = 0;
        }
    }

    /// Asks the store for what other processes wrote to streams that are waited for.
    pub(super) async fn probe(&self) -> Result<(), ApiError> {
        let probes: Vec<_> = self.waiting().map(Lane::probe).collect();
        stream::iter(probes).buffer_unordered(PARALLEL).try_collect().await
    }

    /// To wait for changes of the streams that are waited for.
    pub(super) fn changes(&self) -> Vec<watch::Receiver<u64>> {
        self.waiting().map(Lane::changes).collect()
    }

    fn waiting(&self) -> impl Iterator<Item = &Lane> {
        self.lanes().filter(|lane| matches!(lane.state, State::Waiting(_)))
    }

    /// When the first wait at a hole is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = |lane: &Lane| match lane.state {
            State::Waiting(until) => until,
            State::Reading | State::Over => None,
        };
        self.lanes().filter_map(until).min()
    }
}

fn is_done(lane: &Lane) -> bool {
    lane.state == State::Over && lane.head.is_none()
}
