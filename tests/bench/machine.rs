//! What the figures were measured with.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use relay_tests::program::program;

use crate::{Bench, Length};

/// Machine and versions, as Markdown.
pub(crate) fn facts(bench: &Bench) -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    let mut lines = vec![
        format!("- machine: {cores} cores of {}, {} of memory", processor()?, memory()?),
        format!("- kernel {}, files on {}", kernel.trim(), file_system(bench)?),
        format!("- load of the last minute: {} before, {} at the end", bench.load, load()?),
        format!("- scale {} %, {:?} form", bench.scale, bench.length),
        format!("- Relay {}", said("entrypoint", &["--version"])?),
        format!("- tini {}, dumb-init {}", package("tini")?, package("dumb-init")?),
        format!("- Tekton's entrypoint 1.15.0, rsyslog {}", package("rsyslog")?),
    ];
    if bench.length == Length::Long {
        lines.push("- Loki 3.7.8".to_owned());
    }
    Ok(lines.join("\n") + "\n\n")
}

/// Processes that ran or waited for a disk in the last minute, on average.
pub(crate) fn load() -> Result<String> {
    let all = fs::read_to_string("/proc/loadavg")?;
    Ok(all.split(' ').next().unwrap_or_default().to_owned())
}

fn processor() -> Result<String> {
    let all = fs::read_to_string("/proc/cpuinfo")?;
    let model = all.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    Ok(model.unwrap_or("an unnamed processor").to_owned())
}

fn memory() -> Result<String> {
    let all = fs::read_to_string("/proc/meminfo")?;
    let total = all.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split(' ').nth_back(1));
    let kib: u64 = total.context("/proc/meminfo says no total")?.parse()?;
    Ok(format!("{} GiB", (kib + (1 << 19)) >> 20))
}

fn file_system(bench: &Bench) -> Result<String> {
    let folder = bench.folder.path();
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn said(name: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program(name)).args(words).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().rsplit(' ').next().unwrap_or_default().to_owned())
}

fn package(name: &str) -> Result<String> {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}
