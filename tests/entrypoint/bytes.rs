//! What a command writes is what the log service has, byte for byte.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use relay_protocol::write::EndReason;
use relay_tests::{
    process::{Running, as_first_process, run_under},
    program::is_long_run,
};

use crate::lab::{Lab, numbers};

/// Bytes without structure, the same in every run.
fn noise(length: u64, filter: &str) -> String {
    format!(
        "openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | {filter} | head -c {length}"
    )
}

/// Compares a stream with what `script` prints, without holding either.
fn assert_same(lab: &Lab, stream: &str, script: &str) {
    let mut expected = Command::new("bash")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash can be started");
    let mut logged = lab.read(stream);
    let from = expected.stdout.as_mut().unwrap();
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut offset = 0;
    loop {
        let count = from.read(&mut left).unwrap();
        if count == 0 {
            assert_eq!(logged.read(&mut right).unwrap(), 0, "the log is longer than {offset}");
            break;
        }
        logged.read_exact(&mut right[..count]).expect("the log is as long");
        assert!(left[..count] == right[..count], "the log differs after byte {offset}");
        offset += count;
    }
    expected.wait().unwrap();
}

/// Also of relay-core, which lost all after a line of 70 kB and hung at one of 200 kB.
#[test]
fn a_line_that_never_ends_is_kept() {
    let length = if is_long_run() { 1 << 30 } else { 64 << 20 };
    let lab = Lab::new();
    let script = noise(length, "tr -d '\\n'");
    let finished = Running::start(lab.entrypoint().args(["--", "bash", "-c", &script])).finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_same(&lab, "stdout", &script);
    lab.account("stdout").assert_whole(EndReason::Eof);
}

#[test]
fn any_bytes_on_both_streams_are_kept_also_for_the_first_process() {
    let lab = Lab::new();
    let (out, err) = (noise(5_000_001, "cat"), noise(3_000_017, "tail -c +12346"));
    let script = format!("{{ {out}; }} & {{ {err}; }} >&2 & wait");
    let finished = run_under(as_first_process(&lab.entrypoint()), ["bash", "-c", &script]);
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_same(&lab, "stdout", &out);
    assert_same(&lab, "stderr", &err);
}

/// Of relay-core, which made newlines of them and added one.
#[test]
fn carriage_returns_nulls_and_a_missing_last_newline_stay() {
    let lab = Lab::new();
    let script = "printf 'crlf\\r\\n\\0\\xff\\xfe\\n\\n nonl'; printf '\\r\\r\\n\\x1b[0m' >&2";
    let finished = Running::start(lab.entrypoint().args(["--", "bash", "-c", script])).finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(lab.bytes("stdout"), b"crlf\r\n\0\xff\xfe\n\n nonl");
    assert_eq!(lab.bytes("stderr"), b"\r\r\n\x1b[0m");
}

/// A program may die with its last words in the pipe, and write them in small pieces.
#[test]
fn the_last_words_of_a_command_that_is_killed_are_kept() {
    let lab = Lab::new();
    let script = "for i in {1..2000}; do echo $i; done; printf last; kill -9 $$";
    let finished = Running::start(lab.entrypoint().args(["--", "bash", "-c", script])).finish();
    assert_eq!(finished.shell_status(), 137);
    assert!(lab.bytes("stdout") == [numbers(1..=2_000), b"last".to_vec()].concat());
    lab.account("stdout").assert_whole(EndReason::Killed);
}
