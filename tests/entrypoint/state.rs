//! The command finds everything as it would without Relay.

use std::{fs, process::Command};

use relay_tests::process::{
    Notes, Running, as_first_process, bare_entrypoint, entrypoint, run_under, under,
};

/// Runs `script` in bash twice: alone and, where it says `WRAP`, under Relay. Returns both notes.
///
/// As the first process of a namespace nothing else may come out, either.
fn compare(script: &str) -> (String, String) {
    let (env, mut relay) = (Command::new("env"), entrypoint());
    relay.arg("--");
    let first = (run(script, &as_first_process(&env)), run(script, &as_first_process(&relay)));
    assert_eq!(first.0, first.1, "as the first process");
    compare_here(script)
}

/// Not as the first process: what makes the namespace keeps every descriptor as well.
fn compare_here(script: &str) -> (String, String) {
    let mut relay = entrypoint();
    relay.arg("--");
    (run(script, &Command::new("env")), run(script, &relay))
}

fn run(script: &str, wrapper: &Command) -> String {
    let words = std::iter::once(wrapper.get_program()).chain(wrapper.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().expect("paths here are text")).collect();
    let notes = Notes::new();
    let script = script.replace("WRAP", &format!("exec {}", words.join(" ")));
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("NOTES", notes.path());
    let finished = Running::start(&mut command).finish();
    assert!(finished.status.success(), "{finished:?}");
    notes.text()
}

/// What the kernel tells of a process and is the same for every run of it.
const STATUS: &str =
    "grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign|Cgt)|ShdPnd|Cap|NoNewPrivs|Seccomp:)'";

#[test]
fn masks_dispositions_and_umask_are_as_relay_got_them() {
    // 32 and 33 are ignored by no shell; `env` refuses them, too.
    let prepare = "umask 0027; trap '' PIPE USR1 CHLD HUP 34 64;";
    let script = format!("{prepare} WRAP sh -c \"exec {STATUS} /proc/self/status > \\$NOTES\"");
    let (alone, wrapped) = compare(&script);
    assert!(alone.contains("Umask:\t0027") && alone.contains("SigIgn:"), "{alone}");
    assert_eq!(alone, wrapped);
}

#[test]
fn nothing_is_blocked_or_ignored_that_was_not() {
    let direct = |wrapper: Command| {
        let notes = Notes::new();
        let copy = notes.path();
        let command =
            format!("exec env grep -E '^Sig(Blk|Ign)' /proc/self/status > {}", copy.display());
        assert!(run_under(wrapper, ["bash", "-c", &command]).status.success());
        notes.text()
    };
    let mut alone = Command::new("env");
    alone.arg("env");
    let mut blocking = Command::new("env");
    blocking.args(["--block-signal=USR2,TERM,TSTP", "--ignore-signal=PIPE,WINCH"]);
    let blocked = |inner: Command| {
        let mut command = Command::new("env");
        command.args(["--block-signal=USR2,TERM,TSTP", "--ignore-signal=PIPE,WINCH"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    };
    assert_eq!(run_plain(&alone), direct(entrypoint()));
    assert_eq!(run_plain(&blocking), direct(blocked(entrypoint())));
}

/// Where the end of a child is ignored, Relay has to change that for itself alone. No shell passes
/// it on, so there is none.
#[test]
fn what_happens_at_the_end_of_a_child_is_as_relay_got_it() {
    let ignored = |wrapper: &Command| {
        let notes = Notes::new();
        let mut command = under(&["env", "--ignore-signal=CHLD"], wrapper);
        command.args(["cp".as_ref(), "/proc/self/status".as_ref(), notes.path().as_os_str()]);
        assert_eq!(Running::start(&mut command).finish().shell_status(), 0);
        let text = notes.text();
        text.lines().find(|line| line.starts_with("SigIgn")).unwrap().to_owned()
    };
    let alone = ignored(&Command::new("env"));
    assert!(alone.ends_with("10000"), "{alone}");
    assert_eq!(ignored(&entrypoint()), alone);
}

/// What `grep` sees of itself when `wrapper` runs it without Relay.
fn run_plain(wrapper: &Command) -> String {
    let notes = Notes::new();
    let script =
        format!("exec env grep -E '^Sig(Blk|Ign)' /proc/self/status > {}", notes.path().display());
    let mut command = Command::new(wrapper.get_program());
    command.args(wrapper.get_args()).args(["bash", "-c", &script]);
    assert!(Running::start(&mut command).finish().status.success());
    notes.text()
}

#[test]
fn limits_folder_and_descriptors_are_as_relay_got_them() {
    let script = "cd /usr; ulimit -n 100; ulimit -c 0; ulimit -S -s 4096; \
        exec 7</etc/passwd 9>/dev/null; \
        WRAP sh -c 'ulimit -a > $NOTES; pwd >> $NOTES; \
        for f in /proc/self/fd/*; do n=${f##*/}; case $n in 0|1|2) ;; *) readlink $f >> $NOTES;; esac; done'";
    let (alone, wrapped) = compare(script);
    assert!(alone.contains("/usr\n") && alone.contains("/etc/passwd"), "{alone}");
    assert_eq!(alone, wrapped);
}

#[test]
fn a_closed_stdin_stays_closed_and_an_open_one_is_the_commands() {
    let (alone, wrapped) = compare("WRAP sh -c 'ls /proc/$$/fd > $NOTES' <&-");
    assert!(!alone.lines().any(|fd| fd == "0"), "{alone}");
    assert_eq!(without_shell_files(&alone), without_shell_files(&wrapped));
    let (alone, wrapped) = compare("WRAP sh -c 'cat > $NOTES' < /etc/passwd");
    assert_eq!(alone, wrapped);
    assert_eq!(alone, fs::read_to_string("/etc/passwd").unwrap());
}

#[test]
fn closed_outputs_do_no_harm() {
    for closed in ["0<&- 1>&- 2>&-", "1>&-", "2>&-"] {
        let (alone, wrapped) = compare(&format!("WRAP sh -c 'echo done > $NOTES' {closed}"));
        assert_eq!(alone, wrapped);
    }
}

/// Descriptors from 3 up belong to the shell.
fn without_shell_files(list: &str) -> Vec<&str> {
    list.lines().filter(|fd| !matches!(*fd, "1" | "2")).collect()
}

#[test]
fn the_writer_of_stdin_learns_when_the_command_stops_reading() {
    let (alone, wrapped) = compare_here(
        "set -o pipefail; (yes 2>/dev/null; echo writer ended >> $NOTES) | \
         (WRAP sh -c 'exec <&-; while ! grep -q ended $NOTES; do sleep 0.02; done; echo command saw it >> $NOTES')",
    );
    assert_eq!(alone, "writer ended\ncommand saw it\n");
    assert_eq!(alone, wrapped);
}

#[test]
fn a_descriptor_that_the_command_closes_is_closed() {
    let (alone, wrapped) = compare_here(
        "mkfifo $NOTES.fifo; (cat < $NOTES.fifo; echo ended >> $NOTES) & \
         WRAP sh -c 'exec 5>&-; while ! grep -q ended $NOTES; do sleep 0.02; done' 5> $NOTES.fifo",
    );
    assert_eq!((alone.as_str(), wrapped.as_str()), ("ended\n", "ended\n"));
}

#[test]
fn the_environment_lacks_relays_own_variables_and_no_other() {
    let notes = Notes::new();
    for wrapper in [bare_entrypoint, entrypoint] {
        let script = format!("env > {}", notes.path().display());
        let mut command = Command::new("env");
        command.args(["-i", "A=1", "RELAY_POD=x", "RELAY_BLOCK_MAX=1s", "RELAY_OTHER=2", "EMPTY="]);
        command.args(["RELAY_TOKEN_FILE=/t", "RELAY_GRACE=5s", "MULTI=a\nb"]);
        let wrapper = wrapper();
        command.arg(wrapper.get_program()).args(wrapper.get_args());
        command.args(["--", "/bin/sh", "-c", &format!("PATH=/usr/bin:/bin; {script}")]);
        assert!(Running::start(&mut command).finish().status.success());
        let text = notes.text();
        assert!(!text.contains("RELAY_POD") && !text.contains("RELAY_BLOCK"), "{text}");
        assert!(!text.contains("RELAY_TOKEN") && !text.contains("RELAY_GRACE"), "{text}");
        for kept in ["A=1\n", "RELAY_OTHER=2\n", "EMPTY=\n", "MULTI=a\nb\n"] {
            assert!(text.contains(kept), "{kept:?} in {text}");
        }
    }
}

#[test]
fn arguments_of_any_bytes_and_size_come_through() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let notes = Notes::new();
    let long = "x".repeat(120_000);
    let odd = OsStr::from_bytes(b"\xff \n$HOME");
    let script = format!("printf '%s|' \"$@\" > {}.bytes", notes.path().display());
    let arguments: [&OsStr; 7] = [
        "bash".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
        "name".as_ref(),
        odd,
        "".as_ref(),
        long.as_ref(),
    ];
    assert!(run_under(entrypoint(), arguments).status.success());
    let written = fs::read(notes.path().with_extension("bytes")).unwrap();
    assert_eq!(written, [b"\xff \n$HOME||", long.as_bytes(), b"|"].concat());
}
