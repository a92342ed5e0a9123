//! Where output goes, and where it does not.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use crate::lab::Lab;
use relay_tests::process::{
    NO_SERVICE, Notes, Running, bare_entrypoint, entrypoint, first_process, run_under, under,
};

fn named() -> Command {
    let mut wrapper = entrypoint();
    wrapper.envs([("RELAY_NAMESPACE", "shop"), ("RELAY_POD", "web-0"), ("RELAY_CONTAINER", "app")]);
    wrapper
}

const LINE: &str = "relay: output is kept by Relay, not here; \
                    read it with: relay logs -n shop web-0 -c app\n";

#[test]
fn nothing_of_the_output_reaches_the_containers_own() {
    let finished = run_under(named(), ["sh", "-c", "echo out; echo err >&2; exit 1"]);
    assert!(finished.stdout.is_empty(), "{finished:?}");
    assert_eq!(finished.stderr, LINE);
}

/// That name leads nowhere outside of the cluster, and `relay` would not know what else to ask.
#[test]
fn in_a_cluster_its_line_names_the_plugin_of_kubectl() {
    let mut wrapper = named();
    let service = "https://relay-log-service.relay-system.svc:8443";
    wrapper.args(["--log-url", service, "--ca-file", "/no-such-file"]);
    let finished = run_under(wrapper, ["true"]);
    assert_eq!(finished.stderr, LINE.replace("relay logs", "kubectl relay logs"));
}

/// Writing its line makes SIGPIPE, which is Relay's own and not the command's.
#[test]
fn nobody_who_reads_its_line_is_no_reason_to_end_the_command() {
    let deaf = "pipe(R, W); close R; open(STDERR, '>&', W); close W; exec @ARGV";
    let mut wrapper = under(&["perl", "-e", deaf], &named());
    wrapper.args(["--", "bash", "-c", "sleep 0.3; exit 5"]);
    assert_eq!(Running::start(&mut wrapper).finish().shell_status(), 5);
}

/// Waits until the entrypoint has so many descriptors of pipes, and so many pipes.
fn wait_for_pipes(running: &Running, expected: (usize, usize)) {
    let pid = running.pid();
    // Only the first line can be read if the writer is gone; `finish` reads to the end.
    let links = || -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect()
    };
    relay_tests::wait::eventually(Duration::from_secs(30), &format!("{expected:?} pipes"), || {
        let mut pipes: Vec<_> =
            links().into_iter().filter(|link| link.starts_with("pipe:")).collect();
        pipes.sort();
        let count = pipes.len();
        pipes.dedup();
        (count, pipes.len()) == expected
    });
}

#[test]
fn its_own_output_is_closed_while_the_command_runs() {
    let mut wrapper = named();
    let running = Running::start(wrapper.args(["--", "sleep", "1000"]).stdin(Stdio::null()));
    // Two with both ends, and the ended pipe on stdin.
    wait_for_pipes(&running, (5, 3));
    Command::new("pkill").args(["-P", &running.pid().to_string()]).status().unwrap();
    drop(running.finish());
}

/// Where a container's output ends, containerd takes leave of whoever is attached, and ends its stdin:
/// `kubectl run -i` would lose what it was given.
#[test]
fn while_somebody_may_write_to_stdin_its_own_output_stays_open_and_empty() {
    let mut wrapper = named();
    let mut running = Running::start(wrapper.args(["--", "cat"]).stdin(Stdio::piped()));
    wait_for_pipes(&running, (7, 5));
    running.type_in(b"typed");
    let finished = running.finish();
    assert_eq!((finished.status.code(), finished.stdout), (Some(0), vec![]));
    assert_eq!(finished.stderr, LINE);
}

#[test]
fn a_write_to_the_output_of_the_first_process_is_captured() {
    let finished = run_under(
        first_process(),
        ["sh", "-c", "echo hidden > /proc/1/fd/1 && echo hidden > /proc/1/fd/2"],
    );
    assert!(finished.status.success(), "{finished:?}");
    assert!(finished.stdout.is_empty() && !finished.stderr.contains("hidden"), "{finished:?}");
}

#[test]
fn a_process_that_gave_up_its_user_may_open_the_output_again() {
    let notes = Notes::new();
    fs::set_permissions(notes.path().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        "exec 3>&1; stat -L -c %a /proc/self/fd/3 /dev/stderr > {}",
        notes.path().display()
    );
    assert!(run_under(entrypoint(), ["sh", "-c", &script]).status.success());
    assert_eq!(notes.text(), "622\n622\n");
}

#[test]
fn a_copy_is_masked_and_replaces_the_line() {
    let lab = Lab::new();
    let mut wrapper = lab.entrypoint();
    wrapper.args(["--tee", "--mask-env", "TOKEN"]).env("TOKEN", "hunter2hunter2");
    let script = "echo \"a $TOKEN b\"; printf hunter2 >&2; sleep 0.02; echo hunter2 >&2";
    let finished = run_under(wrapper, ["sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "a *** b\n");
    assert_eq!(finished.stderr, "***\n");
}

#[test]
fn a_copy_holds_every_byte_and_a_reader_that_leaves_ends_the_copy_only() {
    let mut wrapper = entrypoint();
    wrapper.args(["--flush-max", "5s", "--tee", "--", "head", "-c", "3000000", "/dev/zero"]);
    let finished = Running::start(&mut wrapper).finish();
    assert_eq!(finished.stdout.len(), 3_000_000);
    let notes = Notes::new();
    let wrapper = entrypoint();
    let program = wrapper.get_program().to_string_lossy();
    let script = format!(
        "{program} --log-url {NO_SERVICE} --flush-max 0 --tee -- \
         sh -c 'head -c 3000000 /dev/zero; echo $? > {}' | true",
        notes.path().display()
    );
    assert!(Running::start(Command::new("bash").args(["-c", &script])).finish().status.success());
    notes.wait_for("0\n");
}

#[test]
fn a_secret_that_is_not_masked_is_told_by_name() {
    let mut wrapper = named();
    wrapper.args(["--mask-env", "SHORT", "--mask-env", "UNSET"]).env("SHORT", "abc");
    let finished = run_under(wrapper, ["true"]);
    assert!(finished.status.success());
    assert!(finished.stderr.contains("relay: the value of SHORT is not masked: it is too short\n"));
    assert!(finished.stderr.contains("relay: the value of UNSET is not masked: it is not set\n"));
    assert!(!finished.stderr.contains("abc"));
}

#[test]
fn with_no_service_the_command_starts_at_once_and_its_end_comes() {
    let notes = Notes::new();
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", NO_SERVICE]);
    let begun = std::time::SystemTime::now();
    let script = format!("date +%s%N > {}; yes | head -c 1000000; exit 9", notes.path().display());
    let finished = run_under(wrapper, ["sh", "-c", &script]);
    let started: u128 = notes.text().trim().parse().unwrap();
    let begun = begun.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    assert!(started - begun < 15_000_000_000, "started after {} ns", started - begun);
    assert_eq!(finished.status.code(), Some(9));
    assert!(finished.taken < Duration::from_secs(20), "{:?}", finished.taken);
}

#[test]
fn with_no_service_and_a_full_buffer_the_end_is_not_delayed_further() {
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", NO_SERVICE, "--block-max", "0"]);
    let finished = run_under(wrapper, ["head", "-c", "50000000", "/dev/zero"]);
    assert_eq!(finished.status.code(), Some(0));
    assert!(finished.taken < Duration::from_secs(20), "{:?}", finished.taken);
    // Blocked for a minute, and ended: the clock of the end runs all the same.
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", NO_SERVICE]);
    let script = "head -c 50000000 /dev/zero & sleep 0.5; kill -9 $!; exit 2";
    let finished = run_under(wrapper, ["bash", "-c", script]);
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.taken < Duration::from_secs(20), "{:?}", finished.taken);
}

#[test]
fn what_a_full_buffer_did_not_take_at_the_end_is_part_of_the_account() {
    let notes = Notes::new();
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", NO_SERVICE, "--flush-max", "2s"]);
    wrapper.env("RELAY_TERMINATION_LOG", notes.path());
    // More than the buffer of 8 MiB holds, and little enough to fit into what was read and the
    // pipe: the command does not wait for the minute that it might.
    let script = "head -c 8500000 /dev/zero; exit 3";
    assert_eq!(run_under(wrapper, ["sh", "-c", script]).status.code(), Some(3));
    assert!(notes.text().contains("8500000 bytes of its output"), "{}", notes.text());
}

#[test]
fn sigterm_is_served_at_once_although_the_buffer_is_full() {
    let notes = Notes::new();
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", NO_SERVICE]).env("RELAY_GRACE", "3s");
    // What it writes on its way out waits behind a full pipe.
    let script = format!(
        "trap 'head -c 2000000 /dev/zero; exit 6' TERM; echo ready > {}; \
         while :; do printf '%65536s' x; done",
        notes.path().display()
    );
    let running = Running::start(wrapper.args(["--", "bash", "-c", &script]));
    notes.wait_for("ready");
    let blocked = || {
        let task = format!("/proc/{0}/task/{0}/children", running.pid());
        let child = fs::read_to_string(task).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap();
        stat.contains(") S ")
    };
    // It never sleeps but for a full pipe, and one that is full for long is not being read.
    let mut seen = 0;
    relay_tests::wait::eventually(Duration::from_secs(30), "the command waits", || {
        seen = if blocked() { seen + 1 } else { 0 };
        seen > 10
    });
    let begun = std::time::SystemTime::now();
    running.send(15);
    assert_eq!(running.finish().shell_status(), 6);
    let taken = begun.elapsed().unwrap();
    assert!(taken < Duration::from_secs(20), "{taken:?}");
}

#[test]
fn after_sigterm_the_end_of_the_grace_period_rules() {
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", NO_SERVICE, "--flush-max", "30s"]).env("RELAY_GRACE", "3s");
    let notes = Notes::new();
    let script = format!(
        "trap 'kill $!; exit 6' TERM; echo ready > {}; sleep 60 & wait",
        notes.path().display()
    );
    let running = Running::start(wrapper.args(["--", "bash", "-c", &script]));
    notes.wait_for("ready");
    let begun = std::time::SystemTime::now();
    running.send(15);
    assert_eq!(running.finish().shell_status(), 6);
    let taken = begun.elapsed().unwrap();
    assert!(taken < Duration::from_secs(20), "{taken:?}");
}

#[test]
fn the_termination_message_says_where_the_log_is() {
    let failed = |script: &str, before: &str| {
        let notes = Notes::new();
        fs::write(notes.path(), before).unwrap();
        let mut wrapper = named();
        wrapper.env("RELAY_TERMINATION_LOG", notes.path());
        drop(run_under(wrapper, ["sh", "-c", script]));
        notes.text()
    };
    let read = "read its output with: relay logs -n shop web-0 -c app\n";
    assert_eq!(failed("exit 3", ""), format!("relay: the command exited with status 3; {read}"));
    let killed = failed("kill -9 $$", "");
    assert_eq!(killed, format!("relay: the command was killed by signal 9; {read}"));
    assert!(failed("echo lost; exit 3", "").contains("5 bytes of its output were not delivered"));
    assert_eq!(failed("exit 0", ""), "");
    assert_eq!(failed("exit 3", "the command's own"), "the command's own");
}

#[test]
fn a_termination_message_that_cannot_be_written_changes_nothing() {
    for path in ["/proc/version", "/no/such/folder/log", "/"] {
        let mut wrapper = named();
        wrapper.env("RELAY_TERMINATION_LOG", path);
        assert_eq!(run_under(wrapper, ["sh", "-c", "exit 3"]).status.code(), Some(3));
    }
}
