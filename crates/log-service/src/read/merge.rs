//! Puts the lines of several streams into one order. Pure.

use relay_protocol::time::UnixMillis;

/// Chooses the stream whose next item comes first, by the time when its line began.
///
/// `heads` are the streams that have an item, in the order that equal times fall back to. A stream
/// whose line is `unfinished` goes on if it can, so that lines stay whole. The order within a
/// stream never changes, also where its clock went back.
pub(crate) fn first(
    heads: impl Iterator<Item = (usize, UnixMillis)>,
    unfinished: Option<usize>,
) -> Option<usize> {
    let mut first: Option<(usize, UnixMillis)> = None;
    for (index, time) in heads {
        if unfinished == Some(index) {
            return unfinished;
        }
        if first.is_none_or(|(_, earliest)| time < earliest) {
            first = Some((index, time));
        }
    }
    first.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::first;
    use proptest::prelude::*;
    use relay_protocol::time::UnixMillis;

    fn choose(times: &[Option<u64>], unfinished: Option<usize>) -> Option<usize> {
        let heads = times.iter().enumerate();
        first(heads.filter_map(|(at, time)| time.map(|time| (at, UnixMillis(time)))), unfinished)
    }

    #[test]
    fn the_earliest_comes_first_and_equal_times_keep_the_order_of_the_streams() {
        assert_eq!(choose(&[Some(2), Some(1)], None), Some(1));
        assert_eq!(choose(&[Some(1), Some(1)], None), Some(0));
        assert_eq!(choose(&[None, Some(9)], None), Some(1));
        assert_eq!(choose(&[None, None], None), None);
    }

    #[test]
    fn a_line_is_finished_before_another_begins() {
        assert_eq!(choose(&[Some(1), Some(5)], Some(1)), Some(1));
        assert_eq!(choose(&[Some(1), None], Some(1)), Some(0));
    }

    proptest! {
        /// With rising times, the order is that of a stable sort.
        #[test]
        fn merged_lines_are_sorted_and_stable(
            mut streams in prop::collection::vec(prop::collection::vec(0..9_u64, 0..9), 1..4),
        ) {
            for times in &mut streams {
                times.sort_unstable();
            }
            let mut expected: Vec<(u64, usize)> = streams
                .iter()
                .enumerate()
                .flat_map(|(stream, times)| times.iter().map(move |time| (*time, stream)))
                .collect();
            expected.sort_unstable();
            let mut at = vec![0; streams.len()];
            let mut merged = Vec::new();
            loop {
                let heads: Vec<Option<u64>> =
                    streams.iter().zip(&at).map(|(times, at)| times.get(*at).copied()).collect();
                let Some(next) = choose(&heads, None) else { break };
                merged.push((heads[next].unwrap(), next));
                at[next] += 1;
            }
            prop_assert_eq!(merged, expected);
        }
    }
}
