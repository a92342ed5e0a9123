//! Cuts an NDJSON answer into its lines.

/// Longest line that can be a record: 64 KiB of output, each byte escaped as six, and the rest.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The beginning of the next line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

/// A line that no record is long enough for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the answer is longer than {MAX_LINE_BYTES} bytes")]
pub(crate) struct TooLong;

impl Lines {
    /// Hands out the lines that `chunk` completes, without their newlines. Empty ones are left out.
    pub(crate) fn push<E: From<TooLong>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.partial.is_empty() {
                if !line.is_empty() {
                    each(line)?;
                }
                continue;
            }
            self.partial.extend_from_slice(line);
            each(&std::mem::take(&mut self.partial))?;
        }
        if self.partial.len() + rest.len() > MAX_LINE_BYTES {
            return Err(TooLong.into());
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Whether the answer ended within a line.
    pub(crate) fn is_cut(&self) -> bool {
        !self.partial.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, MAX_LINE_BYTES, TooLong};
    use proptest::prelude::*;

    fn collect(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            let each = |line: &[u8]| {
                found.push(line.to_vec());
                Ok::<(), TooLong>(())
            };
            lines.push(chunk, each).unwrap();
        }
        (found, lines.is_cut())
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; MAX_LINE_BYTES], |_| Ok::<(), TooLong>(())), Ok(()));
        assert_eq!(lines.push(b"x", |_| Ok::<(), TooLong>(())), Err(TooLong));
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_answer_is_cut(text in "[a\n]{0,30}", size in 1..9_usize) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let expected = text.split_terminator('\n').map(|line| line.as_bytes().to_vec());
            let cut = !text.is_empty() && !text.ends_with('\n');
            let mut expected: Vec<_> = expected.filter(|line| !line.is_empty()).collect();
            expected.truncate(expected.len() - usize::from(cut));
            prop_assert_eq!(collect(&chunks), (expected, cut));
        }
    }
}
