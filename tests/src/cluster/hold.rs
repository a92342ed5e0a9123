//! A part of a node that stands still for a while, as one that is far behind.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{folder::Folder, process::run, start::init};

/// A part of a node that does nothing until this is dropped.
#[derive(Debug)]
pub struct Held {
    process: String,
}

impl Held {
    /// Holds the part whose program has this name.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn part(node: &Folder, name: &str) -> Result<Self> {
        let namespace = |process: &Path| Some(fs::metadata(process.join("ns/pid")).ok()?.ino());
        let first = Path::new("/proc").join(init(node).context("the node runs")?.to_string());
        let ours = namespace(&first).context("its first process is there")?;
        let is_it = |process: &Path| {
            let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
            let program = command.split('\0').next().unwrap_or_default();
            program.rsplit('/').next() == Some(name) && namespace(process) == Some(ours)
        };
        let mut processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
        let process = processes.find(|process| is_it(process)).context("it has such a part")?;
        let process = process.file_name().context("it has a number")?.to_string_lossy();
        let held = Self { process: process.into_owned() };
        held.send("STOP")?;
        Ok(held)
    }

    fn send(&self, signal: &str) -> Result<()> {
        run(Command::new("kill").args(["-s", signal, &self.process]))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It is gone only with its node.
        drop(self.send("CONT"));
    }
}
