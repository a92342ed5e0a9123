//! Where an answer begins in each stream: at the first byte, at a cursor, a time, or the last lines.

use std::sync::Arc;

use relay_protocol::{
    name::PodName,
    read::{Cursor, StreamKey},
};

use super::{Merged, PodReader};
use crate::{
    api::{
        error::ApiError,
        read::{Request, lane::Lane, reader::Writer, runs, tail},
    },
    clock::unix_millis,
    hub::IndexEntry,
    read::query::Mode,
};

impl PodReader {
    /// Finds the streams that the request is about. Nothing is read yet, but for `tail`.
    ///
    /// # Errors
    ///
    /// 404 if there are none and nobody waits for them, 400 if several containers are meant.
    pub(in crate::api::read) async fn open(
        (request, pod): (Arc<Request>, PodName),
        writer: Writer,
        cursor: Option<Cursor>,
    ) -> Result<Self, ApiError> {
        let entries = request.app.hub.streams(&request.namespace, &pod).await?;
        let container = runs::container(&entries, &request.query)
            .map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let found = match &container {
            Some(container) => runs::runs(&entries, container, &request.query),
            None => Vec::new(),
        };
        if found.is_empty() && request.query.mode == Mode::Once {
            return Err(ApiError::NotFound);
        }
        let tail = request.query.tail.filter(|_| cursor.is_none());
        let since = request.query.since.map(|since| since.moment(unix_millis()));
        let mut reader = Self {
            merged: Merged::new(writer, since),
            request,
            pod,
            container,
            runs: found
                .iter()
                .map(|run| (run.streams[0].source.instance.clone(), run.created))
                .collect(),
            known: found.iter().flat_map(|run| &run.streams).map(|entry| entry.uuid).collect(),
            later: found.into_iter().enumerate().collect(),
            active: 0,
        };
        if let Some(cursor) = cursor {
            reader.resume(cursor);
        }
        match tail {
            Some(wanted) => reader.open_tail(wanted).await?,
            None => reader.open_first().await?,
        }
        Ok(reader)
    }

    async fn open_first(&mut self) -> Result<(), ApiError> {
        if let Some((_, run)) = self.later.pop_front_if(|(index, _)| *index == 0) {
            for entry in run.streams {
                self.open_lane(entry, 0).await?;
            }
        }
        Ok(())
    }

    /// Leaves out the streams that the cursor says were read with their end.
    fn resume(&mut self, cursor: Cursor) {
        let name = |entry: &IndexEntry| (StreamKey::of(&entry.source), entry.created);
        let streams = self.later.iter().flat_map(|(_, run)| &run.streams).map(name);
        let positions = &mut self.merged.positions;
        positions.resume(cursor, streams);
        for (_, run) in &mut self.later {
            run.streams.retain(|entry| {
                let (name, created) = name(entry);
                !positions.is_read(&name, created)
            });
        }
    }

    /// Opens the streams that hold the last lines, from the last run backwards, and those before
    /// them at their ends.
    async fn open_tail(&mut self, wanted: u64) -> Result<(), ApiError> {
        let streams = self.later.iter().flat_map(|(_, run)| &run.streams);
        let newest = streams.map(|entry| entry.created).max().unwrap_or_default();
        self.merged.positions.see(newest);
        let mut lines = 0;
        while let Some((index, run)) = self.later.pop_back() {
            let whole = lines >= wanted;
            for entry in run.streams {
                let needed = self.request.query.mode == Mode::Follow
                    || !self.merged.positions.is_settled(entry.created)
                    || !whole;
                if !needed {
                    continue;
                }
                let Some(mut lane) = self.load(entry, index).await? else { continue };
                let position = if whole {
                    lane.reach()
                } else {
                    let start = tail::start(&mut lane, wanted).await?;
                    lines += start.lines;
                    start.position
                };
                self.merged.positions.put(lane.name.clone(), position);
                self.merged.add(lane);
            }
        }
        self.merged.skip = lines.saturating_sub(wanted);
        Ok(())
    }

    /// Opens a stream and finds where to begin in it; `false` if it is not there yet.
    pub(super) async fn open_lane(
        &mut self,
        entry: IndexEntry,
        run: usize,
    ) -> Result<bool, ApiError> {
        let Some(lane) = self.load(entry, run).await? else { return Ok(false) };
        self.merged.add(lane);
        Ok(true)
    }

    async fn load(&self, entry: IndexEntry, run: usize) -> Result<Option<Lane>, ApiError> {
        let Request { app, namespace, query, .. } = &*self.request;
        match app.hub.open(namespace, entry.uuid).await? {
            Some(handle) => Lane::open(handle, entry, run, query.mode).await.map(Some),
            None => Ok(None),
        }
    }
}
