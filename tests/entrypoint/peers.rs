//! Beside tini: what a user sees of a command is the same under both.

use std::process::{Command, Stdio};

use relay_tests::{
    process::{Notes, Running, as_first_process, entrypoint},
    program,
};

/// What a user sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: i32,
    notes: String,
}

/// A command that writes to `$NOTES`, what it reads, and a signal that it is sent once it has noted
/// that it is ready.
struct Case<'case> {
    words: &'case [&'case str],
    stdin: &'case [u8],
    signal: Option<i32>,
}

const fn command<'case>(words: &'case [&'case str]) -> Case<'case> {
    Case { words, stdin: b"", signal: None }
}

/// Notes a signal and ends. It waits for nothing but a time: a shell that waits for a program sees
/// the signal when that has ended.
const LISTEN: &str = "trap 'echo got >> $NOTES; exit 5' $0; echo ready >> $NOTES; \
    exec 3<> <(:); while :; do read -t 0.05 -u 3; done";

/// `tini -s`: a subreaper, as Relay always is.
fn tini() -> Command {
    let mut command = Command::new("tini");
    command.arg("-s");
    command
}

fn see(wrapper: &Command, case: &Case<'_>) -> Seen {
    let notes = Notes::new();
    let mut command = Command::new(wrapper.get_program());
    command.args(wrapper.get_args()).arg("--").args(case.words);
    command.env("NOTES", notes.path()).env("RELAY_GRACE", "1s").stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    if !case.stdin.is_empty() {
        running.type_in(case.stdin);
    }
    if let Some(signal) = case.signal {
        notes.wait_for("ready");
        running.send(signal);
    }
    let status = running.finish().shell_status();
    Seen { status, notes: notes.text() }
}

/// Compares, also as the first process of a container. A signal would reach `unshare` there.
fn compare(case: &Case<'_>) -> Seen {
    let relay = see(&entrypoint(), case);
    assert_eq!(relay, see(&tini(), case), "{:?}", case.words);
    if case.signal.is_none() {
        let first = see(&as_first_process(&entrypoint()), case);
        assert_eq!(first, see(&as_first_process(&tini()), case), "first: {:?}", case.words);
    }
    relay
}

#[test]
fn statuses_are_those_of_tini() {
    for status in ["0", "1", "42", "125", "126", "127", "255"] {
        let seen = compare(&command(&["sh", "-c", "exit $0", status]));
        assert_eq!(seen.status.to_string(), status);
    }
    for signal in ["1", "2", "6", "9", "11", "13", "15", "34", "64"] {
        let seen = compare(&command(&["bash", "-c", "ulimit -c 0; kill -$0 $$", signal]));
        assert_eq!(seen.status.to_string(), (128 + signal.parse::<i32>().unwrap()).to_string());
    }
}

#[test]
fn commands_that_cannot_be_executed_end_as_under_tini() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        program::write(&path, text.as_bytes(), mode);
        path.to_str().unwrap().to_owned()
    };
    let plain = write("plain", "exit 0", 0o644);
    let script = write("script", "echo \"$0 $1\" > $NOTES; exit 9\n", 0o755);
    let lost = write("lost", "#!/no/such/interpreter\n", 0o755);
    let cases = [
        ("no-such-command", 127),
        ("/no/such/command", 127),
        (&lost, 127),
        (&plain, 126),
        (folder.path().to_str().unwrap(), 126),
        (&script, 9),
    ];
    for (name, status) in cases {
        assert_eq!(compare(&command(&[name, "argument"])).status, status, "{name}");
    }
}

#[test]
fn stdin_is_the_commands_as_under_tini() {
    let text = b"a\r\n\xff\0 b";
    let words = &["sh", "-c", "od -c > $NOTES; readlink /proc/self/fd/0 | cut -c1-4 >> $NOTES"];
    let seen = compare(&Case { words, stdin: text, signal: None });
    assert!(seen.notes.ends_with("pipe\n") && seen.notes.contains("377"), "{seen:?}");
}

#[test]
fn signals_reach_the_command_as_under_tini() {
    // SIGRTMIN+3, which stops systemd, is 37.
    for signal in [1, 2, 3, 10, 12, 15, 28, 37, 64] {
        let number = signal.to_string();
        let words = &["bash", "-c", LISTEN, &number];
        let seen = compare(&Case { words, stdin: b"", signal: Some(signal) });
        assert_eq!((seen.status, seen.notes.as_str()), (5, "ready\ngot\n"), "{signal}");
    }
    let words = &["bash", "-c", "echo ready > $NOTES; exec sleep 1000"];
    for signal in [2, 15] {
        let seen = compare(&Case { words, stdin: b"", signal: Some(signal) });
        assert_eq!(seen.status, 128 + signal);
    }
}

#[test]
fn orphans_are_adopted_and_reaped_as_under_tini() {
    // The orphan waits until it is one, and tells whether its new parent is the command's.
    let orphan = "while grep -q \"PPid:.$1$\" /proc/$$/status; do :; done; \
        grep -q \"PPid:.$0$\" /proc/$$/status && echo adopted >> $NOTES; echo done >> $NOTES";
    let script = format!(
        "(bash -c '{orphan}' $PPID $BASHPID & disown) ; \
         until grep -q done $NOTES; do :; done; \
         for i in 1 2 3; do (true &); done; exit 3"
    );
    let seen = compare(&command(&["bash", "-c", &script]));
    assert_eq!((seen.status, seen.notes.as_str()), (3, "adopted\ndone\n"));
}

/// dumb-init resets what is ignored; Rust's own `Command` does so with SIGPIPE.
#[test]
fn what_is_ignored_and_blocked_is_as_under_tini() {
    // Not of the shell, which blocks signals while it forks.
    let grep = "exec grep -E '^Sig(Blk|Ign)' /proc/self/status > $NOTES";
    for options in [&["--ignore-signal=PIPE,HUP,WINCH"][..], &["--block-signal=USR2"]] {
        let wrapped = |wrapper: &Command| {
            let mut outer = Command::new("env");
            outer.args(options).arg(wrapper.get_program()).args(wrapper.get_args());
            see(&outer, &command(&["bash", "-c", grep]))
        };
        assert_eq!(wrapped(&entrypoint()), wrapped(&tini()));
    }
}
