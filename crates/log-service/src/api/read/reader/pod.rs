//! The log of a pod's container: its runs one after the other.

mod begin;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use relay_protocol::{
    capability::StreamUuid,
    name::{ContainerName, Instance, PodName},
    time::UnixMillis,
};

use super::{BATCH_BYTES, Progress, SILENT_MILLIS, merged::Merged};
use crate::{
    api::{
        error::ApiError,
        read::{
            Request,
            lane::{Lane, State},
            runs::{self, Run},
        },
    },
    clock::unix_millis,
    read::query::Mode,
};

/// A reader of all streams of a container of a pod.
#[derive(Debug)]
pub(in crate::api::read) struct PodReader {
    pub(super) request: Arc<Request>,
    pub(super) merged: Merged,
    pod: PodName,
    container: Option<ContainerName>,
    /// Runs seen so far, in the order of the answer.
    runs: Vec<(Instance, UnixMillis)>,
    /// Streams seen so far.
    known: BTreeSet<StreamUuid>,
    /// Runs whose streams are not open yet.
    later: VecDeque<(usize, Run)>,
    /// The run that is being read; streams of later ones wait.
    active: usize,
}

impl PodReader {
    /// Reads on until a batch is written or nothing more can be read now.
    pub(super) async fn advance(&mut self) -> Result<Progress, ApiError> {
        while self.merged.output.length() < BATCH_BYTES {
            self.merged.fill(self.active).await?;
            match self.merged.first() {
                Some((number, _)) => self.merged.show(number),
                None if self.next_run().await? => {}
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
            return self.merged.lanes().all(|lane| lane.state == State::Over);
        }
        let Some((_, last)) = self.runs.last() else { return false };
        let now = unix_millis().0;
        let done = |lane: &Lane| {
            let newest = lane.newest().0;
            let dead = newest <= last.0 || newest.saturating_add(SILENT_MILLIS) <= now;
            lane.state == State::Over || (lane.run + 1 < self.runs.len() && dead)
        };
        self.merged.lanes().all(done)
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
        let Request { app, namespace, query, .. } = &*Arc::clone(&self.request);
        let entries = app.hub.streams(namespace, &self.pod).await?;
        if self.container.is_none() {
            // Whoever follows before the first byte gets the container that writes first.
            self.container = entries.first().map(|entry| entry.source.container.clone());
        }
        let Some(container) = self.container.clone() else { return Ok(false) };
        let mut grown = false;
        for mut run in runs::runs(&entries, &container, query) {
            let index = self.run_index(&run);
            if !self.later.is_empty() && index > self.active {
                // Runs are opened in the order of their creation.
                run.streams.retain(|entry| self.known.insert(entry.uuid));
                self.later.push_back((index, run));
                continue;
            }
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
}
