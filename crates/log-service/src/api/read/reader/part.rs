//! The log of a part of a workflow: the streams of all its pods together, in the order of their lines.
//!
//! A trigger may have thousands of streams, of which few are written to at a time. So a stream is
//! opened when the lines before it are shown, and closed when it is over.

mod tail;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_protocol::{
    capability::StreamUuid,
    context::{Context, Part},
    read::{Cursor, StreamKey, StreamRef},
    time::UnixMillis,
};

use super::{BATCH_BYTES, Progress, SILENT_MILLIS, Writer, merged::Merged};
use crate::{
    api::{
        error::ApiError,
        read::{
            Request,
            lane::{Lane, State},
            tail::since,
        },
    },
    clock::unix_millis,
    follow::{Start, resume},
    hub::PartEntry,
    read::query::{Mode, Query},
};

/// Index entries that are read at once.
const PARALLEL: usize = 16;
/// Streams that are loaded at once, before they are opened.
const AHEAD: usize = 8;
/// How long before the creation of a stream its first line may have been captured, in milliseconds,
/// and still stand where it belongs: commands start before the network is touched.
const EARLY_MILLIS: u64 = 60_000;
/// How long after its creation a stream may still show in the index, in milliseconds: clocks differ,
/// and a service that ended in the middle of a creation is made up for by a later request.
const LATE_MILLIS: u64 = 600_000;
/// How long after its last stream has ended a step may begin another, in milliseconds: containers of
/// a pod start one after the other.
const LINGER_MILLIS: u64 = 5_000;

/// A reader of all streams of a part of a workflow.
#[derive(Debug)]
pub(in crate::api::read) struct PartReader {
    pub(super) request: Arc<Request>,
    pub(super) merged: Merged,
    context: Context,
    /// Streams seen so far.
    known: BTreeSet<StreamUuid>,
    /// When the newest of them was created.
    newest: UnixMillis,
    /// Streams that are not open yet, by the time from which they may have lines.
    later: VecDeque<Later>,
    /// How many of them were loaded.
    ahead: usize,
    /// Where to go on.
    positions: HashMap<StreamKey, u64>,
    /// Of the streams of a step, when the newest of each name was created.
    replaced: BTreeMap<StreamRef, UnixMillis>,
}

/// A stream that is not open yet.
#[derive(Debug)]
struct Later {
    from: UnixMillis,
    entry: PartEntry,
    begin: Begin,
}

/// Where to begin in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// At the first byte, or where the request says.
    First,
    At(u64),
    /// Behind all that is stored.
    Behind,
}

impl PartReader {
    /// Finds the streams that the request is about. Nothing is read yet, but for `tail`.
    ///
    /// # Errors
    ///
    /// 404 if there are none and nobody waits for them.
    pub(super) async fn open(
        (request, context): (Arc<Request>, Context),
        writer: Writer,
        cursor: Option<Cursor>,
    ) -> Result<Self, ApiError> {
        let query = &request.query;
        let since = query.since.map(|since| since.moment(unix_millis()));
        let tail = query.tail.filter(|_| cursor.is_none());
        let mut reader = Self {
            merged: Merged::new(writer, since),
            context,
            known: BTreeSet::new(),
            newest: UnixMillis::default(),
            later: VecDeque::new(),
            ahead: 0,
            positions: HashMap::new(),
            replaced: BTreeMap::new(),
            request,
        };
        let entries = reader.list().await?;
        if entries.is_empty() && reader.request.query.mode == Mode::Once {
            return Err(ApiError::NotFound);
        }
        match (cursor, tail) {
            (Some(cursor), _) => reader.resume(cursor, entries),
            (None, Some(wanted)) => reader.open_tail(entries, wanted).await?,
            (None, None) => reader.later.extend(entries.into_iter().map(Later::whole)),
        }
        Ok(reader)
    }

    /// Leaves out the streams that the cursor says were read with their end.
    fn resume(&mut self, cursor: Cursor, entries: Vec<PartEntry>) {
        let streams: Vec<_> = entries.iter().map(|entry| (entry.name(), entry.created)).collect();
        let starts = resume(&cursor, &streams);
        let left = entries.into_iter().zip(starts).filter(|(_, start)| *start != Start::Finished);
        self.later.extend(left.map(|(entry, _)| Later::whole(entry)));
        self.positions = cursor.positions.into_iter().collect();
    }

    /// Streams that were not seen before, as the index has them.
    async fn list(&mut self) -> Result<Vec<PartEntry>, ApiError> {
        let Request { app, namespace, query, .. } = &*self.request;
        let since = UnixMillis(self.newest.0.saturating_sub(LATE_MILLIS));
        let mut entries = app.hub.part_streams(namespace, &self.context, since).await?;
        entries.retain(|entry| !self.known.contains(&entry.uuid));
        if query.container.is_some() || query.stream.is_some() || query.instance.is_some() {
            let context = &self.context;
            let wanted = stream::iter(entries).map(|entry| async move {
                let found = app.hub.part_entry(namespace, context, &entry).await?;
                let is_wanted = found.is_some_and(|found| takes(query, &found.source));
                Ok::<_, ApiError>(is_wanted.then_some(entry))
            });
            let wanted: Vec<_> = wanted.buffered(PARALLEL).try_collect().await?;
            entries = wanted.into_iter().flatten().collect();
        }
        self.known.extend(entries.iter().map(|entry| entry.uuid));
        let newest = entries.last().map(|entry| entry.created).unwrap_or_default();
        self.newest = self.newest.max(newest);
        Ok(entries)
    }

    pub(super) async fn advance(&mut self) -> Result<Progress, ApiError> {
        while self.merged.output.length() < BATCH_BYTES {
            self.merged.fill(0).await?;
            let first = self.merged.first();
            let is_next = |later: &Later| first.is_none_or(|(_, time)| later.from <= time);
            match first {
                _ if self.later.front().is_some_and(is_next) => self.open_next().await?,
                Some((number, _)) => self.merged.show(number),
                None if !self.is_over() => return Ok(Progress::Idle),
                None if self.grows().await? => {}
                None => return Ok(Progress::Done),
            }
        }
        Ok(Progress::Ready)
    }

    async fn open_next(&mut self) -> Result<(), ApiError> {
        self.look_ahead().await?;
        let Some(Later { entry, begin, .. }) = self.later.pop_front() else { return Ok(()) };
        let Some(mut lane) = self.load(&entry, self.request.query.mode).await? else {
            // One that could not be opened is tried again with the next look.
            self.known.remove(&entry.uuid);
            return Ok(());
        };
        let since_moment = self.merged.since();
        let end = lane.stored().snapshot.end;
        match (begin, self.positions.get(&entry.name()), since_moment) {
            (Begin::At(position), _, _) | (_, Some(&position), _) => lane.start(position),
            (Begin::Behind, ..) => lane.skip_stored(),
            // All of it is older.
            (Begin::First, None, Some(moment)) if end.is_some_and(|end| end.at < moment) => {
                return Ok(());
            }
            (Begin::First, None, Some(moment)) => lane.start(since(lane.stored(), moment)),
            (Begin::First, None, None) => {}
        }
        if matches!(self.context.part, Part::Step { .. }) {
            let newest = self.replaced.entry(place(&lane.entry.source)).or_default();
            *newest = lane.entry.created.max(*newest);
        }
        self.merged.add(lane);
        Ok(())
    }

    /// Has the next streams loaded together: one after the other, a reader of many would wait for the
    /// store most of the time.
    async fn look_ahead(&mut self) -> Result<(), ApiError> {
        if self.ahead == 0 {
            let Request { app, namespace, .. } = &*self.request;
            let context = &self.context;
            let next: Vec<_> = self.later.iter().take(AHEAD).map(|later| later.entry).collect();
            let load = stream::iter(next).map(|entry| async move {
                app.hub.part_entry(namespace, context, &entry).await?;
                app.hub.open(namespace, entry.uuid).await
            });
            let loaded: Vec<_> = load.buffered(AHEAD).try_collect().await?;
            self.ahead = loaded.len();
        }
        self.ahead = self.ahead.saturating_sub(1);
        Ok(())
    }

    async fn load(&self, entry: &PartEntry, mode: Mode) -> Result<Option<Lane>, ApiError> {
        let Request { app, namespace, .. } = &*self.request;
        let named = app.hub.part_entry(namespace, &self.context, entry).await?;
        let Some(named) = named else { return Ok(None) };
        match app.hub.open(namespace, entry.uuid).await? {
            Some(handle) => Lane::open(handle, named, 0, mode).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether there is nothing to wait for. A trigger is always in progress.
    fn is_over(&self) -> bool {
        match (self.request.query.mode, &self.context.part) {
            (Mode::Once, _) => self.merged.lanes().all(|lane| lane.state == State::Over),
            (Mode::Follow, Part::Trigger(_)) => false,
            (Mode::Follow, Part::Step { .. }) => !self.known.is_empty() && self.is_complete(),
        }
    }

    /// Whether every stream of the step has ended, or was replaced and is silent.
    fn is_complete(&self) -> bool {
        let now = unix_millis().0;
        let is_over = |lane: &Lane| {
            let newest = self.replaced.get(&place(&lane.entry.source));
            let is_replaced = newest.is_some_and(|newest| *newest > lane.entry.created);
            let is_silent = lane.newest().0.saturating_add(SILENT_MILLIS) <= now;
            lane.state == State::Over || (is_replaced && is_silent)
        };
        let ended = |lane: &Lane| lane.stored().snapshot.end.map(|end| end.at);
        let ended = self.merged.lanes().filter_map(ended).max().unwrap_or_default();
        self.merged.lanes().all(is_over) && ended.0.saturating_add(LINGER_MILLIS) <= now
    }

    /// Whether there are streams that were not there at the last look. Only a follower looks.
    async fn grows(&mut self) -> Result<bool, ApiError> {
        match self.request.query.mode {
            Mode::Once => Ok(false),
            Mode::Follow => self.discover().await,
        }
    }

    /// Looks for new streams; they are opened next.
    pub(super) async fn discover(&mut self) -> Result<bool, ApiError> {
        let entries = self.list().await?;
        let is_grown = !entries.is_empty();
        // Also where the clocks of those who write are late, so that what is shown is always older.
        let now = |entry| Later { from: UnixMillis::default(), ..Later::whole(entry) };
        for later in entries.into_iter().rev().map(now) {
            self.later.push_front(later);
        }
        Ok(is_grown)
    }
}

impl Later {
    fn whole(entry: PartEntry) -> Self {
        let from = UnixMillis(entry.created.0.saturating_sub(EARLY_MILLIS));
        Self { from, entry, begin: Begin::First }
    }
}

/// The stream of a container, in whichever of its runs.
fn place(source: &StreamRef) -> StreamRef {
    StreamRef { instance: "any".parse().expect("it is an instance's name"), ..source.clone() }
}

pub(in crate::api::read) fn takes(query: &Query, source: &StreamRef) -> bool {
    let Query { container, stream, instance, .. } = query;
    container.as_ref().is_none_or(|container| *container == source.container)
        && stream.as_ref().is_none_or(|stream| *stream == source.stream)
        && instance.as_ref().is_none_or(|instance| *instance == source.instance)
}
