//! Streams that are read together, as one sequence of items.

use std::{collections::BTreeMap, fmt::Write as _};

use relay_protocol::time::UnixMillis;
use tokio::{sync::watch, time::Instant};

use super::Writer;
use crate::{
    api::{
        error::ApiError,
        read::{
            lane::{Lane, State},
            runs,
        },
    },
    follow::settled,
    read::{
        lines::{Ends, Item},
        merge,
        output::Output,
        record::{OpenCursor, behind_end},
    },
};

/// Streams that are read together.
///
/// Memory: a part of a segment (128 KiB) and an unfinished line (64 KiB) for each stream that is not
/// over, and a batch of the answer. Segments stay in the cache that all share.
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
    /// When the stream was created that was created last.
    newest: UnixMillis,
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
            newest: UnixMillis::default(),
            skip: 0,
            since,
            unfinished: None,
        }
    }

    /// Lines captured before it are left out.
    pub(super) fn since(&self) -> Option<UnixMillis> {
        self.since
    }

    /// The streams that are read. One that is over may be gone.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }

    pub(super) fn add(&mut self, lane: Lane) {
        self.newest = self.newest.max(lane.entry.created);
        self.lanes.insert(self.count, lane);
        self.count += 1;
        // Nobody is told any more of what was read to its end long before the newest.
        let newest = self.newest;
        self.lanes.retain(|_, lane| !is_done(lane) || !settled(lane.entry.created, newest));
        self.order = self.lanes.keys().copied().collect();
        let lanes = &self.lanes;
        self.order.sort_by_key(|number| {
            let lane = &lanes[number];
            (lane.run, runs::rank(&lane.entry))
        });
    }

    /// Reads until the next item of each stream of the first runs is known, as far as can be now.
    pub(super) async fn fill(&mut self, last_run: usize) -> Result<(), ApiError> {
        for lane in self.lanes.values_mut().filter(|lane| lane.run <= last_run) {
            lane.fill().await?;
        }
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
        match &mut self.writer {
            Writer::Text(text) => text.write(number, &item, &mut self.output),
            Writer::Records(records) => {
                let has_ids = records.has_ids();
                let cursor =
                    if has_ids { open_cursor(&self.lanes, number) } else { OpenCursor::default() };
                let source = &self.lanes[&number].source_text;
                records.write(source, &item, &cursor, &mut self.output);
            }
        }
    }

    /// What of an item `tail` and `since` leave.
    fn wanted(&mut self, item: Item) -> Option<Item> {
        let run = match item {
            Item::Lines(run) => run,
            Item::Mark { .. } => return (self.skip == 0).then_some(item),
            Item::End(_) => return Some(item),
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

    /// Asks the store for what other processes wrote to streams that are waited for.
    pub(super) async fn probe(&self) -> Result<(), ApiError> {
        for lane in self.waiting() {
            lane.probe().await?;
        }
        Ok(())
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

/// Positions of all streams but that of this number. Old ones that are over are left out.
fn open_cursor(lanes: &BTreeMap<usize, Lane>, number: usize) -> OpenCursor {
    let newest = lanes.values().map(|lane| lane.entry.created).max().unwrap_or_default();
    let mut cursor = OpenCursor::default();
    for (other, lane) in lanes {
        if *other == number {
            continue;
        }
        if lane.state != State::Over || !settled(lane.entry.created, newest) {
            let (name, position) = (&lane.cursor_name, lane.shown);
            write!(cursor.before, "{name}{position},").expect("memory takes all text");
        }
    }
    cursor.before.push_str(&lanes[&number].cursor_name);
    cursor
}
