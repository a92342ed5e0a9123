//! One log service on a folder of its own, and the programs that talk to it.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use relay_tests::{program::program, service::Service};
use tempfile::TempDir;

/// A service, its store, and a folder for what a test needs besides.
pub(crate) struct Lab {
    pub(crate) service: Service,
    pub(crate) folder: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        let service = Service::on_folder(&folder.path().join("logs"));
        Self { service, folder }
    }

    /// The entrypoint as pod `pod`, to be given flags, `--` and a command.
    pub(crate) fn entrypoint(&self, pod: &str) -> Command {
        let mut command = Command::new(program("entrypoint"));
        command.env("RELAY_LOG_URL", self.service.url()).env("RELAY_POD", pod).stdin(Stdio::null());
        command
    }

    /// The command line, to be given a subcommand.
    pub(crate) fn relay(&self) -> Command {
        let mut command = Command::new(program("relay"));
        command.env("RELAY_LOG_URL", self.service.url()).stdin(Stdio::null());
        command
    }

    /// Runs a shell script under the entrypoint to its end.
    pub(crate) fn run(&self, pod: &str, flags: &[&str], script: &str) -> Output {
        self.entrypoint(pod).args(flags).args(["--", "sh", "-c", script]).output().unwrap()
    }

    /// What `relay logs` prints for these arguments.
    pub(crate) fn logs(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.relay().arg("logs").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}
