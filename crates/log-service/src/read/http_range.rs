//! The `Range` header of a reader (RFC 9110 section 14.2).

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// From the first position to the last, which is included; without one, to the end.
    From { first: u64, last: Option<u64> },
    /// The last bytes.
    Suffix(u64),
}

/// Reads the header. `None` where the RFC lets a server ignore it: another unit, several ranges, or
/// no range at all.
pub(crate) fn parse(text: &str) -> Option<Asked> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        return Some(Asked::Suffix(position(last)?));
    }
    let first = position(first)?;
    let last = if last.is_empty() { None } else { Some(position(last)?) };
    last.is_none_or(|last| first <= last).then_some(Asked::From { first, last })
}

/// Digits only: `u64::from_str` would also take a plus sign. Larger numbers are the largest.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Asked, parse};
    use proptest::prelude::*;

    #[test]
    fn one_range_of_bytes_is_understood_and_everything_else_ignored() {
        for (text, asked) in [
            ("bytes=0-9", Some(Asked::From { first: 0, last: Some(9) })),
            ("bytes=5-", Some(Asked::From { first: 5, last: None })),
            ("Bytes=5-5", Some(Asked::From { first: 5, last: Some(5) })),
            ("bytes=-7", Some(Asked::Suffix(7))),
            ("bytes=0-99999999999999999999", Some(Asked::From { first: 0, last: Some(u64::MAX) })),
            ("bytes=9-5", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-9", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("", None),
        ] {
            assert_eq!(parse(text), asked, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[byte=0-9,-]{0,30}") {
            parse(&text);
        }
    }
}
