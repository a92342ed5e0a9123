//! Masks one stream.

use std::{fmt, ops::Range, sync::Arc};

use crate::{
    engine::{Engine, State},
    patterns::Patterns,
};

#[cfg(test)]
mod tests;

/// What stands for a secret, however long it is.
pub const MASK: &[u8] = b"***";
/// Longest beginning of a secret that [`Masker::pause`] lets go: a prompt or a short word that
/// happens to be one must not stay invisible, and three bytes of six or more tell little.
pub const PAUSE_BYTES: usize = 3;
/// Shortest beginning of a secret that is masked where the stream ends.
pub const MASKED_PREFIX_BYTES: usize = 8;

/// Masks one stream, cut anywhere.
///
/// # Guarantees
///
/// - Every occurrence of a pattern is masked, overlapping ones too; occurrences that touch or
///   overlap become one [`MASK`]. All other bytes go out once, unchanged and in order.
/// - Without [`pause`](Self::pause) the output does not depend on how the input is cut. With it,
///   at most [`PAUSE_BYTES`] bytes of an occurrence go out before it.
/// - Only the longest end of the input that may still become a secret is held back.
pub struct Masker {
    patterns: Arc<Patterns>,
    state: Option<State>,
    /// Position in the input after the last byte seen.
    seen: u64,
    /// Position before which every byte is sent or masked.
    sent: u64,
    /// Whether a mask stands right before `sent`; one that touches it would be the same.
    after_mask: bool,
    /// Occurrences not yet written: apart from each other, rising, none ends before `sent`.
    found: Vec<Range<u64>>,
    /// The bytes from `sent` to `seen`.
    held: Vec<u8>,
}

impl Masker {
    /// A masker at the start of a stream.
    #[must_use]
    pub fn new(patterns: Arc<Patterns>) -> Self {
        let state = patterns.engine().map(Engine::start);
        Self { patterns, state, seen: 0, sent: 0, after_mask: false, found: vec![], held: vec![] }
    }

    /// Takes the next bytes and appends to `output` all that cannot become a secret any more.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let Some((engine, state)) = self.patterns.engine().zip(self.state) else {
            output.extend_from_slice(input);
            return;
        };
        let (before, found) = (self.seen, &mut self.found);
        let state = engine.scan(state, input, |end, length| {
            let end = before + end as u64;
            unite(found, end - length as u64..end);
        });
        self.seen += input.len() as u64;
        self.state = Some(state);
        self.release(self.seen - engine.live(state) as u64, input, output);
    }

    /// Call it after 100 ms without input: lets go what is held if at most [`PAUSE_BYTES`] bytes of
    /// a secret have been seen.
    ///
    /// No occurrence begins before what is held, so no more of it than that can ever go out early.
    pub fn pause(&mut self, output: &mut Vec<u8>) {
        if self.live() <= PAUSE_BYTES {
            self.release(self.seen, &[], output);
        }
    }

    /// Ends the stream: a beginning of a secret of at least [`MASKED_PREFIX_BYTES`] bytes is
    /// masked, a shorter one goes out. The masker is then as new.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        let live = self.live();
        if live >= MASKED_PREFIX_BYTES {
            unite(&mut self.found, self.seen - live as u64..self.seen);
        }
        self.release(self.seen, &[], output);
        *self = Self::new(Arc::clone(&self.patterns));
    }

    /// Number of bytes that are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is masked, so that the bytes need not pass through here at all.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.patterns.is_empty()
    }

    fn live(&self) -> usize {
        let engine = self.patterns.engine().zip(self.state);
        engine.map_or(0, |(engine, state)| engine.live(state))
    }

    /// Writes all before `until`, and the masks that begin there; `input` is what was seen after
    /// the held bytes. No occurrence that is still to come begins before `until`.
    fn release(&mut self, until: u64, input: &[u8], output: &mut Vec<u8>) {
        let text = Text { start: self.sent, held: &self.held, input };
        let ready = self.found.partition_point(|range| range.start < until);
        for range in self.found.drain(..ready) {
            if text.copy(self.sent, range.start, output) || !self.after_mask {
                output.extend_from_slice(MASK);
            }
            self.after_mask = true;
            self.sent = self.sent.max(range.end);
        }
        if text.copy(self.sent, until, output) {
            self.after_mask = false;
            self.sent = until;
        }
        self.hold(input);
    }

    /// Keeps the bytes from `sent` to `seen`.
    fn hold(&mut self, input: &[u8]) {
        let length = usize::try_from(self.seen - self.sent).expect("what is held fits in memory");
        let Some(from_held) = length.checked_sub(input.len()) else {
            self.held.clear();
            self.held.extend_from_slice(&input[input.len() - length..]);
            return;
        };
        self.held.drain(..self.held.len() - from_held);
        self.held.extend_from_slice(input);
    }
}

/// The bytes held, then those that just came.
struct Text<'a> {
    start: u64,
    held: &'a [u8],
    input: &'a [u8],
}

impl Text<'_> {
    /// Appends the bytes between two positions; whether there are any.
    fn copy(&self, from: u64, to: u64, output: &mut Vec<u8>) -> bool {
        if from >= to {
            return false;
        }
        let index =
            |position: u64| usize::try_from(position - self.start).expect("the text is in memory");
        let (from, to, split) = (index(from), index(to), self.held.len());
        output.extend_from_slice(&self.held[from.min(split)..to.min(split)]);
        output.extend_from_slice(&self.input[from.saturating_sub(split)..to.saturating_sub(split)]);
        true
    }
}

/// Adds an occurrence that ends last, joining it with those that it touches.
fn unite(found: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    while let Some(last) = found.pop_if(|last| last.end >= range.start) {
        range.start = range.start.min(last.start);
    }
    found.push(range);
}

/// Shows no byte of the stream.
impl fmt::Debug for Masker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Masker")
            .field("patterns", &self.patterns)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}
