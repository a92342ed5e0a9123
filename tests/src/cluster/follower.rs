//! A program whose output is read while it runs.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::wait::eventually;

/// What a program printed so far.
type Text = Arc<Mutex<String>>;

/// A program whose output is read while it runs. Killed when it is dropped.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    said: [Text; 2],
    readers: Vec<JoinHandle<()>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; none after a signal.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Follower {
    /// Starts a program.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("the program can be started");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = [Text::default(), Text::default()];
        let readers = vec![
            read(stdout.expect("it is a pipe"), &said[0]),
            read(stderr.expect("it is a pipe"), &said[1]),
        ];
        Self { child, said, readers }
    }

    /// What it wrote to stdout until now.
    #[must_use]
    pub fn stdout(&self) -> String {
        text(&self.said[0])
    }

    /// What it wrote to stderr until now.
    #[must_use]
    pub fn stderr(&self) -> String {
        text(&self.said[1])
    }

    /// Whether it has said all.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.readers.iter().all(JoinHandle::is_finished)
    }

    /// Waits until its stdout holds this.
    ///
    /// # Panics
    ///
    /// If that takes longer than `patience`.
    pub fn wait_for(&self, wanted: &str, patience: Duration) {
        let said = || format!("{:?}", self.said.each_ref().map(text));
        eventually(patience, &format!("{wanted:?} in the output"), || {
            let is_there = self.stdout().contains(wanted);
            assert!(is_there || !self.has_ended(), "{}", said());
            is_there
        });
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If that takes longer than `patience`.
    #[must_use]
    pub fn finish(mut self, patience: Duration) -> Ended {
        let mut status = None;
        let program =
            format!("the end of a program that said {:?}", self.said.each_ref().map(text));
        eventually(patience, &program, || {
            status = self.child.try_wait().expect("it is a child of this process");
            status.is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("reading does not panic");
        }
        let [stdout, stderr] = self.said.each_ref().map(text);
        Ended { code: status.and_then(|status| status.code()), stdout, stderr }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads lines in a thread of their own until the pipe is closed.
fn read(pipe: impl Read + Send + 'static, said: &Text) -> JoinHandle<()> {
    let said = Arc::clone(said);
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

fn text(said: &Text) -> String {
    said.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
