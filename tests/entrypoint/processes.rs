//! Children of the command: reaped, and never a reason to wait.

use std::{fs, process::Command, time::Duration};

use relay_protocol::write::EndReason;
use relay_tests::{
    process::{Notes, Running, as_first_process, entrypoint, first_process, run_under},
    wait::eventually,
};

use crate::lab::Lab;

/// Leaves three orphans that end at once, then waits.
const ORPHANS: &str = "for i in 1 2 3; do (sleep 0.05 & ) ; done; exec sleep 1000";

#[test]
fn no_zombie_is_left_wherever_it_runs() {
    for wrapper in [entrypoint, first_process] {
        let running = Running::start(wrapper().args(["--", "bash", "-c", ORPHANS]));
        eventually(Duration::from_secs(30), "only the command is left", || {
            let all = descendants(running.pid());
            all.iter().any(|name| name == "sleep") && !all.contains(&"zombie".to_owned()) && {
                all.iter().filter(|name| *name == "sleep").count() == 1
            }
        });
        Command::new("pkill").args(["-P", &running.pid().to_string()]).status().ok();
        let children = children(running.pid());
        for child in children {
            Command::new("kill").args(["-9", &child]).status().ok();
        }
        drop(running.finish());
    }
}

pub(crate) fn children(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Names of all processes below one; a zombie is called so.
pub(crate) fn descendants(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for child in children(pid) {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let comm = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        found.push(if zombie { "zombie".to_owned() } else { comm.trim().to_owned() });
        found.extend(descendants(child.parse().expect("the kernel lists numbers")));
    }
    found
}

#[test]
fn an_orphan_is_adopted_so_that_it_can_be_reaped() {
    let notes = Notes::new();
    let script = format!(
        "(sh -c 'sleep 0.2; grep PPid /proc/$$/status >> {0}; echo done >> {0}' &); \
         echo \"relay $PPID\" >> {0}; while ! grep -q done {0}; do sleep 0.02; done",
        notes.path().display()
    );
    assert!(run_under(entrypoint(), ["bash", "-c", &script]).status.success());
    let text = notes.text();
    let relay = text.lines().find_map(|line| line.strip_prefix("relay ")).unwrap();
    assert!(text.contains(&format!("PPid:\t{relay}\n")), "{text}");
}

/// Of Tekton and relay-core, which wait for it for ever.
#[test]
fn a_grandchild_that_keeps_the_output_open_does_not_keep_the_container() {
    let notes = Notes::new();
    // It ends when the notes are gone.
    let script = format!(
        "(while [ -e {} ]; do sleep 0.1; done) & echo done; exit 4",
        notes.path().display()
    );
    for wrapped in [false, true] {
        let lab = Lab::new();
        let mut command = lab.entrypoint();
        if wrapped {
            command = as_first_process(&command);
        }
        let finished = run_under(command, ["bash", "-c", &script]);
        assert_eq!(finished.status.code(), Some(4));
        // Not cut off at the end of the time for delivery: then the log would say so.
        lab.account("stdout").assert_whole(EndReason::Eof);
        assert_eq!(lab.bytes("stdout"), b"done\n");
    }
}

#[test]
fn nothing_wakes_it_while_nothing_happens() {
    let running = Running::start(entrypoint().args(["--", "sleep", "1000"]));
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt"));
        line.unwrap().rsplit('\t').next().unwrap().parse::<u32>().unwrap()
    };
    // The service is not there: what wakes it now is the retry, at most every 10 s in the end.
    let mut last = switches();
    eventually(Duration::from_secs(30), "a second without a wake-up", || {
        std::thread::park_timeout(Duration::from_secs(1));
        let now = switches();
        let quiet = now == last;
        last = now;
        quiet
    });
}
