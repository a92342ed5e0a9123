//! Exact bytes.

use proptest::{prelude::*, test_runner::TestRunner};

use relay_tests::{on_every_store, store::Store};

use crate::lab::{Lab, status};

on_every_store! {
    random_bytes_come_back_equal_whole_and_by_range,
    a_range_past_the_end_is_refused_and_a_range_that_is_none_is_ignored,
    lost_bytes_are_never_left_out_silently,
}

/// Bytes that no text is made of.
fn noise(length: usize, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn random_bytes_come_back_equal_whole_and_by_range(store: &Store) {
    let lab = Lab::on(store);
    let bytes = noise(3_000_000, 7);
    let mut writer = lab.writer("p", "a", "stdout");
    bytes.chunks(700_001).for_each(|chunk| writer.write(chunk));
    writer.finish();
    assert_eq!(lab.read("p", "format=raw"), bytes);
    assert_eq!(lab.read("p", "format=raw&follow=true"), bytes);
    assert_eq!(lab.read("p", ""), bytes, "one stream as text is its bytes");
    let mut runner = TestRunner::new(ProptestConfig::with_cases(20));
    let ranges = (0..3_000_000_usize, 0..3_000_000_usize);
    runner
        .run(&ranges, |(one, other)| {
            let (first, last) = (one.min(other), one.max(other));
            let range = format!("bytes={first}-{last}");
            let answer = lab.get("p", "format=raw", &[("range", &range)]);
            prop_assert_eq!(answer.status(), 206);
            let content_range = format!("bytes {first}-{last}/3000000");
            prop_assert_eq!(answer.headers()["content-range"].to_str().unwrap(), content_range);
            prop_assert_eq!(&answer.bytes().unwrap()[..], &bytes[first..=last]);
            Ok(())
        })
        .unwrap();
}

fn a_range_past_the_end_is_refused_and_a_range_that_is_none_is_ignored(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    writer.write(b"0123456789");
    writer.finish();
    let ask = |range: &str| lab.get("p", "format=raw", &[("range", range)]);
    let refused = ask("bytes=10-");
    assert_eq!(refused.status(), 416);
    assert_eq!(refused.headers()["content-range"], "bytes */10");
    assert_eq!(status(ask("bytes=-3")), (206, "789".to_owned()));
    assert_eq!(status(ask("bytes=8-99")), (206, "89".to_owned()));
    for ignored in ["bytes=5-2", "lines=1-2", "bytes=0-1,3-4"] {
        assert_eq!(status(ask(ignored)), (200, "0123456789".to_owned()), "{ignored}");
    }
}

fn lost_bytes_are_never_left_out_silently(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    writer.write(b"before");
    writer.drop_bytes(4);
    writer.write(b"behind");
    writer.finish();
    let (code, body) = status(lab.get("p", "format=raw", &[]));
    assert_eq!(code, 409);
    assert!(body.contains("bytes 6-9 are not there"), "{body}");
    let ask = |range: &str| status(lab.get("p", "format=raw", &[("range", range)]));
    assert_eq!(ask("bytes=0-5"), (206, "before".to_owned()));
    assert_eq!(ask("bytes=10-"), (206, "behind".to_owned()));
    assert_eq!(ask("bytes=5-10").0, 409);
}
