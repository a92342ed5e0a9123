//! Capture times of bytes: the `Relay-Times` header.

use std::fmt;

use crate::{limit::MAX_TIMES, range::position};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// When the bytes of a range were captured.
///
/// An entry holds from its offset to the next entry's. Offsets are absolute in the stream and
/// rise; times are as the writer's clock gave them and need not. At most `MOST` entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeIndex<const MOST: usize> {
    entries: Vec<(u64, UnixMillis)>,
}

/// The times of one request: `offset=unix_ms,…` in the header.
pub type CaptureTimes = TimeIndex<MAX_TIMES>;

/// A text that is not a list of capture times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Relay-Times is not a list of at most {MAX_TIMES} OFFSET=UNIX_MS with rising offsets")]
pub struct TimesError;

impl TimeIndex<MAX_TIMES> {
    /// Reads a header; an empty one has no entries.
    ///
    /// # Errors
    ///
    /// [`TimesError`] when it is malformed, too long or not in order.
    pub fn parse(text: &str) -> Result<Self, TimesError> {
        let mut times = Self::default();
        for entry in text.split(',').filter(|_| !text.is_empty()) {
            let (offset, millis) = entry.trim().split_once('=').ok_or(TimesError)?;
            let offset = position(offset).ok_or(TimesError)?;
            let millis = position(millis).ok_or(TimesError)?;
            if times.is_full() || times.entries.last().is_some_and(|last| last.0 >= offset) {
                return Err(TimesError);
            }
            times.entries.push((offset, UnixMillis(millis)));
        }
        Ok(times)
    }
}

impl<const MOST: usize> TimeIndex<MOST> {
    /// Notes that the bytes from `offset` on were captured at `time`.
    ///
    /// A repeated time adds nothing. Once `MOST` entries exist, later bytes keep the last.
    pub fn note(&mut self, offset: u64, time: UnixMillis) {
        let repeated = self.entries.last().is_some_and(|last| last.1 == time || last.0 >= offset);
        if !repeated && !self.is_full() {
            self.entries.push((offset, time));
        }
    }

    /// Adds the times of the bytes from `start` to `end`, which lie after all noted before.
    pub fn extend<const OTHER: usize>(&mut self, times: &TimeIndex<OTHER>, start: u64, end: u64) {
        if let Some(time) = times.at(start) {
            self.note(start, time);
        }
        for &(offset, time) in &times.entries {
            if offset > start && offset < end {
                self.note(offset, time);
            }
        }
    }

    /// Time of the byte at `offset`; `None` before the first entry.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<UnixMillis> {
        let after = self.entries.partition_point(|entry| entry.0 <= offset);
        after.checked_sub(1).map(|index| self.entries[index].1)
    }

    /// The entries, by rising offset.
    #[must_use]
    pub fn entries(&self) -> &[(u64, UnixMillis)] {
        &self.entries
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether no further entry fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MOST
    }
}

/// The header.
impl fmt::Display for CaptureTimes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (offset, UnixMillis(millis))) in self.entries.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{offset}={millis}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{CaptureTimes, TimesError, UnixMillis};
    use crate::limit::MAX_TIMES;
    use proptest::prelude::*;

    #[test]
    fn a_byte_has_the_time_of_the_entry_before_it() {
        let times = CaptureTimes::parse("5=100,9=200").unwrap();
        assert_eq!(times.at(4), None);
        assert_eq!(times.at(5), Some(UnixMillis(100)));
        assert_eq!(times.at(8), Some(UnixMillis(100)));
        assert_eq!(times.at(9_999), Some(UnixMillis(200)));
        assert_eq!(times.to_string(), "5=100,9=200");
    }

    #[test]
    fn wrong_times_are_refused() {
        let long = (0..=MAX_TIMES).map(|at| format!("{at}=1")).collect::<Vec<_>>().join(",");
        for text in ["x", "5", "5=", "=5", "5=1,5=2", "5=1,4=2", "5=1,", "-1=2", long.as_str()] {
            assert_eq!(CaptureTimes::parse(text), Err(TimesError), "{text}");
        }
        assert!(CaptureTimes::parse("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn noted_times_survive_the_header(steps in prop::collection::vec((1..9_u64, 0..3_u64), 0..100)) {
            let mut times = CaptureTimes::default();
            let mut offset = 0;
            for (length, time) in steps {
                times.note(offset, UnixMillis(time));
                offset += length;
            }
            prop_assert_eq!(CaptureTimes::parse(&times.to_string()), Ok(times));
        }
    }
}
