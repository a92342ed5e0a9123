//! Which representation a reader gets.

use relay_protocol::header::{EVENT_STREAM, NDJSON, OCTET_STREAM, TEXT};

/// A representation of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Interleaved lines.
    Text,
    /// Exact bytes of one stream.
    Raw,
    /// One record per line.
    Ndjson,
    /// One record per server-sent event.
    Events,
}

impl Format {
    /// By preference, for a reader who does not care.
    const ALL: [Self; 4] = [Self::Text, Self::Ndjson, Self::Events, Self::Raw];

    /// The format of a `format` parameter.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Self::Text,
            "raw" => Self::Raw,
            "ndjson" => Self::Ndjson,
            "sse" => Self::Events,
            _ => return None,
        })
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Text => TEXT,
            Self::Raw => OCTET_STREAM,
            Self::Ndjson => NDJSON,
            Self::Events => EVENT_STREAM,
        }
    }
}

/// Chooses by an `Accept` header (RFC 9110 section 12.5.1); `None` if nothing fits.
///
/// The most specific range that matches a type gives its weight. Of equal weights, what the header
/// names first wins.
pub(crate) fn negotiate(accept: &str) -> Option<Format> {
    if accept.trim().is_empty() {
        return Some(Format::Text);
    }
    let ranges: Vec<(&str, u16)> = accept.split(',').filter_map(range).collect();
    let weighted = Format::ALL.into_iter().filter_map(|format| {
        let matching = ranges.iter().enumerate().filter_map(|(index, (range, weight))| {
            Some((specificity(range, format.media_type())?, index, *weight))
        });
        let (_, index, weight) =
            matching.max_by_key(|(rank, index, _)| (*rank, usize::MAX - index))?;
        (weight > 0).then_some((format, index, weight))
    });
    // The first of equals stays: `Format::ALL` is by preference.
    weighted
        .reduce(|best, next| {
            let better = next.2 > best.2 || (next.2 == best.2 && next.1 < best.1);
            if better { next } else { best }
        })
        .map(|(format, ..)| format)
}

/// A media range and its weight in thousandths; `None` if it is malformed.
fn range(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| range.contains('/'))?;
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    Some((range, quality.map_or(Some(1_000), thousandths)?))
}

fn thousandths(quality: &str) -> Option<u16> {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1_000),
        _ => None,
    }
}

/// 2 for the type itself, 1 for `type/*`, 0 for `*/*`.
fn specificity(range: &str, media_type: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(media_type) {
        return Some(2);
    }
    if range == "*/*" {
        return Some(0);
    }
    let family = range.strip_suffix("/*")?;
    media_type.split_once('/').filter(|(kind, _)| kind.eq_ignore_ascii_case(family)).map(|_| 1)
}

#[cfg(test)]
mod tests {
    use super::{Format, negotiate};
    use proptest::prelude::*;

    #[test]
    fn the_header_chooses_the_representation() {
        for (accept, format) in [
            ("", Some(Format::Text)),
            ("*/*", Some(Format::Text)),
            ("text/*", Some(Format::Text)),
            ("application/*", Some(Format::Ndjson)),
            ("text/event-stream", Some(Format::Events)),
            ("application/octet-stream", Some(Format::Raw)),
            ("APPLICATION/X-NDJSON", Some(Format::Ndjson)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(Format::Text)),
            ("application/x-ndjson, text/plain", Some(Format::Ndjson)),
            ("application/x-ndjson;q=0.5, text/plain;q=0.9", Some(Format::Text)),
            ("text/plain;q=0, */*", Some(Format::Ndjson)),
            ("text/plain;q=0", None),
            ("application/json", None),
            ("nonsense", None),
            ("text/plain;q=2", None),
        ] {
            assert_eq!(negotiate(accept), format, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(accept in "[a-z/*;,q=0-9. ]{0,40}") {
            negotiate(&accept);
        }
    }
}
