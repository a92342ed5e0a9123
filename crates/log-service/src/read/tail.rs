//! Finds where the last lines of a stream begin, from its end. Pure: the caller loads bytes.

use memchr::memrchr_iter;

use super::lines::count;

/// Where the last lines of a stream begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailStart {
    pub(crate) position: u64,
    /// Number of lines from there to the end. An unfinished last line is one.
    pub(crate) lines: u64,
}

/// A search backwards through the pieces of a stream.
#[derive(Debug)]
pub(crate) struct TailSearch {
    wanted: u64,
    /// Newlines passed so far; the newline of the last line does not count.
    passed: u64,
    begun: bool,
}

impl TailSearch {
    /// Looks for the last `wanted` lines, at least 1.
    pub(crate) const fn new(wanted: u64) -> Self {
        Self { wanted, passed: 0, begun: false }
    }

    /// Passes a piece by the number of its newlines; `false` if its bytes are needed.
    pub(crate) fn pass(&mut self, newlines: u64) -> bool {
        let passed = self.begun && self.passed + newlines < self.wanted;
        if passed {
            self.passed += newlines;
        }
        passed
    }

    /// Looks at the bytes of a piece that begins at `offset`.
    pub(crate) fn look(&mut self, offset: u64, bytes: &[u8]) -> Option<TailStart> {
        let mut searched = bytes;
        if !std::mem::replace(&mut self.begun, true) {
            searched = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        }
        let nth = usize::try_from(self.wanted - self.passed - 1).unwrap_or(usize::MAX);
        if let Some(at) = memrchr_iter(b'\n', searched).nth(nth) {
            return Some(TailStart { position: offset + at as u64 + 1, lines: self.wanted });
        }
        self.passed += count(searched);
        None
    }

    /// Number of lines in all pieces, if they were fewer than wanted.
    pub(crate) const fn lines(&self) -> u64 {
        if self.begun { self.passed + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{TailSearch, TailStart};
    use proptest::prelude::*;

    /// The search as its caller does it, with pieces of the text in any sizes.
    fn search(text: &[u8], cuts: &[usize], wanted: u64) -> TailStart {
        let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        bounds.extend([0, text.len()]);
        bounds.sort_unstable();
        bounds.dedup();
        let mut search = TailSearch::new(wanted);
        for piece in bounds.windows(2).rev() {
            let bytes = &text[piece[0]..piece[1]];
            if search.pass(super::count(bytes)) {
                continue;
            }
            if let Some(start) = search.look(piece[0] as u64, bytes) {
                return start;
            }
        }
        TailStart { position: 0, lines: search.lines() }
    }

    proptest! {
        /// The oracle cuts the whole text into lines.
        #[test]
        fn the_last_lines_are_those_of_the_whole_text(
            text in "[ab\n]{0,40}",
            cuts in prop::collection::vec(0..64_usize, 0..6),
            wanted in 1..8_u64,
        ) {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let kept = lines.len().min(usize::try_from(wanted).unwrap());
            let tail: usize = lines[lines.len() - kept..].iter().map(|line| line.len()).sum();
            let expected = TailStart { position: (text.len() - tail) as u64, lines: kept as u64 };
            prop_assert_eq!(search(text.as_bytes(), &cuts, wanted), expected);
        }
    }
}
