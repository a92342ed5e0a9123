use std::{ops::Range, sync::Arc};

use super::{MASKED_PREFIX_BYTES, Masker, PAUSE_BYTES};
use crate::patterns::Patterns;
use proptest::prelude::*;

/// One thing that happens to a stream.
#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>),
    Pause,
}

fn masker(values: &[Vec<u8>]) -> Masker {
    let (patterns, rejected) = Patterns::new(values.to_vec());
    assert!(rejected.is_empty(), "{rejected:?}");
    Masker::new(Arc::new(patterns))
}

fn run(values: &[Vec<u8>], steps: &[Step]) -> Vec<u8> {
    let mut masker = masker(values);
    let mut output = Vec::new();
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Push(bytes) => {
                masker.push(bytes, &mut output);
                seen.extend_from_slice(bytes);
            }
            Step::Pause => masker.pause(&mut output),
        }
        assert!(masker.held() <= live(values, &seen), "more is held than is alive");
    }
    masker.finish(&mut output);
    output
}

/// Where the values occur in a text, found the slow way.
fn occurrences(values: &[Vec<u8>], text: &[u8]) -> Vec<Range<usize>> {
    (0..text.len())
        .flat_map(|start| values.iter().map(move |value| (start, value)))
        .filter(|(start, value)| text[*start..].starts_with(value))
        .map(|(start, value)| start..start + value.len())
        .collect()
}

/// Length of the longest end of a text that a value begins with and goes on from.
fn live(values: &[Vec<u8>], text: &[u8]) -> usize {
    let live = |start: usize| {
        let end = &text[start..];
        values.iter().any(|value| value.len() > end.len() && value.starts_with(end))
    };
    (0..text.len()).find(|start| live(*start)).map_or(0, |start| text.len() - start)
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Shown,
    Hidden,
    Early,
}

/// What becomes of every byte: the rules of the masker, applied to the whole text.
fn fates(values: &[Vec<u8>], steps: &[Step]) -> (Vec<u8>, Vec<Fate>) {
    let (mut text, mut early) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Push(bytes) => text.extend_from_slice(bytes),
            Step::Pause => {
                let alive = live(values, &text);
                let hidden = occurrences(values, &text);
                early.extend((text.len() - alive..text.len()).filter(|at| {
                    alive <= PAUSE_BYTES && !hidden.iter().any(|range| range.contains(at))
                }));
            }
        }
    }
    let mut hidden = occurrences(values, &text);
    for range in &hidden {
        let leaked = early.iter().collect::<std::collections::BTreeSet<_>>();
        let leaked = leaked.into_iter().filter(|at| range.contains(at)).count();
        assert!(leaked <= PAUSE_BYTES, "{leaked} bytes of an occurrence went out early");
    }
    let alive = live(values, &text);
    if alive >= MASKED_PREFIX_BYTES {
        hidden.push(text.len() - alive..text.len());
    }
    let fate = |at: usize| match hidden.iter().any(|range| range.contains(&at)) {
        true if early.contains(&at) => Fate::Early,
        true => Fate::Hidden,
        false => Fate::Shown,
    };
    let fates = (0..text.len()).map(fate).collect();
    (text, fates)
}

/// Ranges that touch are one: a mask stands where hidden bytes begin.
fn expected(values: &[Vec<u8>], steps: &[Step]) -> Vec<u8> {
    let (text, fates) = fates(values, steps);
    let mut output = Vec::new();
    for (at, fate) in fates.iter().enumerate() {
        if *fate != Fate::Hidden {
            output.push(text[at]);
        } else if at == 0 || fates[at - 1] != Fate::Hidden {
            output.extend_from_slice(b"***");
        }
    }
    output
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// All ways to cut a text in three.
fn cuts(text: &str) -> impl Iterator<Item = Vec<Step>> {
    let text = text.as_bytes();
    (0..=text.len()).flat_map(move |first| {
        (first..=text.len()).map(move |second| {
            let parts = [&text[..first], &text[first..second], &text[second..]];
            parts.map(|part| Step::Push(part.to_vec())).to_vec()
        })
    })
}

#[test]
fn inputs_that_broke_other_maskers_are_masked_at_every_cut() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["aabaac-secret"], "x aabaabaac-secret y", "x aab*** y"),
        (&["sssecret"], "ssssecret", "s***"),
        (&["tok-tok-SECRET1"], "x tok-tok-tok-SECRET1 y", "x tok-*** y"),
        (&["aaaaab"], "xaaaaaaaby", "xaa***y"),
        (&["abcdefgh", "fghijklm"], "abcdefghijklm", "***"),
        (&["abcdef", "defghi"], "abcdefghi", "***"),
        (&["hunter2222"], "pw=hunter2222", "pw=***"),
        // Ranges that touch, a value within another that does and does not come, a value again.
        (&["abcdef", "ghijkl"], "abcdefghijkl.abcdef", "***.***"),
        (&["0abcdef999", "abcdef"], "0abcdef990abcdef999", "0***99***"),
        (&["secret"], "secretsecret secret", "*** ***"),
        // The end: eight bytes of a secret are masked, seven are not.
        (&["0123456789"], "x01234567", "x***"),
        (&["0123456789"], "x0123456", "x0123456"),
        // Lines of a value.
        (&["line-1\nab\nline-3\n"], "line-3\nline-1\nab\nline-3\n", "***\n***\n"),
    ];
    for (values, text, masked) in cases {
        for steps in cuts(text) {
            let output = run(&bytes(values), &steps);
            assert_eq!(String::from_utf8_lossy(&output), *masked, "{steps:?}");
        }
    }
}

#[test]
fn only_what_may_become_a_secret_is_held_back() {
    let mut masker = masker(&bytes(&["password-1"]));
    let mut output = Vec::new();
    masker.push(b"ordinary line\npass", &mut output);
    assert_eq!((output.as_slice(), masker.held()), (b"ordinary line\n".as_slice(), 4));
    masker.push(b"ed\n", &mut output);
    assert_eq!((output.as_slice(), masker.held()), (b"ordinary line\npassed\n".as_slice(), 0));
}

#[test]
fn a_pause_shows_three_bytes_and_keeps_four() {
    let mut masker = masker(&bytes(&["pass-word"]));
    let mut output = Vec::new();
    masker.push(b"pas", &mut output);
    masker.pause(&mut output);
    assert_eq!((output.as_slice(), masker.held()), (b"pas".as_slice(), 0));
    masker.push(b"s", &mut output);
    masker.pause(&mut output);
    assert_eq!((output.as_slice(), masker.held()), (b"pas".as_slice(), 1));
    masker.push(b"-word!", &mut output);
    assert_eq!(output, b"pas***!");
}

#[test]
fn without_values_everything_passes_at_once() {
    let mut masker = masker(&[]);
    let mut output = Vec::new();
    masker.push(b"any\0thing", &mut output);
    masker.pause(&mut output);
    assert_eq!((output.as_slice(), masker.held()), (b"any\0thing".as_slice(), 0));
    assert!(masker.is_transparent());
}

#[test]
fn many_values_are_masked_like_few() {
    let values: Vec<_> = (0..500).map(|n| format!("secret-{n:04}-value").into_bytes()).collect();
    let text: Vec<u8> =
        values.iter().flat_map(|value| [b"id=", value.as_slice(), b"\n"].concat()).collect();
    for size in [1, 7, 4096] {
        let (mut masker, mut output) = (masker(&values), Vec::new());
        text.chunks(size).for_each(|chunk| masker.push(chunk, &mut output));
        masker.finish(&mut output);
        assert_eq!(output, b"id=***\n".repeat(values.len()));
    }
}

#[test]
fn no_byte_of_a_stream_is_shown() {
    let mut masker = masker(&bytes(&["pass-word"]));
    masker.push(b"pass-wor", &mut Vec::new());
    assert!(!format!("{masker:?}").contains("pass"));
}

/// Values over two letters, so that they overlap each other and themselves.
fn values() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let value = prop_oneof![3 => "[ab]{6,12}", 1 => "(ab){3,6}", 1 => "a{5,9}b"];
    prop::collection::vec(value.prop_map(String::into_bytes), 1..4)
}

/// A text with many values and beginnings of values in it, cut anywhere, with pauses.
fn streams() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<Step>)> {
    values().prop_flat_map(|values| {
        let known = prop::sample::select(values.clone());
        let part = prop_oneof![
            known.clone(),
            (known, 0..12_usize).prop_map(|(value, end)| value[..end.min(value.len())].to_vec()),
            "[abc]{0,6}".prop_map(String::into_bytes),
        ];
        let text = prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat());
        let cuts = prop::collection::vec((1..9_usize, any::<bool>()), 0..20);
        (Just(values), text, cuts).prop_map(|(values, text, cuts)| (values, steps(&text, &cuts)))
    })
}

fn steps(mut text: &[u8], cuts: &[(usize, bool)]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (length, pause) in cuts {
        let (now, later) = text.split_at((*length).min(text.len()));
        steps.push(Step::Push(now.to_vec()));
        steps.extend(pause.then_some(Step::Pause));
        text = later;
    }
    steps.push(Step::Push(text.to_vec()));
    steps
}

proptest! {
    #[test]
    fn every_stream_is_masked_as_if_it_were_whole((values, steps) in streams()) {
        let steps: Vec<_> =
            steps.into_iter().filter(|step| matches!(step, Step::Push(_))).collect();
        prop_assert_eq!(run(&values, &steps), expected(&values, &steps));
    }

    #[test]
    fn with_pauses_at_most_three_bytes_of_an_occurrence_go_out_early((values, steps) in streams()) {
        prop_assert_eq!(run(&values, &steps), expected(&values, &steps));
    }
}
