//! Programs that run a command: Relay's entrypoint and its peers.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use relay_tests::{
    process::{NO_SERVICE, bare_entrypoint},
    program::program,
};

use crate::Bench;

/// A way to run a command.
#[derive(Clone, Debug)]
pub(crate) struct Wrapper {
    /// Its name in the tables.
    pub(crate) name: &'static str,
    program: PathBuf,
    options: Vec<OsString>,
    pod: Option<&'static str>,
    form: Form,
    /// A file that must not be there when it starts: Tekton's fails once earlier runs left 4 KiB.
    left_behind: Option<PathBuf>,
}

/// How the command follows the options.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// It is all there is.
    Bare,
    /// Behind two dashes.
    Dashes,
    /// The two dashes stand behind its first word.
    DashesBehindFirst,
}

impl Wrapper {
    /// None: the command itself.
    pub(crate) fn none() -> Self {
        Self::new("no wrapper", Path::new(""), &[], Form::Bare)
    }

    /// None, while another process keeps a core busy, as whoever delivers does.
    pub(crate) fn none_beside_a_busy_core() -> Self {
        let script = "while :; do :; done & \"$@\"; status=$?; kill $!; exit $status";
        Self::new("no wrapper, a core busy", Path::new("bash"), &["-c", script], Form::Dashes)
    }

    /// tini, which as Relay does adopts orphans where it is not PID 1.
    pub(crate) fn tini() -> Self {
        Self::new("tini", Path::new("/usr/bin/tini"), &["-s"], Form::Dashes)
    }

    /// dumb-init.
    pub(crate) fn dumb_init() -> Self {
        Self::new("dumb-init", Path::new("/usr/bin/dumb-init"), &[], Form::Dashes)
    }

    /// Tekton's entrypoint, in its two builds: without and with SPIRE.
    pub(crate) fn tekton(bench: &Bench, options: &[&str]) -> Result<[Self; 2]> {
        let termination = bench.path("termination");
        let path = termination.display().to_string();
        let mut words = vec!["-termination_path", &path];
        words.extend(options);
        words.push("-entrypoint");
        let new = |name, folder: &str| {
            let program = bench.tool(&format!("{folder}/entrypoint"))?;
            let tekton = Self::new(name, &program, &words, Form::DashesBehindFirst);
            anyhow::Ok(Self { left_behind: Some(termination.clone()), ..tekton })
        };
        Ok([new("Tekton, no SPIRE", "tekton-no-spire")?, new("Tekton", "tekton")?])
    }

    /// Relay's entrypoint, which delivers to a service as this pod.
    pub(crate) fn relay(name: &'static str, url: &str, pod: &'static str) -> Self {
        let options = ["--log-url", url];
        let relay = Self::new(name, &program("entrypoint"), &options, Form::Dashes);
        Self { pod: Some(pod), ..relay }
    }

    /// Relay's entrypoint without a log service: what it cannot keep it drops at once.
    pub(crate) fn relay_alone(name: &'static str, options: &[&str]) -> Self {
        let mut all = vec!["--log-url", NO_SERVICE, "--flush-max", "0", "--block-max", "0"];
        all.extend(options);
        Self::new(name, &program("entrypoint"), &all, Form::Dashes)
    }

    /// Relay's entrypoint without anything to do.
    pub(crate) fn relay_without_url() -> Self {
        Self::new("Relay, no URL", &program("entrypoint"), &[], Form::Dashes)
    }

    fn new(name: &'static str, program: &Path, options: &[&str], form: Form) -> Self {
        let options = options.iter().map(OsString::from).collect();
        Self { name, program: program.to_owned(), options, pod: None, form, left_behind: None }
    }

    /// The program that has to be brought into the container.
    pub(crate) fn file(&self) -> Option<&Path> {
        Some(self.program.as_path()).filter(|path| path.is_file())
    }

    /// The command line that runs `words` this way.
    pub(crate) fn command(&self, words: &[OsString]) -> Command {
        if let Some(file) = &self.left_behind {
            drop(fs::remove_file(file));
        }
        let (first, rest) = words.split_first().expect("there is a command to run");
        if matches!(self.form, Form::Bare) {
            let mut command = Command::new(first);
            command.args(rest);
            return command;
        }
        // Its variables must not change what is measured.
        let mut command = Command::new(&self.program);
        for (name, _) in bare_entrypoint().get_envs() {
            command.env_remove(name);
        }
        command.args(&self.options);
        match self.form {
            Form::DashesBehindFirst => command.arg(first).arg("--"),
            Form::Dashes | Form::Bare => command.arg("--").arg(first),
        };
        if let Some(pod) = self.pod {
            command.env("RELAY_POD", pod);
        }
        command.args(rest);
        command
    }
}
