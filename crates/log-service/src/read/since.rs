//! The `since` parameter: a duration as Go writes it, or a time as RFC 3339 does.

use std::time::Duration;

use relay_protocol::time::UnixMillis;

/// From when on lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// This long before the request.
    Ago(Duration),
    /// This moment.
    At(UnixMillis),
}

impl Since {
    /// The moment, for a request that came at `now`.
    pub(crate) fn moment(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::At(moment) => moment,
            Self::Ago(ago) => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                UnixMillis(now.0.saturating_sub(ago))
            }
        }
    }
}

/// Reads either form; `None` if it is neither.
pub(crate) fn parse(text: &str) -> Option<Since> {
    if let Some(duration) = parse_duration(text) {
        return Some(Since::Ago(duration));
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    // A moment before 1970 is before every line.
    Some(Since::At(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0))))
}

/// Go's `time.ParseDuration` without signs: `5s`, `1h30m`, `1.5h`, `0`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        total = total.checked_add(amount(number, nanos_of(unit)?)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

fn nanos_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` with at most one point, times `unit` nanoseconds. Exact to the nanosecond.
fn amount(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = Duration::from_nanos(whole.checked_mul(unit)?);
    let mut part = unit;
    for digit in fraction.bytes() {
        part /= 10;
        nanos = nanos.checked_add(Duration::from_nanos(u64::from(digit - b'0') * part))?;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::{Since, parse};
    use proptest::prelude::*;
    use relay_protocol::time::UnixMillis;
    use std::time::Duration;

    #[test]
    fn durations_of_go_and_times_of_rfc_3339_are_understood() {
        for (text, seconds) in [
            ("5s", 5.0),
            ("2m", 120.0),
            ("3h", 10_800.0),
            ("1h30m", 5_400.0),
            ("1.5h", 5_400.0),
            ("0", 0.0),
            ("250ms", 0.25),
            (".5s", 0.5),
            ("1m0.5s", 60.5),
        ] {
            assert_eq!(parse(text), Some(Since::Ago(Duration::from_secs_f64(seconds))), "{text}");
        }
        for (text, millis) in [
            ("1970-01-01T00:00:01Z", 1_000),
            ("1970-01-01T01:00:00.25+01:00", 250),
            ("1969-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(parse(text), Some(Since::At(UnixMillis(millis))), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "yesterday",
            "5",
            "-5s",
            "+5s",
            "s",
            "5 s",
            "1.2.3s",
            ".s",
            "5d",
            "2026-01-01",
            "99999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9.hmsnuµTZ:+-]{0,20}") {
            if let Some(since) = parse(&text) {
                since.moment(UnixMillis(5));
            }
        }
    }
}
