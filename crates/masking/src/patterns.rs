//! Which texts are secrets.

use std::{collections::BTreeSet, fmt};

use crate::engine::Engine;

/// Shortest value that is masked: shorter ones occur by chance, and masking them would tell where.
pub const MIN_VALUE_BYTES: usize = 6;
/// Longest value that is masked. As many bytes may have to be held back; keys and certificates
/// have a few KiB.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Most bytes that all patterns may have together: as many as one Kubernetes Secret. The automaton
/// takes about 70 times as much memory (measured with random bytes, the worst case).
pub const MAX_TOTAL_BYTES: usize = 1 << 20;

/// The secrets to mask. Built once, shared by all streams.
pub struct Patterns {
    engine: Option<Engine>,
    count: usize,
}

/// A value that will not be masked. Says which one and why, never the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its place among the values given, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Why a value is not masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Below [`MIN_VALUE_BYTES`], not counting line ends after it.
    TooShort,
    /// Above [`MAX_VALUE_BYTES`].
    TooLong,
    /// Nothing but white space, which every log is full of.
    Blank,
    /// With it, all patterns together would have more than [`MAX_TOTAL_BYTES`].
    Full,
}

impl Patterns {
    /// Registers values, and tells which ones are not masked.
    ///
    /// Line ends after a value do not belong to it. A value of several lines is registered as a
    /// whole and, where they have at least [`MIN_VALUE_BYTES`], line by line.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>) -> (Self, Vec<Rejected>) {
        let mut patterns = BTreeSet::new();
        let mut rejected = Vec::new();
        let mut total = 0;
        for (index, value) in values.into_iter().enumerate() {
            let value = trim_line_ends(&value);
            if let Err(reason) = check(value) {
                rejected.push(Rejected { index, reason });
                continue;
            }
            let new: BTreeSet<_> =
                forms(value).filter(|form| !patterns.contains(*form)).map(<[u8]>::to_vec).collect();
            let length: usize = new.iter().map(Vec::len).sum();
            if total + length > MAX_TOTAL_BYTES {
                rejected.push(Rejected { index, reason: Reason::Full });
                continue;
            }
            total += length;
            patterns.extend(new);
        }
        let patterns: Vec<Vec<u8>> = patterns.into_iter().collect();
        let engine = (!patterns.is_empty()).then(|| Engine::new(&patterns));
        (Self { engine, count: patterns.len() }, rejected)
    }

    /// Number of different texts that are looked for; a value of several lines has several.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }
}

/// The value and its lines.
fn forms(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = value.split(|byte| *byte == b'\n').map(trim_line_ends);
    std::iter::once(value).chain(lines.filter(|line| check(line).is_ok()))
}

fn check(value: &[u8]) -> Result<(), Reason> {
    if value.len() < MIN_VALUE_BYTES {
        Err(Reason::TooShort)
    } else if value.len() > MAX_VALUE_BYTES {
        Err(Reason::TooLong)
    } else if value.trim_ascii().is_empty() {
        Err(Reason::Blank)
    } else {
        Ok(())
    }
}

fn trim_line_ends(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = value {
        value = rest;
    }
    value
}

/// Shows no value.
impl fmt::Debug for Patterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Patterns").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "value {} is not masked: {}", self.index, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(formatter, "it is shorter than {MIN_VALUE_BYTES} bytes"),
            Self::TooLong => write!(formatter, "it is longer than {MAX_VALUE_BYTES} bytes"),
            Self::Blank => formatter.write_str("it is nothing but white space"),
            Self::Full => write!(
                formatter,
                "with it the values have more than {MAX_TOTAL_BYTES} bytes together"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        MAX_TOTAL_BYTES, MAX_VALUE_BYTES, MIN_VALUE_BYTES, Patterns, Reason, Rejected, forms,
    };

    fn reasons(values: &[&[u8]]) -> Vec<(usize, Reason)> {
        let (_, rejected) = Patterns::new(values.iter().map(|value| value.to_vec()));
        rejected.into_iter().map(|Rejected { index, reason }| (index, reason)).collect()
    }

    #[test]
    fn values_that_would_mask_too_much_or_hold_too_much_are_refused_by_their_place() {
        let long = vec![b'x'; MAX_VALUE_BYTES + 1];
        let values: [&[u8]; 6] =
            [b"secret", b"short", b"short\r\n\n", &long, b"  \n  \t  \n", &long[1..]];
        let expected = [
            (1, Reason::TooShort),
            (2, Reason::TooShort),
            (3, Reason::TooLong),
            (4, Reason::Blank),
        ];
        assert_eq!(reasons(&values), expected);
    }

    #[test]
    fn all_values_together_are_bounded() {
        let fit = MAX_TOTAL_BYTES / MAX_VALUE_BYTES;
        let values = (0..=fit).map(|index| {
            let mut value = vec![b'x'; MAX_VALUE_BYTES];
            value[..4].copy_from_slice(format!("{index:04}").as_bytes());
            value
        });
        let (patterns, rejected) = Patterns::new(values);
        assert_eq!(patterns.len(), fit);
        assert_eq!(rejected, [Rejected { index: fit, reason: Reason::Full }]);
    }

    #[test]
    fn a_value_of_several_lines_is_registered_whole_and_line_by_line() {
        let value = b"-----BEGIN KEY-----\r\nshort\n\n12345678";
        let lines: Vec<&[u8]> = vec![value, b"-----BEGIN KEY-----", b"12345678"];
        assert_eq!(forms(value).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn the_same_value_counts_once() {
        let values = ["secret", "secret\n", "secret\r\n", "secret\nsecret"];
        let (patterns, rejected) = Patterns::new(values.map(|value| value.as_bytes().to_vec()));
        assert_eq!((patterns.len(), rejected), (2, vec![]));
    }

    #[test]
    fn no_value_is_ever_shown() {
        let (patterns, rejected) = Patterns::new([b"hunter2-hunter2".to_vec(), b"1x2y3".to_vec()]);
        let shown = format!("{patterns:?} {rejected:?} {}", rejected[0]);
        assert!(!shown.contains("hunter2") && !shown.contains("1x2y3"), "{shown}");
        assert!(shown.contains(&MIN_VALUE_BYTES.to_string()), "{shown}");
    }
}
