//! Reading what other processes of the service stored in the same place.

use super::lab::{Lab, take};

#[test]
fn a_follower_gets_what_another_process_stores() {
    let here = Lab::new();
    let there = here.replica();
    let mut answer = here.get("p", "follow=true", &[]);
    let mut writer = there.writer("p", "a", "stdout");
    for line in [&b"one\n"[..], b"two\n", b"three\n"] {
        writer.write(line);
        assert_eq!(take(&mut answer, line.len()), line);
    }
    writer.end();
    assert_eq!(answer.text().unwrap(), "");
}

#[test]
fn of_two_versions_the_one_that_begins_first_is_shown_and_the_conflict_is_told() {
    let mut here = Lab::new();
    let there = here.replica();
    let (one, other) = (here.writer("p", "a", "stdout"), there.writer("p", "a", "stdout"));
    other.put(9, b"!\n", "");
    one.put(0, b"abcdef", "");
    other.put(3, b"XYZghi", "");
    drop(there);
    here.restart();
    let text = String::from_utf8(here.read("p", "")).unwrap();
    let expected = "abcdef\n[relay: 3 bytes written twice, and differently (3-5)]\nghi!\n";
    assert_eq!(text, expected);
}
