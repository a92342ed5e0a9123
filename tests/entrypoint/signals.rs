//! Signals reach the command as if Relay were not there.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::Duration,
};

use relay_tests::{
    process::{NO_SERVICE, Notes, Running, entrypoint, first_process, under},
    program::program,
};

/// Faults and the stops of a terminal act on Relay itself; 9, 19 and 17 cannot go on.
const NOT_SENT_ON: [i32; 13] = [4, 5, 6, 7, 8, 9, 11, 17, 19, 20, 21, 22, 31];

/// The signal that ends the listener.
const LAST: i32 = 30;

/// Runs `bash` so that it does not outlive its parent, whatever becomes of the test.
const MORTAL_BASH: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "bash"];

/// What a shell waits for. It is begun before any trap is set, and by now it is the sleep: a shell
/// that has only just forked can still die of the signal that its parent traps.
const SLEEP: &str = "setpriv --pdeathsig KILL sleep 60 & \
     until read -r name < /proc/$!/comm; [ x$name = xsleep ]; do :; done";

/// Keeps a shell waiting until its [`SLEEP`] ends, so that it never spins.
const WAIT: &str = "while kill -0 $! 2>/dev/null; do wait; done";

/// Notes every signal that a shell can trap, and goes on until [`LAST`].
fn listener(notes: &Notes) -> String {
    let path = notes.path();
    format!(
        "{SLEEP}; for s in {{1..64}}; do trap \"echo got $s. >> {path}\" $s 2>/dev/null; done; \
         trap \"echo got {LAST}. >> {path}; kill \\$!; exit 0\" {LAST}; \
         echo ready $$. >> {path}; {WAIT}",
        path = path.display()
    )
}

fn listen_under(wrapper: &mut Command, notes: &Notes) -> Running {
    let command = wrapper.arg("--").args(MORTAL_BASH).args(["-c", &listener(notes)]);
    let running = Running::start(command);
    notes.wait_for("ready");
    running
}

/// 32 and 33 belong to the C library: no shell traps them, and glibc leaves them ignored in what it
/// spawns, such as this.
fn sent_on() -> impl Iterator<Item = i32> {
    (1..=64).filter(|n| !NOT_SENT_ON.contains(n) && ![LAST, 32, 33].contains(n))
}

#[test]
fn every_signal_is_sent_on_once() {
    let notes = Notes::new();
    let running = listen_under(&mut entrypoint(), &notes);
    for signal in sent_on() {
        running.send(signal);
        notes.wait_for(&format!("got {signal}."));
    }
    for signal in sent_on() {
        assert_eq!(notes.text().matches(&format!("got {signal}.")).count(), 1, "{signal}");
    }
    running.send(LAST);
    assert_eq!(running.finish().shell_status(), 0);
}

#[test]
fn the_first_process_sends_signals_on_as_well() {
    let notes = Notes::new();
    let running = listen_under(&mut first_process(), &notes);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid()));
    let first: u32 = children.unwrap().trim().parse().unwrap();
    for signal in sent_on().chain([LAST]) {
        let script = format!("kill -{signal} {first}");
        assert!(Command::new("bash").args(["-c", &script]).status().unwrap().success());
        notes.wait_for(&format!("got {signal}."));
    }
    assert_eq!(running.finish().shell_status(), 0);
}

#[test]
fn a_signal_that_comes_before_the_command_does_is_not_lost() {
    for _ in 0..30 {
        let mut running = Running::start(entrypoint().args(["--", "sleep", "1000"]));
        let status = format!("/proc/{}/status", running.pid());
        relay_tests::wait::eventually(Duration::from_secs(30), "signals wait", || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            text.lines().any(|line| line.starts_with("SigBlk:") && !line.ends_with("0000"))
        });
        assert!(running.is_running());
        running.send(15);
        assert_eq!(running.finish().status.signal(), Some(15));
    }
}

/// Between the making of the process and the moment in which Relay has learned of it, which is made
/// long: a signal that acted on Relay itself would end it and leave the command behind.
#[test]
fn a_signal_that_comes_while_the_command_is_made_is_sent_on() {
    let notes = Notes::new();
    let slow = "-einject=clone,fork,vfork:delay_exit=3000000";
    let strace = ["strace", "-D", "-qq", "-o", "/dev/null", "-etrace=clone,fork,vfork", slow];
    let script = format!(
        "trap 'echo got >> {0}; exit 5' TERM; echo ready >> {0}; exec 3<> <(:); \
         for i in {{1..600}}; do read -t 0.05 -u 3; done",
        notes.path().display()
    );
    let mut command = under(&strace, &entrypoint());
    let running = Running::start(command.args(["--", "bash", "-c", &script]));
    notes.wait_for("ready");
    running.send(15);
    assert_eq!(running.finish().shell_status(), 5);
    assert_eq!(notes.text(), "ready\ngot\n");
}

#[test]
fn only_the_command_is_sent_a_signal_unless_the_group_is_asked_for() {
    let script = |notes: &Notes| {
        let path = notes.path();
        let child = format!(
            "{1}; trap 'echo child >> {0}; exit' TERM; echo c-ready >> {0}; {2}",
            path.display(),
            SLEEP.replace('$', "\\$"),
            WAIT.replace('$', "\\$")
        );
        format!(
            "trap 'echo parent >> {0}; sleep 0.3; exit 0' TERM; {1} -c \"{child}\" & \
             echo p-ready >> {0}; wait",
            path.display(),
            MORTAL_BASH.join(" ")
        )
    };
    for (option, expected) in [("--flush-max=0", false), ("--signal-group", true)] {
        let notes = Notes::new();
        let mut wrapper = entrypoint();
        let command = wrapper.arg(option).args(["--", "bash", "-c", &script(&notes)]);
        let running = Running::start(command);
        notes.wait_for("p-ready");
        notes.wait_for("c-ready");
        running.send(15);
        assert_eq!(running.finish().shell_status(), 0);
        assert!(notes.text().contains("parent"));
        assert_eq!(notes.text().contains("child"), expected, "{option}");
    }
}

#[test]
fn ctrl_c_on_a_terminal_reaches_the_command_once() {
    let notes = Notes::new();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("listen");
    std::fs::write(&script, listener(&notes)).unwrap();
    // A shell that stayed between would die of the same keys, and take the terminal with it.
    let command = format!(
        "exec {} --log-url {NO_SERVICE} --flush-max 0 -- {} {}",
        program("entrypoint").display(),
        MORTAL_BASH.join(" "),
        script.display()
    );
    let mut terminal = Running::start(
        Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()),
    );
    notes.wait_for("ready");
    terminal.type_in(b"\x03");
    notes.wait_for("got 2.");
    terminal.type_in(b"\x1c"); // Ctrl-\
    notes.wait_for("got 3.");
    assert_eq!(notes.text().matches("got 2.").count(), 1);
    assert_eq!(notes.text().matches("got 3.").count(), 1);
    let text = notes.text();
    let listener = text.lines().find_map(|line| line.strip_prefix("ready ")).unwrap();
    let end = format!("kill -{LAST} {}", listener.trim_end_matches('.'));
    assert!(Command::new("bash").args(["-c", &end]).status().unwrap().success());
    drop(terminal.finish());
}
