//! Durations as people write them: `5s`, `100ms`, `1m30s`, `0`.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write a number with ms, s, m or h, such as 100ms, 5s or 1m30s")]
pub(crate) struct DurationError(String);

/// Reads a duration: whole numbers with units, the larger units first, or a bare 0.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_parts(text).ok_or_else(|| DurationError(text.chars().take(40).collect()))
}

fn parse_parts(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while last_unit == u64::MAX || !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let unit = millis(unit).filter(|unit| *unit < last_unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(unit)?;
        total = total.checked_add(Duration::from_millis(part))?;
        (rest, last_unit) = (after, unit);
    }
    Some(total)
}

/// Milliseconds of a unit.
fn millis(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100),
            ("5s", 5_000),
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("2h1ms", 7_200_001),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "5S",
            "1s1m",
            "1s1s",
            "1sx",
            "é",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(hours in 0..99_u64, seconds in 0..99_u64, millis in 0..999_u64) {
            let text = format!("{hours}h{seconds}s{millis}ms");
            let total = hours * 3_600_000 + seconds * 1_000 + millis;
            prop_assert_eq!(parse(&text), Ok(Duration::from_millis(total)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            drop(parse(&text));
        }
    }
}
