//! Containers that may do almost nothing: the entrypoint needs less.

mod seccomp;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use relay_protocol::write::EndReason;
use relay_tests::{
    process::{Running, is_root, run_under, under},
    program::program,
};

use crate::lab::{Lab, open_folder};

/// Says what it may do, uses what a container uses, and leaves an orphan.
const SCRIPT: &str = "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; \
    echo again > /dev/stdout; echo err >&2; (sleep 0.05 &); \
    trap 'echo signalled' USR1; kill -USR1 $$; exit 7";

fn said(lab: &Lab) -> String {
    lab.account("stdout").assert_whole(EndReason::Eof);
    assert_eq!(lab.bytes("stderr"), b"err\n");
    String::from_utf8(lab.bytes("stdout")).unwrap()
}

/// A container of bubblewrap: the root is read-only, all capabilities are gone for good, and the
/// command is its first process.
fn container(words: &[&str], command: &Command) -> Command {
    let mut all = vec!["bwrap", "--die-with-parent", "--unshare-pid", "--as-pid-1"];
    all.extend(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--cap-drop", "ALL"]);
    all.extend(words);
    under(&all, command)
}

#[test]
fn a_read_only_root_without_capabilities_and_privileges_is_enough() {
    let lab = Lab::new();
    let folder = open_folder();
    let inside = container(&[], &lab.entrypoint_in(&folder));
    let script = format!("touch {} && echo writable; {SCRIPT}", folder.path().display());
    let finished =
        run_under(inside, ["bash", "-c", &format!("exec 3>&2 2>/dev/null; {{ {script}; }} 2>&3")]);
    assert_eq!(finished.status.code(), Some(7), "{finished:?}");
    let said = String::from_utf8(lab.bytes("stdout")).unwrap();
    assert!(said.contains("CapEff:\t0000000000000000\n"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1\n") && said.ends_with("again\nsignalled\n"), "{said}");
    assert!(!said.contains("writable"), "{said}");
    lab.account("stdout").assert_whole(EndReason::Eof);
}

#[test]
fn the_default_list_of_system_calls_of_container_runtimes_is_enough() {
    let lab = Lab::new();
    let folder = open_folder();
    let filter = folder.path().join("filter");
    fs::write(&filter, seccomp::filter()).unwrap();
    let confine = |command: &Command| {
        let inside = container(&["--seccomp", "9"], command);
        let script = "exec \"$@\" 9< \"$0\" 77< /dev/null";
        under(&["bash", "-c", script, filter.to_str().unwrap()], &inside)
    };
    // 425 is io_uring_setup, 436 close_range: what is not on the list fails with EPERM.
    let probe =
        "exit !(syscall(425, 1, 0) == -1 && $! == 1 && syscall(436, 99, 99, 0) == -1 && $! == 1)";
    let mut perl = Command::new("perl");
    let probed = Running::start(&mut confine(perl.args(["-e", probe]))).finish();
    assert_eq!(probed.status.code(), Some(0), "{probed:?}");
    // The entrypoint lets go of what is the command's without `close_range`, too.
    let script = format!(
        "for i in {{1..600}}; do [ -e /proc/1/fd/77 ] || break; sleep 0.05; done; \
         [ -e /proc/$$/fd/77 ] && [ ! -e /proc/1/fd/77 ] && {{ {SCRIPT}; }}"
    );
    let finished = run_under(confine(&lab.entrypoint_in(&folder)), ["bash", "-c", &script]);
    assert_eq!(finished.status.code(), Some(7), "{finished:?}");
    let said = said(&lab);
    assert!(said.contains("Seccomp:\t2\n") && said.ends_with("again\nsignalled\n"), "{said}");
}

/// Also one that has no entry in the list of users, as `OpenShift` gives them.
#[test]
fn any_user_will_do() {
    let users: &[&str] = if is_root() { &["65534", "1000680000"] } else { &[""] };
    for user in users {
        let lab = Lab::new();
        let folder = open_folder();
        let mut command = lab.entrypoint_in(&folder);
        command.env_remove("HOME").env_remove("USER");
        if is_root() {
            let become_user = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"];
            let drop = ["--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"];
            command = under(&[&become_user[..], &drop[..]].concat(), &command);
        }
        let finished = run_under(command, ["bash", "-c", SCRIPT]);
        assert_eq!(finished.status.code(), Some(7), "{finished:?}");
        let said = said(&lab);
        assert!(said.contains(user) && said.contains("CapEff:\t0000000000000000\n"), "{said}");
        assert!(said.ends_with("again\nsignalled\n"), "{said}");
    }
}

/// Where the program needs a loader, as a debug build does, that is there as well.
fn loader(program: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(program).unwrap();
    let dynamic = bytes.windows(9).any(|window| window == b"/ld-linux");
    let folders = ["/lib", "/lib64", "/usr/lib"].map(PathBuf::from);
    folders.into_iter().filter(|folder| dynamic && folder.exists()).collect()
}

/// An empty root: no shell, no `/proc`, no `/dev`, no `/tmp`.
fn empty_root(extra: &[&str], command: &Command) -> Command {
    let entrypoint = program("entrypoint");
    let mut words = vec!["bwrap", "--die-with-parent", "--unshare-pid", "--cap-drop", "ALL"];
    words.extend(["--ro-bind", entrypoint.to_str().unwrap(), "/entrypoint"]);
    let folders = loader(&entrypoint);
    for folder in &folders {
        let folder = folder.to_str().unwrap();
        words.extend(["--ro-bind", folder, folder]);
    }
    words.extend(extra);
    words.push("/entrypoint");
    let mut inside = under(&words, command);
    inside.args(["--", "/entrypoint", "--version"]);
    inside
}

#[test]
fn an_empty_root_with_nothing_but_the_program_is_enough() {
    let resolver = open_folder();
    let file = resolver.path().join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let with_resolver = ["--ro-bind", file.to_str().unwrap(), "/etc/resolv.conf"];
    for extra in [&[][..], &with_resolver] {
        for first in [&[][..], &["--as-pid-1"]] {
            let lab = Lab::new();
            let extra = [extra, first].concat();
            let finished =
                Running::start(&mut empty_root(&extra, &lab.as_program("--flush-max=10s")))
                    .finish();
            assert_eq!(finished.status.code(), Some(0), "{finished:?}");
            assert!(lab.bytes("stdout").starts_with(b"entrypoint "));
            lab.account("stdout").assert_whole(EndReason::Eof);
        }
    }
}

/// Nobody answers for the name of the service: the command runs and ends all the same.
#[test]
fn an_empty_root_in_which_no_name_can_be_resolved_keeps_nothing_from_running() {
    let lab = Lab::new();
    let port = lab.service.url().rsplit(':').next().unwrap();
    let mut options = Command::new("--flush-max=500ms");
    options.env("RELAY_LOG_URL", format!("http://localhost:{port}")).env("RELAY_POD", "web-0");
    let finished = Running::start(&mut empty_root(&["--as-pid-1"], &options)).finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let mut missing = empty_root(&["--as-pid-1"], &options);
    let finished = Running::start(missing.args(["--", "x"])).finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
}
