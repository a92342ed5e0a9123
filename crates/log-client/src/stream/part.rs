//! The pieces of a stream, from its first byte to the last that is not in an open chunk.

use std::{collections::VecDeque, fmt};

use relay_protocol::{range::ByteRange, write::WriterMarker};

use super::{chunk::Chunk, identity::Era};

/// A piece of the stream.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: ByteRange,
    pub(super) content: Content,
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) enum Content {
    Data(Chunk),
    Marker { kind: WriterMarker, reason: Reason },
    Settled(Settled),
}

/// Where a part is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Queued(Fate),
    InFlight(Fate),
}

/// What earlier attempts did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The service does not have it: it may still be dropped.
    Unsent,
    /// An attempt had no answer: the service may have it.
    Unknown,
}

/// What became of a range on which nothing more is to be done. What is neither stored nor marked
/// is lost without a marker: the service refused that too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    /// Bytes that are durable.
    pub(super) stored: u64,
    /// Bytes that a marker covers.
    pub(super) marked: u64,
    /// CRC-32C of the stored bytes, in order.
    pub(super) crc: u32,
    /// When it was settled.
    pub(super) era: Era,
}

/// Why bytes are marked, for the service's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The ring was full for too long.
    Full,
    /// The time to deliver was over.
    Exit,
    /// The service refused the bytes with this status.
    Status(u16),
    /// The stream that had the bytes is gone.
    Restarted,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => formatter.write_str("full"),
            Self::Exit => formatter.write_str("exit"),
            Self::Status(status) => write!(formatter, "{status}"),
            Self::Restarted => formatter.write_str("restarted"),
        }
    }
}

impl Settled {
    fn then(self, next: Self) -> Self {
        let length = usize::try_from(next.stored).expect("an offset fits into 64 bits");
        Self {
            stored: self.stored + next.stored,
            marked: self.marked + next.marked,
            crc: crc32c::crc32c_combine(self.crc, next.crc, length),
            era: next.era,
        }
    }
}

impl Part {
    /// The two as one, if nothing is lost by that.
    fn joined(&self, next: &Self) -> Option<Content> {
        match (&self.content, &next.content) {
            (Content::Settled(first), Content::Settled(second)) if first.era == second.era => {
                Some(Content::Settled(first.then(*second)))
            }
            // The first reason stands for both: a metric, not part of the account.
            (&Content::Marker { kind, reason }, Content::Marker { kind: other, .. })
                if kind == *other && self.is_queued() && next.is_queued() =>
            {
                Some(Content::Marker { kind, reason })
            }
            _ => None,
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        matches!(self.progress, Progress::Queued(_))
    }

    /// Whether it holds bytes that the service certainly does not have.
    pub(super) fn is_unsent_data(&self) -> bool {
        matches!(self.content, Content::Data(_)) && self.progress == Progress::Queued(Fate::Unsent)
    }
}

/// Parts in order, without holes, joined with their neighbours where possible: their number
/// depends on what is under way, not on the length of the stream.
#[derive(Debug, Default)]
pub(super) struct Parts(VecDeque<Part>);

impl Parts {
    pub(super) fn push(&mut self, part: Part) {
        self.0.push_back(part);
        self.join_around(self.0.len() - 1);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        self.0.iter()
    }

    pub(super) fn find(&self, wanted: impl FnMut(&Part) -> bool) -> Option<usize> {
        self.0.iter().position(wanted)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Part {
        &mut self.0[index]
    }

    /// The part of exactly this range that is in flight.
    pub(super) fn in_flight(&self, range: ByteRange) -> Option<usize> {
        let index = self.0.partition_point(|part| part.range.start() < range.start());
        let part = self.0.get(index)?;
        (part.range == range && !part.is_queued()).then_some(index)
    }

    /// Gives a part new content, to be sent from the start, and returns the old.
    pub(super) fn replace(&mut self, index: usize, content: Content) -> Content {
        let part = &mut self.0[index];
        part.progress = Progress::Queued(Fate::Unsent);
        let old = std::mem::replace(&mut part.content, content);
        self.join_around(index);
        old
    }

    /// All that is settled becomes a marker: the stream that had it is gone.
    pub(super) fn restart(&mut self) {
        self.mark_restarted(|_, _| true);
    }

    /// What was settled before `era` and is not there becomes a marker: the stream that had it is
    /// gone, with all of that era. Returns whether there was such.
    pub(super) fn lose(&mut self, gaps: &[ByteRange], era: Era) -> bool {
        self.mark_restarted(|range, settled| {
            settled.era < era && gaps.iter().any(|gap| gap.intersect(range).is_some())
        })
    }

    fn mark_restarted(&mut self, is_gone: impl Fn(ByteRange, &Settled) -> bool) -> bool {
        let mut found = false;
        for part in &mut self.0 {
            if let Content::Settled(settled) = &part.content
                && is_gone(part.range, settled)
            {
                part.content =
                    Content::Marker { kind: WriterMarker::Restarted, reason: Reason::Restarted };
                part.progress = Progress::Queued(Fate::Unsent);
                found = true;
            }
        }
        (0..self.0.len()).rev().for_each(|index| self.join(index));
        found
    }

    /// Sum of what is settled so far.
    pub(super) fn settled(&self) -> Settled {
        self.0.iter().fold(Settled::default(), |sum, part| match part.content {
            Content::Settled(settled) => sum.then(settled),
            _ => sum,
        })
    }

    /// CRC-32C of all bytes that are stored or on their way.
    pub(super) fn checksum(&self) -> u32 {
        let settled = |part: &Part| match &part.content {
            Content::Settled(settled) => *settled,
            Content::Data(Chunk { crc, .. }) => {
                Settled { stored: part.range.length(), crc: *crc, ..Settled::default() }
            }
            Content::Marker { .. } => Settled::default(),
        };
        self.0.iter().fold(Settled::default(), |sum, part| sum.then(settled(part))).crc
    }

    /// Whether everything is settled or in flight.
    pub(super) fn all_sent(&self) -> bool {
        let settled = |part: &Part| matches!(part.content, Content::Settled(_));
        self.0.iter().all(|part| settled(part) || !part.is_queued())
    }

    /// Whether nothing more is to be done.
    pub(super) fn all_settled(&self) -> bool {
        self.0.iter().all(|part| matches!(part.content, Content::Settled(_)))
    }

    /// Joins a part that has just been queued or changed with what lies beside it.
    pub(super) fn join_around(&mut self, index: usize) {
        self.join(index);
        if let Some(before) = index.checked_sub(1) {
            self.join(before);
        }
    }

    fn join(&mut self, index: usize) {
        let Some(next) = self.0.get(index + 1) else { return };
        let Some(content) = self.0[index].joined(next) else { return };
        let range = ByteRange::new(self.0[index].range.start(), next.range.end())
            .expect("parts lie in order");
        self.0[index] = Part { range, content, progress: Progress::Queued(Fate::Unsent) };
        drop(self.0.remove(index + 1));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}
