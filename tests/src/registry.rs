//! A real registry of images.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::program::tool;

/// A registry that keeps images in memory, on a port of loopback. It is killed when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a program")]
    pub fn new() -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(tool("registry")).args(["-port", "0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("setpriv can be run");
        let said = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| line.split_once("serving on port ").map(|(_, port)| port.to_owned()));
        // It goes on to tell of each request, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, host: format!("localhost:{}", port.expect("it says its port")) }
    }

    /// Its host and port, as names of images have them.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
