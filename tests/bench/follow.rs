//! From the printing of a line to its arrival in a reader's pipe.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use relay_tests::{measure::quantile, program::program, service::Service};

use crate::Row;

/// Lines, one every 130 ms: so that they meet the hold time of 200 ms at every phase.
const LINES: usize = 100;

pub(crate) fn rows() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let service = Service::on_folder(&folder.path().join("logs"));
    let mut reader = Command::new(program("relay"))
        .env("RELAY_LOG_URL", service.url())
        .args(["logs", "-f", "clock"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut writer = Command::new(program("entrypoint"))
        .env("RELAY_LOG_URL", service.url())
        .env("RELAY_POD", "clock")
        .args(["--", "sh", "-c"])
        .arg(format!("for i in $(seq {LINES}); do date +%s%N; sleep 0.13; done"))
        .stderr(Stdio::null())
        .spawn()?;
    let mut delays = BufReader::new(reader.stdout.take().context("the reader has no output")?)
        .lines()
        .map(|line| {
            let printed = Duration::from_nanos(line?.parse()?);
            Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.saturating_sub(printed))
        })
        .collect::<Result<Vec<_>>>()?;
    writer.wait()?;
    reader.wait()?;
    ensure!(delays.len() == LINES, "{} of {LINES} lines arrived", delays.len());
    delays.sort();
    Ok(vec![Row {
        what: "follow: line printed to line read, p50, p99",
        relay: format!("{:.0?}, {:.0?}", quantile(&delays, 0.5), quantile(&delays, 0.99)),
        peer: "180 ms".to_owned(),
        named: "Loki, p50, measured once on a like machine",
    }])
}
