//! The last lines of all streams together.

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_protocol::time::UnixMillis;

use super::{Begin, Later, PARALLEL, PartReader};
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
    is_over: bool,
}

/// Where the last lines of a stream begin.
struct Tail {
    later: Later,
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
        let mut behind = Vec::new();
        for Known { entry, newest, is_over } in known {
            // All of these lines are newer than the newest of this stream and of all that follow.
            let newer = tails.iter().filter(|tail| tail.later.from > newest);
            if newer.map(|tail| tail.lines).sum::<u64>() >= wanted {
                if !is_over && self.request.query.mode == Mode::Follow {
                    behind.push(Later { begin: Begin::Behind, ..Later::whole(entry) });
                }
                continue;
            }
            if let Some(mut lane) = self.load(&entry, Mode::Once).await? {
                let start = tail::start(&mut lane, wanted).await?;
                let (from, begin) = (before(&lane, start.position), Begin::At(start.position));
                tails.push(Tail { later: Later { from, entry, begin }, lines: start.lines });
            }
        }
        self.merged.skip = tails.iter().map(|tail| tail.lines).sum::<u64>().saturating_sub(wanted);
        let mut later: Vec<Later> = tails.into_iter().map(|tail| tail.later).collect();
        later.sort_by_key(|later| later.from);
        self.later = behind.into_iter().chain(later).collect();
        Ok(())
    }

    async fn look_at(&self, entries: Vec<PartEntry>) -> Result<Vec<Known>, ApiError> {
        let known = stream::iter(entries).map(|entry| async move {
            let lane = self.load(&entry, Mode::Once).await?;
            Ok::<_, ApiError>(lane.map(|lane| Known {
                entry,
                newest: lane.newest(),
                is_over: lane.stored().snapshot.end.is_some(),
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
