//! Processes that nobody waits for: all are reaped, and none is mistaken for the command.

use std::fs;

use relay_tests::{
    process::{Notes, Running, entrypoint, first_process},
    program::is_long_run,
    wait::eventually,
};

use crate::{
    lab::send_to,
    processes::{children, descendants},
};

/// What takes moments, on a machine that does much else.
const LONG: std::time::Duration = std::time::Duration::from_secs(30);

/// Makes orphans, many of which have ended before they become such, and ends with 42 on SIGTERM.
const MAKE: &str = r"
    $SIG{TERM} = sub { exit 42 };
    for (1 .. $ARGV[0]) {
        my $child = fork // die;
        if (!$child) { fork // die; exit 9 }
        waitpid $child, 0;
    }
    open my $notes, '>', $ARGV[1]; print $notes 'made'; close $notes;
    sleep 1000 while 1;
";

/// The entrypoint itself, below what makes a namespace for it.
fn below(running: &Running) -> u32 {
    let mut first = String::new();
    eventually(LONG, "the first process", || {
        first = children(running.pid()).first().cloned().unwrap_or_default();
        !first.is_empty()
    });
    first.parse().unwrap()
}

/// A namespace has its first process below the one that was started.
const HERE: fn(&Running) -> u32 = Running::pid;

#[test]
fn ten_thousand_orphans_leave_no_zombie_and_the_status_is_the_commands() {
    let count = if is_long_run() { "10000" } else { "1000" };
    for (mut wrapper, find) in [(entrypoint(), HERE), (first_process(), below)] {
        let notes = Notes::new();
        let path = notes.path();
        let words = ["--", "perl", "-e", MAKE, count, path.to_str().unwrap()];
        let running = Running::start(wrapper.args(words));
        eventually(LONG * 4, "all are made", || notes.text() == "made");
        let relay = find(&running);
        eventually(LONG, "only the command is left", || descendants(relay) == ["perl"]);
        send_to(relay, "TERM");
        assert_eq!(running.finish().shell_status(), 42);
    }
}

/// The kernel tells of many ends with one signal. catatonit waited for ever for the rest of them.
#[test]
fn ends_that_come_as_one_signal_are_all_seen() {
    let notes = Notes::new();
    let path = notes.path();
    let script = format!(
        "for i in 1 2 3 4 5; do (sleep 1000 & echo orphan $! >> {0}); done; echo ready >> {0}; \
         exec sleep 1000",
        path.display()
    );
    let running = Running::start(entrypoint().args(["--", "bash", "-c", &script]));
    notes.wait_for("ready");
    let command = children(running.pid())[0].clone();
    let text = notes.text();
    let orphans = || text.lines().filter_map(|line| line.strip_prefix("orphan "));
    let ended = |process: &str| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.contains(") Z ") || stat.is_empty()
    };
    let end = |processes: &[&str]| {
        send_to(running.pid(), "STOP");
        for process in processes {
            send_to(process.parse().unwrap(), "KILL");
        }
        eventually(LONG, "they have ended", || processes.iter().all(|process| ended(process)));
        send_to(running.pid(), "CONT");
    };
    let orphans: Vec<&str> = orphans().collect();
    end(&orphans[..3]);
    eventually(LONG, "three are reaped", || children(running.pid()).len() == 3);
    end(&[orphans[3], orphans[4], &command]);
    assert_eq!(running.finish().shell_status(), 137);
}
