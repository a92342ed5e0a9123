//! What a user who makes a mistake sees.

use std::process::Command;

use relay_tests::process::{Finished, NO_SERVICE, Running, bare_entrypoint};

fn run(arguments: &[&str]) -> Finished {
    Running::start(bare_entrypoint().args(arguments)).finish()
}

fn refused(arguments: &[&str]) -> String {
    let finished = run(arguments);
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stdout.is_empty(), "{finished:?}");
    assert!(finished.stderr.starts_with("relay: "), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    finished.stderr
}

#[test]
fn mistakes_are_told_in_one_sentence_with_status_125() {
    assert!(refused(&[]).contains("there is no command to run"));
    assert!(refused(&["--"]).contains("there is no command to run"));
    assert!(refused(&["--tea", "true"]).contains("--tea"));
    assert!(refused(&["--log-url", "http://example.com", "true"]).contains("in the clear"));
    assert!(refused(&["--log-url", NO_SERVICE, "--block-max", "5", "true"]).contains("\"5\""));
    assert!(refused(&["--log-url", NO_SERVICE, "--flush-max", "1h", "true"]).contains("30 s"));
    assert!(refused(&["--log-url", "https://localhost", "true"]).contains("--ca-file"));
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: entrypoint"));
    let version = run(&["--version"]);
    assert!(version.stdout.starts_with(b"entrypoint "));
}

#[test]
fn options_after_the_command_are_the_commands() {
    let finished = run(&["echo", "--help", "--", "-x"]);
    assert_eq!(finished.stdout, b"--help -- -x\n");
}

#[test]
fn without_a_log_service_it_is_the_command_and_says_nothing() {
    let script = "echo out; echo err >&2; readlink /proc/$$/exe; exit 3";
    let alone = Running::start(Command::new("sh").args(["-c", script])).finish();
    let finished = run(&["--", "sh", "-c", script]);
    assert_eq!(finished.status, alone.status);
    assert_eq!(finished.stdout, alone.stdout);
    assert_eq!(finished.stderr, "err\n");
    let mut started = Running::start(bare_entrypoint().args(["--", "sleep", "1000"]));
    let name = format!("/proc/{}/comm", started.pid());
    relay_tests::wait::eventually(std::time::Duration::from_secs(30), "sleep", || {
        std::fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")
    });
    assert!(started.is_running());
    started.send(9);
    drop(started.finish());
}
