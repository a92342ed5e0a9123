//! The exit status is the command's.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use relay_tests::{
    process::{Finished, bare_entrypoint, entrypoint, first_process, run_under, under},
    program::{self, is_long_run},
    service::taken_port,
};

fn shell(wrapper: Command, script: &str) -> Finished {
    run_under(wrapper, ["sh", "-c", script])
}

#[test]
fn every_exit_status_comes_through() {
    for status in 0..=255 {
        let finished = shell(entrypoint(), &format!("exit {status}"));
        assert_eq!(finished.status.code(), Some(status));
    }
    let step = if is_long_run() { 1 } else { 25 };
    for status in (0..=255).rev().step_by(step) {
        let finished = shell(first_process(), &format!("exit {status}"));
        assert_eq!(finished.status.code(), Some(status));
    }
}

#[test]
fn it_dies_of_the_signal_that_killed_the_command() {
    for signal in [1, 2, 6, 9, 11, 13, 14, 15, 34, 64] {
        let finished = run_under(entrypoint(), ["bash", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(finished.status.signal(), Some(signal), "{finished:?}");
        assert!(!finished.status.core_dumped());
    }
}

/// It would be Relay's and not the command's.
#[test]
fn a_core_is_the_commands_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let allow = ["bash", "-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\""];
    let mut wrapper = under(&allow, &entrypoint());
    wrapper.current_dir(&folder);
    let finished = run_under(wrapper, ["bash", "-c", "ulimit -c 0; kill -11 $$"]);
    assert_eq!(finished.status.signal(), Some(11), "{finished:?}");
    assert!(!finished.status.core_dumped(), "{finished:?}");
}

#[test]
fn as_the_first_process_it_shows_a_signal_as_128_and_its_number() {
    for signal in [6, 9, 11, 15, 34] {
        let finished = run_under(first_process(), ["bash", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(finished.status.code(), Some(128 + signal), "{finished:?}");
    }
}

/// Connections to a service that never answers take the last descriptors.
#[test]
fn it_is_the_commands_also_when_relay_runs_out_of_descriptors() {
    let (_listener, address) = taken_port();
    for limit in 14..22 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut wrapper = Command::new("sh");
        wrapper.args(["-c", &script]).arg(bare_entrypoint().get_program());
        wrapper.args(["--log-url", &format!("http://{address}"), "--flush-max", "300ms"]);
        let finished = run_under(wrapper, ["sh", "-c", "sleep 0.1; exit 5"]);
        assert_eq!(finished.status.code(), Some(5), "{limit}: {finished:?}");
    }
}

#[test]
fn a_command_that_is_missing_is_127_and_one_sentence() {
    for wrapper in [bare_entrypoint, entrypoint, first_process] {
        for name in ["no-such-command", "/no/such/command", ""] {
            let finished = run_under(wrapper(), [name]);
            assert_eq!(finished.status.code(), Some(127), "{finished:?}");
            let sentence = format!("relay: the command {name:?} was not found\n");
            assert_eq!(finished.stderr, sentence);
            assert!(finished.stdout.is_empty());
        }
    }
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "exit 0").unwrap();
    for path in [file.as_path(), folder.path()] {
        let finished = run_under(entrypoint(), [path]);
        assert_eq!(finished.status.code(), Some(126), "{finished:?}");
        assert!(finished.stderr.contains("failed to execute the command"), "{finished:?}");
        assert!(finished.stderr.contains("ermission denied"), "{finished:?}");
    }
}

#[test]
fn a_missing_interpreter_is_named_as_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    program::write(&file, b"#!/no/such/interpreter\n", 0o755);
    let finished = run_under(entrypoint(), [&file]);
    assert_eq!(finished.status.code(), Some(127));
    assert!(finished.stderr.contains("interpreter"), "{finished:?}");
}

#[test]
fn a_file_without_a_known_format_is_run_by_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    program::write(&file, b"test \"$0 $1 $#\" = \"$EXPECTED first 2\" && exit 42\n", 0o755);
    for wrapper in [bare_entrypoint, entrypoint] {
        let mut wrapper = wrapper();
        wrapper.env("EXPECTED", &file);
        let finished = run_under(wrapper, [file.to_str().unwrap(), "first", "second"]);
        assert_eq!(finished.status.code(), Some(42), "{finished:?}");
    }
}

#[test]
fn what_may_not_be_executed_is_passed_over_on_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    fs::create_dir_all(first.join("tool")).unwrap();
    fs::create_dir(&second).unwrap();
    program::write(&second.join("tool"), b"#!/bin/sh\nexit 7\n", 0o755);
    let path = |parts: &[&std::path::Path]| std::env::join_paths(parts).unwrap();
    let mut wrapper = entrypoint();
    wrapper.env("PATH", path(&[&first, &second]));
    assert_eq!(run_under(wrapper, ["tool"]).status.code(), Some(7));
    let mut wrapper = entrypoint();
    wrapper.env("PATH", path(&[&first, "/nowhere".as_ref()]));
    assert_eq!(run_under(wrapper, ["tool"]).status.code(), Some(126));
    let mut wrapper = entrypoint();
    wrapper.env("PATH", "/nowhere:").current_dir(&second);
    assert_eq!(run_under(wrapper, ["tool"]).status.code(), Some(7));
    let mut wrapper = entrypoint();
    wrapper.env_remove("PATH");
    assert_eq!(run_under(wrapper, ["true"]).status.code(), Some(0));
}
