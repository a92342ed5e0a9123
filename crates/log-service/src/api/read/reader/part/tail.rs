//! The last lines of all streams together.

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_protocol::time::UnixMillis;

use super::{Later, PARALLEL, PartReader};
use crate::{
    api::{
        error::ApiError,
        read::{lane::Lane, tail},
    },
    hub::PartEntry,
    read::query::Mode,
};

/// What is known of a stream without its lines.
struct Known {
    entry: PartEntry,
    newest: UnixMillis,
    /// The position behind everything that is stored.
    reach: u64,
    is_over: bool,
}

/// The last lines of a stream.
struct Tail {
    /// None of them was captured before.
    from: UnixMillis,
    lines: u64,
}

impl PartReader {
    /// Finds the streams that hold the last lines, from those with the newest bytes on. A follower
    /// gets what the others write from now on.
    pub(super) async fn open_tail(
        &mut self,
        entries: Vec<PartEntry>,
        wanted: u64,
    ) -> Result<(), ApiError> {
        let mut known = self.look_at(entries).await?;
        known.sort_by_key(|known| std::cmp::Reverse(known.newest));
        let mut tails: Vec<Tail> = Vec::new();
        for Known { entry, newest, reach, is_over } in known {
            self.merged.positions.see(entry.created);
            // All of these lines are newer than the newest of this stream and of all that follow.
            let newer = tails.iter().filter(|tail| tail.from > newest);
            let has_none = newer.map(|tail| tail.lines).sum::<u64>() >= wanted;
            if has_none && is_over {
                self.merged.positions.finish(entry.name(), entry.created, reach);
            } else if has_none {
                self.pass(entry, reach);
            } else if let Some(mut lane) = self.load(&entry, Mode::Once).await? {
                let start = tail::start(&mut lane, wanted).await?;
                let from = before(&lane, start.position);
                self.merged.positions.put(lane.name, start.position);
                self.later.push_back(Later { from, entry });
                tails.push(Tail { from, lines: start.lines });
            }
        }
        self.merged.skip = tails.iter().map(|tail| tail.lines).sum::<u64>().saturating_sub(wanted);
        self.later.make_contiguous().sort_by_key(|later| later.from);
        Ok(())
    }

    /// Goes on behind what is stored of a stream that has none of the last lines.
    fn pass(&mut self, entry: PartEntry, reach: u64) {
        self.merged.positions.put(entry.name(), reach);
        if self.request.query.mode == Mode::Follow {
            self.later.push_back(Later { from: UnixMillis::default(), entry });
        }
    }

    async fn look_at(&self, entries: Vec<PartEntry>) -> Result<Vec<Known>, ApiError> {
        let known = stream::iter(entries).map(|entry| async move {
            let lane = self.load(&entry, Mode::Once).await?;
            Ok::<_, ApiError>(lane.map(|lane| Known {
                entry,
                newest: lane.newest(),
                reach: lane.reach(),
                is_over: lane.end().is_some(),
            }))
        });
        let known: Vec<_> = known.buffered(PARALLEL).try_collect().await?;
        Ok(known.into_iter().flatten().collect())
    }
}

/// A time before which no line from this position on was captured, as far as segments tell.
fn before(lane: &Lane, position: u64) -> UnixMillis {
    let segment = lane.stored().snapshot.segments.at(position);
    let first = segment.and_then(|segment| segment.first_time);
    first.unwrap_or(lane.entry.created).min(lane.newest())
}
