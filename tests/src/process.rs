//! Runs programs as a user does, and tells what became of them.

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    program::{is_long_run, program},
    wait::eventually,
};

/// Address of a log service that is not there: nothing listens on this port of loopback.
pub const NO_SERVICE: &str = "http://127.0.0.1:9";

/// Longest run of a program in a test, on a machine that does much else. One that takes longer is
/// killed, and its test fails.
const LIMIT: Duration = Duration::from_mins(1);
/// The same where a gigabyte goes through it.
const LONG_LIMIT: Duration = Duration::from_mins(10);

/// What became of a program.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its own stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to its own stderr.
    pub stderr: String,
    /// How long it ran.
    pub taken: Duration,
}

impl Finished {
    /// The status as a shell shows it: 128 + n after signal n.
    ///
    /// # Panics
    ///
    /// If it neither exited nor died of a signal, which no finished program does.
    #[must_use]
    pub fn shell_status(&self) -> i32 {
        let signal = self.status.signal().map(|signal| 128 + signal);
        self.status.code().or(signal).expect("a finished program has one or the other")
    }
}

/// A program that runs. Dropped before its end, as by a test that fails, it is killed with all
/// that it started.
#[derive(Debug)]
pub struct Running {
    /// `None` once somebody waits for its end.
    child: Option<Child>,
    pid: u32,
    begun: Instant,
}

impl Running {
    /// Starts a command with its output in pipes.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        Self { pid: child.id(), child: Some(child), begun: now() }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal, by the `kill` of a shell.
    ///
    /// # Panics
    ///
    /// If it cannot be sent.
    pub fn send(&self, signal: i32) {
        let script = format!("kill -{signal} {}", self.pid());
        let sent = Command::new("bash").args(["-c", &script]).status();
        assert!(sent.is_ok_and(|status| status.success()), "failed to send signal {signal}");
    }

    /// Whether it runs still.
    ///
    /// # Panics
    ///
    /// If the kernel does not tell.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut().expect("only `finish` takes it");
        child.try_wait().expect("the program is a child of this one").is_none()
    }

    /// Gives it these bytes on stdin, which must be a pipe, and leaves that open.
    ///
    /// # Panics
    ///
    /// If it does not take them.
    pub fn type_in(&mut self, bytes: &[u8]) {
        let stdin = self.child.as_mut().and_then(|child| child.stdin.as_mut());
        let stdin = stdin.expect("stdin is a pipe");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("stdin is read");
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not come, or the output is not text where it has to be.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        let (pid, begun) = (self.pid, self.begun);
        let mut child = self.child.take().expect("it has not finished");
        drop(child.stdin.take());
        let limit = if is_long_run() { LONG_LIMIT } else { LIMIT };
        let waiter = thread::spawn(move || child.wait_with_output().map(|out| (out, now())));
        while !waiter.is_finished() {
            let late = begun.elapsed() > limit;
            if late {
                kill_tree(pid);
            }
            assert!(!late, "the program did not end within {limit:?}");
            thread::park_timeout(Duration::from_millis(2));
        }
        let (output, ended) =
            waiter.join().expect("waiting does not panic").expect("its output can be read");
        Finished {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("Relay writes text"),
            taken: ended - begun,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_tree(self.pid);
            drop(child.wait());
        }
    }
}

/// Kills a process and all below it: the entrypoint adopts what its command leaves behind.
fn kill_tree(root: u32) {
    let mut tree = vec![root.to_string()];
    let mut next = 0;
    while let Some(process) = tree.get(next) {
        let list = format!("/proc/{process}/task/{process}/children");
        let children = std::fs::read_to_string(list).unwrap_or_default();
        tree.extend(children.split_whitespace().map(ToOwned::to_owned));
        next += 1;
    }
    drop(Command::new("kill").arg("-9").args(&tree).stderr(Stdio::null()).status());
}

#[expect(clippy::disallowed_methods, reason = "measures a real program, for which no time pauses")]
fn now() -> Instant {
    Instant::now()
}

/// The entrypoint with a log service that is not there and no time to wait for it, neither at its
/// end nor after SIGTERM.
#[must_use]
pub fn entrypoint() -> Command {
    let mut command = bare_entrypoint();
    command.args(["--log-url", NO_SERVICE, "--flush-max", "0"]).env("RELAY_GRACE", "1s");
    command
}

/// The entrypoint without options, and without variables of Relay.
#[must_use]
pub fn bare_entrypoint() -> Command {
    without_variables(Command::new(program("entrypoint")))
}

/// The entrypoint of [`entrypoint`], as PID 1 of a new namespace.
#[must_use]
pub fn first_process() -> Command {
    as_first_process(&entrypoint())
}

/// A command as PID 1 of a new namespace, which ends with the test.
#[must_use]
pub fn as_first_process(command: &Command) -> Command {
    let mut words = vec!["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    under(&words, command)
}

/// A command started by another, whose words end where its own begin.
///
/// # Panics
///
/// Without words.
#[must_use]
pub fn under(words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(words[0]);
    outer.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Whether this test may become any user.
#[must_use]
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

fn without_variables(mut command: Command) -> Command {
    for name in ["LOG_URL", "TOKEN_FILE", "CA_FILE", "BLOCK_MAX", "FLUSH_MAX", "GRACE"] {
        command.env_remove(format!("RELAY_{name}"));
    }
    for name in ["NAMESPACE", "POD", "CONTAINER", "TERMINATION_LOG", "RUN_DIR"] {
        command.env_remove(format!("RELAY_{name}"));
    }
    command
}

/// Runs a command under `wrapper` until it ends.
#[must_use]
pub fn run_under(
    mut wrapper: Command,
    command: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Finished {
    Running::start(wrapper.arg("--").args(command)).finish()
}

/// A file that a command writes and a test reads: its output goes to Relay.
#[derive(Debug)]
pub struct Notes {
    folder: tempfile::TempDir,
}

impl Notes {
    /// An empty file.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        std::fs::write(folder.path().join("notes"), "").expect("a file can be written there");
        Self { folder }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("notes")
    }

    /// What it holds.
    ///
    /// # Panics
    ///
    /// If it is gone or not text.
    #[must_use]
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.path()).expect("the file is there and holds text")
    }

    /// Waits until it holds `text`.
    ///
    /// # Panics
    ///
    /// If that does not come within thirty seconds.
    pub fn wait_for(&self, text: &str) {
        let what = format!("{text:?} in the notes of the command");
        eventually(Duration::from_secs(30), &what, || self.text().contains(text));
    }
}
