//! Nobody listens where the log should go.

use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use relay_tests::program::program;

/// A port of loopback that nothing listens on.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn the_command_runs_keeps_its_status_and_ends_at_most_five_seconds_later() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("proof");
    let begun = SystemTime::now();
    let output = Command::new(program("entrypoint"))
        .args(["--log-url", NOWHERE, "--", "sh", "-c"])
        .arg(format!("echo kept from the node; date +%s%N > {}; exit 42", proof.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let took = begun.elapsed().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert!(took < Duration::from_millis(5_500), "{took:?}");
    let ran: u128 = std::fs::read_to_string(&proof).unwrap().trim().parse().unwrap();
    let started = ran - begun.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    assert!(started < Duration::from_millis(300).as_nanos(), "the command ran after {started} ns");
    assert_eq!(output.stdout, b"");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("relay logs"), "{told}");
}

#[test]
fn a_service_that_comes_later_gets_everything() {
    let mut lab = relay_tests::lab::Lab::new();
    lab.service.kill_9();
    let script = "for i in $(seq 1000); do echo line $i; done; sleep 2; echo last";
    let mut program = lab.entrypoint("early").args(["--", "sh", "-c", script]).spawn().unwrap();
    lab.service.restart();
    assert!(program.wait().unwrap().success());
    let logged = String::from_utf8(lab.logs(&["early"])).unwrap();
    let expected: Vec<String> = (1..=1000).map(|number| format!("line {number}")).collect();
    let lines: Vec<&str> = logged.lines().collect();
    assert_eq!(lines[..lines.len() - 1], expected);
    assert_eq!(lines.last(), Some(&"last"));
}
