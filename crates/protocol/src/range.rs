//! Ranges of bytes in a stream, and their form in the `Content-Range` header.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Half-open range of bytes `[start, end)` of a stream.
///
/// Offsets count bytes after masking and before compression, from 0. On the wire, where the last
/// position is inclusive, it is `bytes a-b/*`; an empty range has no form there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteRange {
    start: u64,
    end: u64,
}

/// A text that is not a range of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not of the form at all.
    #[error("{0:?} is not a range: write \"bytes FIRST-LAST/*\", both positions inclusive")]
    Malformed(String),
    /// The last position lies before the first, or the range ends past 2^64 − 1.
    #[error("the range {0:?} ends before it begins or past the largest offset")]
    Backwards(String),
}

impl ByteRange {
    /// The range `[start, end)`; `None` if it ends before it begins.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start <= end { Some(Self { start, end }) } else { None }
    }

    /// `length` bytes from `start`; `None` past the largest offset.
    #[must_use]
    pub const fn from_length(start: u64, length: usize) -> Option<Self> {
        match start.checked_add(length as u64) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// First position.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Position after the last.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Number of bytes.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether all bytes of `other` lie in this range.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The bytes that both have; `None` if there are none.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }

    /// Value of the `Content-Range` header; `None` for an empty range.
    #[must_use]
    pub fn content_range(self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }
}

/// The wire form. An empty range shows as its half-open bounds, which no parser accepts.
impl fmt::Display for ByteRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(formatter, "[{}, {})", self.start, self.end);
        }
        write!(formatter, "bytes {}-{}/*", self.start, self.end - 1)
    }
}

impl FromStr for ByteRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let malformed = || RangeError::Malformed(text.to_owned());
        let positions = text
            .strip_prefix("bytes ")
            .and_then(|rest| rest.strip_suffix("/*"))
            .ok_or_else(malformed)?;
        let (first, last) = positions.split_once('-').ok_or_else(malformed)?;
        let first = position(first).ok_or_else(malformed)?;
        let last = position(last).ok_or_else(malformed)?;
        last.checked_add(1)
            .filter(|end| first < *end)
            .map(|end| Self { start: first, end })
            .ok_or_else(|| RangeError::Backwards(text.to_owned()))
    }
}

/// Digits only: `u64::from_str` would also take a plus sign.
pub(crate) fn position(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ByteRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = "as in Content-Range, the last byte included";
        schemars::json_schema!({
            "type": "string", "pattern": "^bytes [0-9]+-[0-9]+/\\*$", "description": form,
        })
    }
}

impl TryFrom<String> for ByteRange {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

impl From<ByteRange> for String {
    fn from(range: ByteRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, RangeError};
    use proptest::prelude::*;

    #[test]
    fn last_position_is_inclusive_on_the_wire() {
        let range = ByteRange::new(5, 9).unwrap();
        assert_eq!(range.content_range().as_deref(), Some("bytes 5-8/*"));
        assert_eq!("bytes 5-8/*".parse(), Ok(range));
        assert_eq!(ByteRange::new(5, 5).unwrap().content_range(), None);
    }

    #[test]
    fn wrong_ranges_are_refused_with_what_is_wrong() {
        for text in [
            "",
            "bytes",
            "bytes 1-2",
            "bytes 1-2/3",
            "bytes +1-2/*",
            "bytes -1/*",
            "Bytes 1-2/*",
            "bytes 1- 2/*",
            "bytes 99999999999999999999-2/*",
        ] {
            assert_eq!(text.parse::<ByteRange>(), Err(RangeError::Malformed(text.to_owned())));
        }
        for text in ["bytes 2-1/*", "bytes 0-18446744073709551615/*"] {
            assert_eq!(text.parse::<ByteRange>(), Err(RangeError::Backwards(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn every_range_survives_the_wire(start in 0..u64::MAX - 9, length in 1..9_u64) {
            let range = ByteRange::new(start, start + length).unwrap();
            prop_assert_eq!(range.to_string().parse::<ByteRange>(), Ok(range));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            drop(text.parse::<ByteRange>());
        }
    }
}
