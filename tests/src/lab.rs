//! One log service on a folder of its own, and the programs that talk to it.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{program::program, service::Service};

/// A service, its store, and a folder for what a test needs besides.
#[derive(Debug)]
pub struct Lab {
    /// The service; its store is the folder `logs`.
    pub service: Service,
    /// Removed with the lab.
    pub folder: TempDir,
}

impl Lab {
    /// Starts the service.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a program")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).expect("a folder for the store");
        Self { service: Service::on_folder(&logs), folder }
    }

    /// The entrypoint as pod `pod`, to be given flags, `--` and a command.
    #[must_use]
    pub fn entrypoint(&self, pod: &str) -> Command {
        let mut command = Command::new(program("entrypoint"));
        command.env("RELAY_LOG_URL", self.service.url()).env("RELAY_POD", pod).stdin(Stdio::null());
        command
    }

    /// The command line, to be given a subcommand.
    #[must_use]
    pub fn relay(&self) -> Command {
        let mut command = Command::new(program("relay"));
        command.env("RELAY_LOG_URL", self.service.url()).stdin(Stdio::null());
        command
    }

    /// Runs a shell script under the entrypoint to its end.
    ///
    /// # Panics
    ///
    /// If the entrypoint cannot be started.
    #[must_use]
    pub fn run(&self, pod: &str, flags: &[&str], script: &str) -> Output {
        let output = self.entrypoint(pod).args(flags).args(["--", "sh", "-c", script]).output();
        output.expect("the entrypoint can be started")
    }

    /// What `relay logs` prints for these arguments.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[must_use]
    pub fn logs(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.relay().arg("logs").args(arguments).output().expect("relay can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}
