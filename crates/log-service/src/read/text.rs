//! Interleaved lines for people.

use relay_protocol::{range::ByteRange, read::Marker, time::UnixMillis, write::EndReason};

use super::{
    lines::{Begins, Ends, Item, Run},
    output::Output,
};

/// Whether lines begin with their capture time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timestamps {
    Shown,
    Hidden,
}

/// Writes the text.
///
/// Bytes go out as they are. A newline is added only where a line of another stream, or a remark,
/// follows an unfinished one.
#[derive(Debug)]
pub(crate) struct Text {
    timestamps: Timestamps,
    /// The stream whose line is unfinished.
    unfinished: Option<usize>,
    /// The last time that was written, and its text.
    stamp: (UnixMillis, String),
}

impl Text {
    pub(crate) fn new(timestamps: Timestamps) -> Self {
        let zero = UnixMillis(0);
        Self { timestamps, unfinished: None, stamp: (zero, stamp(zero)) }
    }

    /// Writes the next item of a stream.
    pub(crate) fn write(&mut self, stream: usize, item: &Item, output: &mut Output) {
        match item {
            Item::Lines(run) => self.write_run(stream, run, output),
            Item::Mark { range, marker } => {
                self.write_remark(&remark(*range, *marker), output);
            }
            Item::End(end) if end.reason == EndReason::Abandoned => {
                let remark = "[relay: the writer vanished, what followed is unknown]\n";
                self.write_remark(remark, output);
            }
            Item::End(_) => {}
        }
    }

    fn write_remark(&mut self, remark: &str, output: &mut Output) {
        if self.unfinished.take().is_some() {
            output.put(b"\n");
        }
        output.put(remark.as_bytes());
    }

    fn write_run(&mut self, stream: usize, run: &Run, output: &mut Output) {
        let goes_on = run.begins == Begins::Within && self.unfinished == Some(stream);
        if self.unfinished.is_some() && !goes_on {
            output.put(b"\n");
        }
        let begins = if goes_on { Begins::Within } else { Begins::Line };
        self.unfinished = (run.ends != Ends::Line).then_some(stream);
        match self.timestamps {
            Timestamps::Hidden => output.put_shared(&run.bytes),
            Timestamps::Shown => self.write_stamped(run, begins, output),
        }
    }

    fn write_stamped(&mut self, run: &Run, mut begins: Begins, output: &mut Output) {
        if self.stamp.0 != run.time {
            self.stamp = (run.time, stamp(run.time));
        }
        let mut rest = &run.bytes[..];
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(end);
            if std::mem::replace(&mut begins, Begins::Line) == Begins::Line {
                output.put(self.stamp.1.as_bytes());
            }
            output.put(line);
            rest = behind;
        }
    }
}

/// RFC 3339 in UTC with milliseconds, and a space.
fn stamp(time: UnixMillis) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.3} ")
}

/// A remark as a line of its own.
fn remark(range: ByteRange, marker: Marker) -> String {
    let what = match marker {
        Marker::Dropped => "dropped",
        Marker::Restarted => "went to an earlier log, which is gone",
        Marker::Gap => "not here yet",
        Marker::Missing => "missing",
        Marker::Conflict => "written twice, and differently",
        Marker::Corrupt => "corrupt",
        Marker::End { .. } => "before the end",
    };
    let (length, first, last) = (range.length(), range.start(), range.end().saturating_sub(1));
    format!("[relay: {length} bytes {what} ({first}-{last})]\n")
}

#[cfg(test)]
mod tests;
