//! How soon a reader sees what a program prints. Alone in its binary, so that no other test runs beside it.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use relay_tests::lab::Lab;

/// From the printing of a line by the program to its arrival in the reader's pipe.
const PROMISED: Duration = Duration::from_millis(500);

#[test]
fn each_line_reaches_a_follower_within_half_a_second() {
    let lab = Lab::new();
    let mut reader =
        lab.relay().args(["logs", "-f", "clock"]).stdout(Stdio::piped()).spawn().unwrap();
    // Every line is the time at which it was printed, in nanoseconds.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do date +%s%N; sleep 0.17; done";
    let mut program = lab.entrypoint("clock").args(["--", "sh", "-c", script]).spawn().unwrap();
    let mut delays: Vec<Duration> = BufReader::new(reader.stdout.take().unwrap())
        .lines()
        .map(|line| {
            let printed = Duration::from_nanos(line.unwrap().parse().unwrap());
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(printed)
        })
        .collect();
    assert!(program.wait().unwrap().success());
    assert!(reader.wait().unwrap().success(), "a follower ends with its log");
    assert_eq!(delays.len(), 12);
    delays.sort();
    assert!(delays[11] < PROMISED, "{delays:?}");
}
