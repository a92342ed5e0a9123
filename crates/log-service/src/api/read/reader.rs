//! The log of a pod's container, as one sequence: opens its streams, merges and writes them.

mod begin;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use relay_protocol::{
    capability::StreamUuid,
    name::{ContainerName, Instance},
    read::Cursor,
    time::UnixMillis,
};
use tokio::{sync::watch, time::Instant};

use super::{
    Request,
    lane::{Lane, State},
    runs::{self, Run},
};
use crate::{
    api::error::ApiError,
    clock::unix_millis,
    follow::settled,
    read::{
        lines::{Ends, Item},
        merge,
        output::Output,
        query::Mode,
        record::{OpenCursor, Records, behind_end},
        text::Text,
    },
};

/// Bytes that are made before the connection takes them.
const BATCH_BYTES: usize = 128 << 10;
/// A stream of an earlier run that has no end, and was written to after the last run began, holds
/// a follower this long after its newest bytes, in milliseconds: as long as the cluster takes to
/// declare it `abandoned`.
const SILENT_MILLIS: u64 = 60_000;

/// How the items are written.
#[derive(Debug)]
pub(super) enum Writer {
    Text(Text),
    Records(Records),
}

/// How far the reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to read.
    Ready,
    /// Everything there is was read; more may come.
    Idle,
    /// The log is over, or what was there at the beginning was read.
    Done,
}

/// A reader of all streams of a container.
///
/// Memory: a part of a segment (128 KiB) and an unfinished line (64 KiB) for each stream of the run
/// that is being read, and a batch of the answer. Segments stay in the cache that all share.
#[derive(Debug)]
pub(super) struct PodReader {
    pub(super) request: Arc<Request>,
    pub(super) output: Output,
    writer: Writer,
    container: Option<ContainerName>,
    /// Runs seen so far, in the order of the answer.
    runs: Vec<(Instance, UnixMillis)>,
    /// Streams seen so far.
    known: BTreeSet<StreamUuid>,
    /// Streams being read; the index of one never changes.
    lanes: Vec<Lane>,
    /// Indices of `lanes` in the order of the answer.
    order: Vec<usize>,
    /// Runs whose streams are not open yet.
    later: VecDeque<(usize, Run)>,
    /// The run that is being read; streams of later ones wait.
    active: usize,
    cursor: Option<Cursor>,
    /// Lines to leave out still, so that `tail` of them remain.
    skip: u64,
    since: Option<UnixMillis>,
    /// The stream whose line is unfinished.
    unfinished: Option<usize>,
}

impl PodReader {
    /// Reads on until a batch is written or nothing more can be read now.
    pub(super) async fn advance(&mut self) -> Result<Progress, ApiError> {
        while self.output.length() < BATCH_BYTES {
            for lane in self.lanes.iter_mut().filter(|lane| lane.run <= self.active) {
                lane.fill().await?;
            }
            match self.first() {
                Some(index) => self.show(index),
                None if self.next_run().await? => {}
                None if !self.is_over() => return Ok(Progress::Idle),
                None if self.grows().await? => {}
                None => return Ok(Progress::Done),
            }
        }
        Ok(Progress::Ready)
    }

    /// The stream whose item comes next.
    fn first(&self) -> Option<usize> {
        let heads = self.order.iter().filter_map(|&index| {
            let lane = &self.lanes[index];
            lane.head.is_some().then(|| (index, lane.time()))
        });
        merge::first(heads, self.unfinished)
    }

    fn show(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        let Some(item) = lane.head.take() else { return };
        self.unfinished = None;
        lane.shown = match &item {
            Item::Lines(run) => {
                self.unfinished = (run.ends == Ends::Within).then_some(index);
                run.end()
            }
            Item::Mark { range, .. } => range.end(),
            Item::End(end) => behind_end(end.length),
        };
        let Some(item) = self.wanted(item) else { return };
        match &mut self.writer {
            Writer::Text(text) => text.write(index, &item, &mut self.output),
            Writer::Records(records) => {
                let cursor = if records.has_ids() {
                    open_cursor(&self.lanes, index)
                } else {
                    OpenCursor::default()
                };
                records.write(&self.lanes[index].source_text, &item, &cursor, &mut self.output);
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

    /// Goes on with the next run; `false` if there is none.
    async fn next_run(&mut self) -> Result<bool, ApiError> {
        if self.active + 1 >= self.runs.len() {
            return Ok(false);
        }
        self.active += 1;
        while let Some((_, run)) = self.later.pop_front_if(|(index, _)| *index <= self.active) {
            for entry in run.streams {
                self.open_lane(entry, self.active).await?;
            }
        }
        Ok(true)
    }

    /// Whether every stream of the last run has ended, and no earlier one is still written to.
    fn is_over(&self) -> bool {
        if self.request.query.mode == Mode::Once {
            return self.lanes.iter().all(|lane| lane.state == State::Over);
        }
        let Some((_, last)) = self.runs.last() else { return false };
        let now = unix_millis().0;
        let done = |lane: &Lane| {
            let newest = lane.newest().0;
            let dead = newest <= last.0 || newest.saturating_add(SILENT_MILLIS) <= now;
            lane.state == State::Over || (lane.run + 1 < self.runs.len() && dead)
        };
        self.lanes.iter().all(done)
    }

    /// Whether the pod has streams that were not there at the last look. Only a follower looks.
    async fn grows(&mut self) -> Result<bool, ApiError> {
        match self.request.query.mode {
            Mode::Once => Ok(false),
            Mode::Follow => self.discover().await,
        }
    }

    /// Looks for new streams and opens them; whether there were any.
    pub(super) async fn discover(&mut self) -> Result<bool, ApiError> {
        let Request { app, namespace, pod, query, .. } = &*Arc::clone(&self.request);
        let entries = app.hub.streams(namespace, pod).await?;
        if self.container.is_none() {
            // Whoever follows before the first byte gets the container that writes first.
            self.container = entries.first().map(|entry| entry.source.container.clone());
        }
        let Some(container) = self.container.clone() else { return Ok(false) };
        let mut grown = false;
        for run in runs::runs(&entries, &container, query) {
            let index = self.run_index(&run);
            for entry in run.streams {
                // One that could not be opened is tried again with the next look.
                let uuid = entry.uuid;
                if !self.known.contains(&uuid) && self.open_lane(entry, index).await? {
                    self.known.insert(uuid);
                    grown = true;
                }
            }
        }
        Ok(grown)
    }

    /// The place of a run in the answer: new ones come last.
    fn run_index(&mut self, run: &Run) -> usize {
        let instance = &run.streams[0].source.instance;
        self.runs.iter().position(|(known, _)| known == instance).unwrap_or_else(|| {
            self.runs.push((instance.clone(), run.created));
            self.runs.len() - 1
        })
    }

    /// Asks the store for what other processes wrote to streams that are waited for.
    pub(super) async fn probe(&self) -> Result<(), ApiError> {
        for lane in self.lanes.iter().filter(|lane| matches!(lane.state, State::Waiting(_))) {
            lane.probe().await?;
        }
        Ok(())
    }

    /// To wait for changes of the streams that are waited for.
    pub(super) fn changes(&self) -> Vec<watch::Receiver<u64>> {
        let waiting = self.lanes.iter().filter(|lane| matches!(lane.state, State::Waiting(_)));
        waiting.map(Lane::changes).collect()
    }

    /// When the first wait at a hole is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = |lane: &Lane| match lane.state {
            State::Waiting(until) => until,
            State::Reading | State::Over => None,
        };
        self.lanes.iter().filter_map(until).min()
    }
}

/// Positions of all streams but the one at `index`. Old ones that are over are left out.
fn open_cursor(lanes: &[Lane], index: usize) -> OpenCursor {
    let newest = lanes.iter().map(|lane| lane.entry.created).max().unwrap_or_default();
    let mut cursor = OpenCursor::default();
    for (other, lane) in lanes.iter().enumerate() {
        if other == index {
            continue;
        }
        if lane.state != State::Over || !settled(lane.entry.created, newest) {
            let (name, position) = (&lane.cursor_name, lane.shown);
            write!(cursor.before, "{name}{position},").expect("memory takes all text");
        }
    }
    cursor.before.push_str(&lanes[index].cursor_name);
    cursor
}
