//! `make bench`: Relay's figures as ratios against a named peer, both measured in this run.
//!
//! Figures are printed as a table. The machine is noisy: the shortest of many runs and CPU seconds
//! are what can be compared, a single wall time is not.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use relay_tests::{
    measure::{Runs, resident_kib},
    program::program,
    wait::eventually,
};

mod follow;
mod throughput;

/// Runs of a program that only starts and ends.
const STARTS: usize = 100;

#[expect(clippy::print_stdout, reason = "the table is the product")]
fn main() -> Result<()> {
    println!("{:<44} {:>12} {:>12}  peer", "what", "Relay", "peer");
    for row in
        start()?.into_iter().chain([idle()?]).chain(throughput::rows()?).chain(follow::rows()?)
    {
        println!("{:<44} {:>12} {:>12}  {}", row.what, row.relay, row.peer, row.named);
    }
    Ok(())
}

/// Memory of an entrypoint whose command says nothing, and whose log service is away.
fn idle() -> Result<Row> {
    let mut relay = Command::new(program("entrypoint"))
        .args(["--log-url", "http://127.0.0.1:9", "--flush-max", "0", "--", "sleep", "3"])
        .stderr(Stdio::null())
        .spawn()?;
    let begun = SystemTime::now();
    eventually(Duration::from_secs(2), "it has settled", || {
        begun.elapsed().is_ok_and(|elapsed| elapsed > Duration::from_secs(1))
    });
    let resident = resident_kib(&relay)?;
    relay.wait()?;
    Ok(Row {
        what: "entrypoint: resident, idle",
        relay: format!("{resident} kB"),
        peer: "32500 kB".to_owned(),
        named: "Tekton's entrypoint, measured once on a like machine",
    })
}

/// One line of the table.
struct Row {
    what: &'static str,
    relay: String,
    peer: String,
    named: &'static str,
}

/// What it costs to be in front of a process that does nothing.
fn start() -> Result<Vec<Row>> {
    let entrypoint = program("entrypoint");
    let direct = Runs::of(STARTS, || Command::new("true"))?;
    let tini = Runs::of(STARTS, || {
        let mut tini = Command::new("tini");
        tini.args(["-s", "--", "true"]);
        tini
    })
    .context("failed to run tini; `scripts/install bench` installs it")?;
    let wrapped = Runs::of(STARTS, || {
        let mut relay = Command::new(&entrypoint);
        relay.args(["--log-url", "http://127.0.0.1:9", "--flush-max", "0", "--", "true"]);
        relay
    })?;
    let size = |path: &Path| std::fs::metadata(path).map(|file| file.len());
    Ok(vec![
        Row {
            what: "start and end of `true`, shortest",
            relay: format!("{:.2?}", wrapped.min()),
            peer: format!("{:.2?}", tini.min()),
            named: "tini",
        },
        Row {
            what: "start and end of `true`, median",
            relay: format!("{:.2?}", wrapped.median()),
            peer: format!("{:.2?}", direct.median()),
            named: "no wrapper",
        },
        Row {
            what: "size of the program",
            relay: format!("{} kB", size(&entrypoint)? / 1_000),
            peer: "46100 kB".to_owned(),
            named: "Tekton's entrypoint, as published",
        },
    ])
}
