//! The log of a part of a workflow: the streams of all its pods together, in the order of their lines.
//!
//! A trigger may have thousands of streams, of which few are written to at a time. So a stream is
//! opened when the lines before it are shown, and closed when it is over.

mod tail;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_protocol::{
    capability::StreamUuid,
    context::{Context, Part},
    read::{Cursor, StreamRef},
    time::UnixMillis,
};

use super::{
    BATCH_BYTES, Progress, SILENT_MILLIS, Writer,
    merged::{MAX_OPEN, Merged},
};
use crate::{
    api::{
        error::ApiError,
        read::{
            Request,
            lane::{Lane, State},
        },
    },
    clock::unix_millis,
    follow::LATE_MILLIS,
    hub::PartEntry,
    read::query::{Mode, Query},
};

/// Index entries that are read at once.
const PARALLEL: usize = 16;
/// Streams that are loaded at once.
const AHEAD: usize = 8;
/// How long before the creation of a stream its first line may have been captured, in milliseconds,
/// and still stand where it belongs: commands start before the network is touched.
const EARLY_MILLIS: u64 = 60_000;
/// How long after its last stream has ended a step may begin another, in milliseconds: containers of
/// a pod start one after the other.
const LINGER_MILLIS: u64 = 5_000;

/// A reader of all streams of a part of a workflow.
#[derive(Debug)]
pub(in crate::api::read) struct PartReader {
    pub(super) request: Arc<Request>,
    pub(super) merged: Merged,
    context: Context,
    /// Streams that are read, were, or will be.
    known: BTreeSet<StreamUuid>,
    /// Those that are not asked for: each look would ask for their names again.
    others: BTreeSet<StreamUuid>,
    /// When the newest stream of the part was created.
    newest: UnixMillis,
    /// Streams that are not open yet, by the time from which they may have lines.
    later: VecDeque<Later>,
    /// The first of them, loaded together: one after the other, a reader of many would wait for the
    /// store most of the time.
    ready: VecDeque<(Later, Lane)>,
    /// Of the streams of a step, when the newest of each name was created.
    replaced: BTreeMap<StreamRef, UnixMillis>,
}

/// A stream that is not open.
#[derive(Clone, Copy, Debug)]
struct Later {
    from: UnixMillis,
    entry: PartEntry,
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
            others: BTreeSet::new(),
            newest: UnixMillis::default(),
            later: VecDeque::new(),
            ready: VecDeque::new(),
            replaced: BTreeMap::new(),
            request,
        };
        let entries = reader.list().await?;
        if entries.is_empty() && reader.request.query.mode == Mode::Once {
            return Err(ApiError::NotFound);
        }
        reader.known.extend(entries.iter().map(|entry| entry.uuid));
        match (cursor, tail) {
            (Some(cursor), _) => reader.resume(cursor, entries),
            (None, Some(wanted)) => reader.open_tail(entries, wanted).await?,
            (None, None) => reader.later.extend(entries.into_iter().map(Later::whole)),
        }
        Ok(reader)
    }

    /// Leaves out the streams that the cursor says were read with their end.
    fn resume(&mut self, cursor: Cursor, entries: Vec<PartEntry>) {
        let positions = &mut self.merged.positions;
        positions.resume(cursor, entries.iter().map(|entry| (entry.name(), entry.created)));
        let is_left = |entry: &PartEntry| !positions.is_read(&entry.name(), entry.created);
        self.later.extend(entries.into_iter().filter(is_left).map(Later::whole));
    }

    /// Streams that are not known and asked for, as the index has them.
    async fn list(&mut self) -> Result<Vec<PartEntry>, ApiError> {
        let Request { app, namespace, query, .. } = &*self.request;
        let since = UnixMillis(self.newest.0.saturating_sub(LATE_MILLIS));
        let mut entries = app.hub.part_streams(namespace, &self.context, since).await?;
        let is_seen = |uuid: &StreamUuid| self.known.contains(uuid) || self.others.contains(uuid);
        entries.retain(|entry| !is_seen(&entry.uuid));
        let newest = entries.last().map(|entry| entry.created).unwrap_or_default();
        self.newest = self.newest.max(newest);
        if query.container.is_some() || query.stream.is_some() || query.instance.is_some() {
            let context = &self.context;
            let found = stream::iter(entries).map(|entry| async move {
                let found = app.hub.part_entry(namespace, context, &entry).await?;
                Ok::<_, ApiError>(found.map(|found| (entry, takes(query, &found.source))))
            });
            let found: Vec<_> = found.buffered(PARALLEL).try_collect().await?;
            let (wanted, others): (Vec<_>, Vec<_>) =
                found.into_iter().flatten().partition(|(_, is_wanted)| *is_wanted);
            self.others.extend(others.iter().map(|(entry, _)| entry.uuid));
            entries = wanted.into_iter().map(|(entry, _)| entry).collect();
        }
        Ok(entries)
    }

    pub(super) async fn advance(&mut self) -> Result<Progress, ApiError> {
        while self.merged.output.length() < BATCH_BYTES {
            self.merged.fill(0).await?;
            let first = self.merged.first();
            let ready = self.ready.front().map(|(later, _)| later.from);
            let next = ready.or_else(|| self.later.front().map(|later| later.from));
            // Of those that come at the same time, more may be open than there is room for.
            let is_room = self.merged.open() < MAX_OPEN;
            let is_due =
                |from| first.is_none_or(|(_, time)| from < time || (is_room && from == time));
            match first {
                _ if next.is_some_and(is_due) => self.open_next().await?,
                Some((number, _)) => self.merged.show(number),
                None if !self.is_over() => {
                    self.merged.begin_live();
                    return Ok(Progress::Idle);
                }
                None if self.grows().await? => {}
                None => return Ok(Progress::Done),
            }
        }
        Ok(Progress::Ready)
    }

    async fn open_next(&mut self) -> Result<(), ApiError> {
        if self.merged.open() >= MAX_OPEN {
            self.make_room()?;
        }
        if let Some((_, lane)) = self.ready.pop_front() {
            self.add(lane);
            return Ok(());
        }
        let next: Vec<_> = self.later.iter().take(AHEAD).map(|later| later.entry).collect();
        let lanes = self.load_all(&next).await?;
        for (later, lane) in self.later.drain(..next.len()).zip(lanes) {
            match lane {
                Some(lane) => self.ready.push_back((later, lane)),
                // One that could not be opened is tried again with the next look.
                None => drop(self.known.remove(&later.entry.uuid)),
            }
        }
        Ok(())
    }

    /// Closes streams whose lines come later than those of others, so that others can be opened.
    fn make_room(&mut self) -> Result<(), ApiError> {
        let closed = self.merged.put_off();
        if closed.is_empty() {
            let what = format!("more than {MAX_OPEN} streams that have not ended");
            let remedy =
                "take fewer with container=, stream= or instance=, or follow a step or pods";
            let error = format!("the log has {what}, too many to follow together: {remedy}");
            return Err(ApiError::BadRequest(error));
        }
        // They may come before those that were loaded.
        let loaded: Vec<Later> = self.ready.drain(..).map(|(later, _)| later).collect();
        let closed = closed
            .into_iter()
            .filter_map(|(from, entry)| Some(Later { from, entry: PartEntry::of(&entry)? }));
        for later in loaded.into_iter().chain(closed) {
            self.put_off(later);
        }
        Ok(())
    }

    fn put_off(&mut self, later: Later) {
        let at = self.later.partition_point(|other| other.from <= later.from);
        self.later.insert(at, later);
    }

    fn add(&mut self, lane: Lane) {
        let is_older = |moment| lane.end().is_some_and(|end| end.at < moment);
        if self.merged.positions.get(&lane.name).is_none()
            && self.merged.since().is_some_and(is_older)
        {
            return;
        }
        if matches!(self.context.part, Part::Step { .. }) {
            let newest = self.replaced.entry(place(&lane.entry.source)).or_default();
            *newest = lane.entry.created.max(*newest);
        }
        self.merged.add(lane);
    }

    async fn load_all(&self, entries: &[PartEntry]) -> Result<Vec<Option<Lane>>, ApiError> {
        let mode = self.request.query.mode;
        let lanes = stream::iter(entries.to_vec())
            .map(|entry| async move { self.load(&entry, mode).await });
        lanes.buffered(AHEAD).try_collect().await
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
        let ended = self.merged.ended().0;
        self.merged.lanes().all(is_over) && ended.saturating_add(LINGER_MILLIS) <= now
    }

    /// Whether there are streams that were not there at the last look. Only a follower looks.
    async fn grows(&mut self) -> Result<bool, ApiError> {
        match self.request.query.mode {
            Mode::Once => Ok(false),
            Mode::Follow => self.discover().await,
        }
    }

    /// Looks for new streams; whether there were any.
    pub(super) async fn discover(&mut self) -> Result<bool, ApiError> {
        let entries = self.list().await?;
        let is_room = self.merged.open() + entries.len() <= MAX_OPEN;
        if !is_room || !self.later.is_empty() || !self.ready.is_empty() {
            // Streams are opened in the order of their creation.
            self.known.extend(entries.iter().map(|entry| entry.uuid));
            let grown = !entries.is_empty();
            entries.into_iter().map(Later::whole).for_each(|later| self.put_off(later));
            return Ok(grown);
        }
        let lanes = self.load_all(&entries).await?;
        let mut grown = false;
        for (entry, lane) in entries.into_iter().zip(lanes) {
            // One that could not be opened is tried again with the next look.
            let Some(lane) = lane else { continue };
            self.known.insert(entry.uuid);
            // At once, also where the clocks of those who write are late: what was shown is older.
            self.add(lane);
            grown = true;
        }
        Ok(grown)
    }
}

impl Later {
    fn whole(entry: PartEntry) -> Self {
        let from = UnixMillis(entry.created.0.saturating_sub(EARLY_MILLIS));
        Self { from, entry }
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
