//! What went wrong with other wrappers, each named after what happened.

use std::{fs, process::Command, time::Duration};

use relay_protocol::write::EndReason;
use relay_tests::{
    process::{Notes, Running, bare_entrypoint, entrypoint, run_under},
    service::taken_port,
    wait::eventually,
};

use crate::{lab::Lab, processes::children};

/// relay-core: the command never ran while its log service answered 503.
#[test]
fn a_service_that_only_says_no_kept_the_command_from_running() {
    let (listener, address) = taken_port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        drop(std::io::Write::write_all(&mut stream, answer));
        stream
    });
    let notes = Notes::new();
    let mut wrapper = bare_entrypoint();
    wrapper.args(["--log-url", &format!("http://{address}"), "--flush-max", "200ms"]);
    let script = format!("echo ran > {}; sleep 0.2; exit 6", notes.path().display());
    assert_eq!(run_under(wrapper, ["bash", "-c", &script]).shell_status(), 6);
    assert_eq!(notes.text(), "ran\n");
    drop(server.join());
}

/// catatonit: the folder in which it was started stayed busy and could not be unmounted.
#[test]
fn the_working_directory_stayed_busy_after_the_command_left_it() {
    let folder = tempfile::tempdir().unwrap();
    let notes = Notes::new();
    let script = format!("cd /usr; echo left > {}; exec sleep 1000", notes.path().display());
    let mut wrapper = entrypoint();
    let running = Running::start(wrapper.current_dir(&folder).args(["--", "bash", "-c", &script]));
    notes.wait_for("left");
    let link = format!("/proc/{}/cwd", running.pid());
    eventually(Duration::from_secs(30), "Relay is in the root", || {
        fs::read_link(&link).unwrap() == std::path::Path::new("/")
    });
    kill_all(&children(running.pid()));
    drop(running.finish());
}

fn kill_all(processes: &[String]) {
    drop(Command::new("kill").arg("-9").args(processes).status());
}

/// Argo: arguments went through one variable, which may hold 128 KiB.
#[test]
fn arguments_and_variables_of_a_megabyte_did_not_come_through() {
    let notes = Notes::new();
    // The longest string that the kernel takes is 131,071 bytes.
    let longest = "x".repeat(131_071);
    let many = vec!["y".repeat(9_999); 60];
    let mut wrapper = entrypoint();
    wrapper.env("LONGEST", "x".repeat(131_063));
    let script = format!("echo $# ${{#1}} ${{#LONGEST}} > {}", notes.path().display());
    wrapper.args(["--", "bash", "-c", &script, "name", &longest]).args(&many);
    assert_eq!(Running::start(&mut wrapper).finish().shell_status(), 0);
    assert_eq!(notes.text(), "61 131071 131063\n");
}

/// Tekton: more than 4,096 bytes in the termination file made an error of a success.
#[test]
fn a_long_termination_message_changed_the_status() {
    for script in ["exit 0", "exit 3"] {
        let notes = Notes::new();
        fs::write(notes.path(), "x".repeat(5_000)).unwrap();
        let mut wrapper = entrypoint();
        wrapper.env("RELAY_TERMINATION_LOG", notes.path());
        let finished = run_under(wrapper, ["bash", "-c", script]);
        assert_eq!(finished.status.code(), script.rsplit(' ').next().unwrap().parse().ok());
        assert_eq!(notes.text().len(), 5_000);
    }
}

/// GitLab's masker: two secrets that share bytes came out in the wrong order, one of them in part.
#[test]
fn secrets_that_overlap_let_a_part_of_one_through() {
    let lab = Lab::new();
    let mut command = lab.entrypoint();
    command.envs([("FIRST", "abcdef"), ("SECOND", "defghi")]);
    command.args(["--mask-env", "FIRST", "--mask-env", "SECOND", "--"]);
    let script = "printf 'abcdefghi|abcdef defghi|abcde'; sleep 0.2; printf 'fghi.'";
    assert_eq!(Running::start(command.args(["bash", "-c", script])).finish().shell_status(), 0);
    assert_eq!(lab.bytes("stdout"), b"***|*** ***|***.");
}

/// Rust and Go programs ignore SIGPIPE, and so did what they started.
#[test]
fn a_writer_whose_reader_had_gone_did_not_die_of_it() {
    let notes = Notes::new();
    let script = format!("yes | head -n 1; echo ${{PIPESTATUS[0]}} > {}", notes.path().display());
    assert_eq!(run_under(entrypoint(), ["bash", "-c", &script]).shell_status(), 0);
    assert_eq!(notes.text(), "141\n");
}

/// Argo: lines of the wrapper's own stood in the user's stderr.
#[test]
fn the_wrapper_spoke_in_the_commands_stderr() {
    let lab = Lab::new();
    let mut command = lab.entrypoint();
    // All that makes it say something: a copy, a secret that is unset, an end by a signal.
    command.args(["--mask-env", "UNSET", "--", "bash", "-c", "echo mine >&2; kill -9 $$"]);
    let finished = Running::start(&mut command).finish();
    assert_eq!(finished.shell_status(), 137);
    assert_eq!(lab.bytes("stderr"), b"mine\n");
    assert_eq!(lab.bytes("stdout"), b"");
    lab.account("stderr").assert_whole(EndReason::Killed);
}

/// The run-time of Go sends SIGURG to itself, and Argo sent it on to commands that died of it.
#[test]
fn a_signal_that_nobody_sent_reached_the_command() {
    let notes = Notes::new();
    let path = notes.path();
    let script = format!(
        "for s in {{1..64}}; do trap \"echo got $s >> {0}\" $s 2>/dev/null; done; trap - 17; \
         seq 1 100000; for i in 1 2 3 4 5 6 7 8; do (sleep 0.05 &); sleep 0.05; done; \
         echo end >> {0}",
        path.display()
    );
    assert_eq!(run_under(entrypoint(), ["bash", "-c", &script]).shell_status(), 0);
    assert_eq!(notes.text(), "end\n");
}

/// tini and dumb-init leave what their parent had open in it; whoever waits for its end waits on.
#[test]
fn a_wrapper_kept_what_the_command_had_closed() {
    let running = Running::start(
        Command::new("bash")
            .args(["-c", "exec 5</etc/passwd 77>/dev/null; exec \"$0\" \"$@\""])
            .arg(entrypoint().get_program())
            .args(entrypoint().get_args())
            .args(["--", "sleep", "1000"]),
    );
    let open = || {
        let entries = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap();
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    eventually(Duration::from_secs(30), "only Relay's own are left", || {
        let open = open();
        open.iter().all(|link| link != "/etc/passwd" && link != "/dev/null")
            && open.iter().any(|link| link.contains("signalfd"))
    });
    let command = children(running.pid());
    let kept = fs::read_link(format!("/proc/{}/fd/5", command[0])).unwrap();
    assert_eq!(kept, std::path::Path::new("/etc/passwd"));
    kill_all(&command);
    drop(running.finish());
}
