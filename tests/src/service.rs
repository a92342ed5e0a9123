//! Runs the log service for one test.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{program::program, wait::eventually};

/// How long a start may take, on a machine that does much else.
const START: Duration = Duration::from_secs(20);

/// A log service that runs. It is killed when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    wrapper: Vec<String>,
    flags: Vec<String>,
    listen: String,
    url: String,
    scratch: TempDir,
}

impl Service {
    /// A service that keeps its logs in a folder, without authentication.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn on_folder(folder: &Path) -> Self {
        Self::with(&["--store", &format!("file://{}", folder.display())])
    }

    /// A service that keeps its logs in memory.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(&["--store", "memory:"])
    }

    /// A service with these flags, on a free port of loopback.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn with(flags: &[&str]) -> Self {
        Self::under(&[], flags)
    }

    /// As [`with`](Self::with), started by a program that becomes it, such as `strace -D`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn under(wrapper: &[&str], flags: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let scratch = tempfile::tempdir().expect("a folder for the test");
        let (wrapper, flags) = (owned(wrapper), owned(flags));
        let given = flags.iter().position(|flag| flag == "--listen");
        let listen = given.map_or("127.0.0.1:0", |at| flags[at + 1].as_str()).to_owned();
        let child = spawn(&wrapper, given.is_none().then_some(&listen), &flags, scratch.path());
        let mut service = Self { child, wrapper, flags, listen, url: String::new(), scratch };
        service.listen = service.listening();
        let tls = service.flags.iter().any(|flag| flag == "--tls-cert-file");
        service.url = format!("{}://{}", if tls { "https" } else { "http" }, service.listen);
        service
    }

    /// Starts it again after [`kill_9`](Self::kill_9), at the same address.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&mut self) {
        let given = self.flags.iter().any(|flag| flag == "--listen");
        let listen = (!given).then_some(&self.listen);
        self.child = spawn(&self.wrapper, listen, &self.flags, self.scratch.path());
        self.listening();
    }

    /// Waits until it listens, and returns where.
    fn listening(&mut self) -> String {
        let address = self.scratch.path().join("address");
        eventually(START, "the service listens", || {
            let ended = self.child.try_wait().expect("the service is a child of this process");
            assert!(ended.is_none(), "the service ended: {}", self.log());
            address.exists()
        });
        fs::read_to_string(&address).expect("the address is text")
    }

    /// Where it is: `http://127.0.0.1:PORT`, or `https://` if its flags name a certificate.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// What it logged so far.
    ///
    /// # Panics
    ///
    /// If that is not text.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).expect("its log is text")
    }

    /// Kills it as `kill -9` does.
    pub fn kill(self) {
        drop(self);
    }

    /// Kills it as `kill -9` does; it can be started again.
    pub fn kill_9(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(self.scratch.path().join("address")));
    }

    /// Asks it to stop, as `kill` does, and waits until it has. Returns its log.
    ///
    /// # Panics
    ///
    /// If it does not stop in time or says that it failed.
    #[must_use]
    pub fn stop(mut self) -> String {
        let process = self.child.id().to_string();
        drop(Command::new("kill").arg(process).status());
        let mut status = None;
        eventually(START, "the service stops", || {
            status = self.child.try_wait().expect("the service is a child of this process");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log());
        self.log()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(wrapper: &[String], listen: Option<&String>, flags: &[String], scratch: &Path) -> Child {
    let log = File::create(scratch.join("log")).expect("a file for its log");
    let mut words: Vec<&OsStr> = wrapper.iter().map(AsRef::as_ref).collect();
    let program = program("relay-log-service");
    words.push(program.as_os_str());
    Command::new(words[0])
        .args(&words[1..])
        .args(listen.iter().flat_map(|listen| ["--listen", listen]))
        .arg("--address-file")
        .arg(scratch.join("address"))
        .args(flags)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the service starts")
}

/// How the service ends that cannot start with these flags, and what it says.
///
/// # Panics
///
/// If it cannot be run.
#[must_use]
pub fn refused(flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program("relay-log-service")).args(flags).output();
    let output = output.expect("the service can be run");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A port of loopback on which somebody listens, for as long as the listener lives.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn taken_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has an address").to_string();
    (listener, address)
}

/// All files below a folder whose path holds `part`.
///
/// # Panics
///
/// If the folder cannot be read.
#[must_use]
pub fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path, part) } else { vec![path] })
        .filter(|path| path.to_string_lossy().contains(part))
        .collect()
}
