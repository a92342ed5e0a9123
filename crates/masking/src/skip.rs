//! Finds quickly where a pattern may begin.

/// Bytes of a gram: one 32-bit load.
const GRAM_BYTES: usize = 4;
/// Longest step between two looks. A longer one needs more grams per pattern and gains little.
const MAX_STRIDE: usize = 8;
/// Bits of the table per gram: one look in sixteen at foreign text is a false alarm at worst.
const BITS_PER_GRAM: usize = 16;
/// Smallest and largest table, in powers of two of bits: 1 KiB and 1 MiB.
const TABLE_BITS: std::ops::RangeInclusive<u32> = 13..=23;

/// A table of the short pieces ("grams") that the patterns begin with.
///
/// Every pattern has at least `stride + GRAM_BYTES - 1` bytes and its grams at the first `stride`
/// offsets are in the table. So whoever looks at every `stride`-th position of a text meets one of
/// them wherever a pattern begins.
pub(crate) struct Skip {
    stride: usize,
    shortest: usize,
    shift: u32,
    table: Vec<u64>,
}

/// Where the patterns may go on.
pub(crate) struct Candidate {
    /// No pattern begins before this position.
    pub(crate) start: usize,
    /// The position after the one that was suspicious.
    pub(crate) until: usize,
}

impl Skip {
    /// A table for `values`, none of which is shorter than [`GRAM_BYTES`].
    pub(crate) fn new(values: &[Vec<u8>]) -> Self {
        let shortest = values.iter().map(Vec::len).min().unwrap_or(GRAM_BYTES);
        let stride = (shortest + 1 - GRAM_BYTES).min(MAX_STRIDE);
        let bits = (values.len() * stride * BITS_PER_GRAM).next_power_of_two().ilog2();
        let bits = bits.clamp(*TABLE_BITS.start(), *TABLE_BITS.end());
        let mut skip =
            Self { stride, shortest, shift: u32::BITS - bits, table: vec![0; 1 << (bits - 6)] };
        for value in values {
            for gram in value.windows(GRAM_BYTES).take(stride) {
                let slot = skip.slot(gram);
                skip.table[slot / 64] |= 1 << (slot % 64);
            }
        }
        skip
    }

    /// The first place in `text`, from `from` on, where a pattern may begin or has begun.
    ///
    /// Assumes that no pattern that began before `from` is still alive.
    pub(crate) fn next(&self, text: &[u8], from: usize) -> Candidate {
        let rest = &text[from..];
        let suspicious = rest
            .windows(GRAM_BYTES)
            .step_by(self.stride)
            .position(|gram| self.contains(gram))
            .map(|step| from + step * self.stride);
        match suspicious {
            Some(at) => {
                Candidate { start: from.max((at + 1).saturating_sub(self.stride)), until: at + 1 }
            }
            // What begins in the last bytes is too short to have been met.
            None => Candidate {
                start: from.max((text.len() + 1).saturating_sub(self.shortest)),
                until: text.len(),
            },
        }
    }

    fn contains(&self, gram: &[u8]) -> bool {
        let slot = self.slot(gram);
        self.table[slot / 64] >> (slot % 64) & 1 == 1
    }

    /// Multiplicative hash (Knuth, The Art of Computer Programming 3, section 6.4).
    fn slot(&self, gram: &[u8]) -> usize {
        let gram = u32::from_le_bytes([gram[0], gram[1], gram[2], gram[3]]);
        (gram.wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Skip;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_beginning_of_a_pattern_is_jumped_over(
            values in prop::collection::vec("[a-d]{6,12}", 1..4),
            text in "[a-d]{0,40}",
            from in 0..40_usize,
        ) {
            let text = text.as_bytes();
            let from = from.min(text.len());
            let values: Vec<_> = values.into_iter().map(String::into_bytes).collect();
            let candidate = Skip::new(&values).next(text, from);
            prop_assert!(candidate.start >= from && candidate.until <= text.len());
            for start in from..candidate.start {
                let live = |value: &Vec<u8>| {
                    let rest = &text[start..];
                    value.starts_with(rest) || rest.starts_with(value)
                };
                prop_assert!(!values.iter().any(live), "{start}");
            }
        }
    }
}
