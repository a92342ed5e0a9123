//! A gibibyte of lines from a process into the store, and the end of it back out.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use relay_tests::{
    measure::{Runs, cpu_time, megabytes_per_second, resident_kib},
    program::program,
    service::Service,
};

use crate::Row;

/// Lines of 100 bytes: 1 GiB of them is what other collectors were measured with.
const LINES: u64 = (1 << 30) / 100;

pub(crate) fn rows() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let lines = folder.path().join("lines");
    write_lines(&lines)?;
    let service = Service::on_folder(&folder.path().join("logs"));
    let idle_kib = resident_kib(service.process())?;
    let before = cpu_time(service.process())?;
    let direct = timed(Command::new("cat").arg(&lines))?;
    let begun = SystemTime::now();
    let status = Command::new(program("entrypoint"))
        .env("RELAY_LOG_URL", service.url())
        .env("RELAY_POD", "bench")
        .args(["--", "cat"])
        .arg(&lines)
        .stderr(Stdio::null())
        .status()?;
    let took = begun.elapsed()?;
    ensure!(status.success(), "the entrypoint ended with {status}");
    let used = cpu_time(service.process())?.saturating_sub(before);
    let tail = tail(&service, &lines)?;
    Ok(vec![
        row("1 GiB of lines, process to store", took, direct, "cat to /dev/null"),
        Row {
            what: "log service: bytes per CPU second",
            relay: format!("{:.0} MB/s", megabytes_per_second(LINES * 100, used)),
            peer: "41 MB/s".to_owned(),
            named: "VictoriaLogs, measured once on a like machine",
        },
        Row {
            what: "log service: resident, idle and after 1 GiB",
            relay: format!("{}, {} MB", idle_kib / 1_000, resident_kib(service.process())? / 1_000),
            peer: "1451 MB".to_owned(),
            named: "Loki, measured once on a like machine",
        },
        tail,
        drain(&lines)?,
    ])
}

fn row(what: &'static str, took: Duration, peer: Duration, named: &'static str) -> Row {
    let rate = |time| format!("{:.0} MB/s", megabytes_per_second(LINES * 100, time));
    Row { what, relay: rate(took), peer: rate(peer), named }
}

/// The last lines of what was stored, which must be the last lines of what was written.
fn tail(service: &Service, lines: &Path) -> Result<Row> {
    let relay = || {
        let mut relay = Command::new(program("relay"));
        relay.env("RELAY_LOG_URL", service.url());
        relay.args(["logs", "bench", "--tail", "1000", "--stream", "stdout"]);
        relay
    };
    let last = Command::new("tail").args(["-n", "1000"]).arg(lines).output()?.stdout;
    ensure!(relay().output()?.stdout == last, "the tail differs from what was written");
    let relay = Runs::of(20, relay)?;
    let peer = Runs::of(20, || {
        let mut tail = Command::new("tail");
        tail.args(["-n", "1000"]).arg(lines);
        tail
    })?;
    Ok(Row {
        what: "tail of 1000 lines of 1 GiB, median",
        relay: format!("{:.1?}", relay.median()),
        peer: format!("{:.1?}", peer.median()),
        named: "tail on the plain file",
    })
}

/// Captured and dropped: nobody listens, and nothing blocks.
fn drain(lines: &Path) -> Result<Row> {
    let took = timed(
        Command::new(program("entrypoint"))
            .args(["--log-url", "http://127.0.0.1:9", "--block-max", "0", "--flush-max", "0"])
            .args(["--", "cat"])
            .arg(lines)
            .stderr(Stdio::null()),
    )?;
    let pipe = timed(Command::new("sh").args(["-c", "cat \"$0\" | cat > /dev/null"]).arg(lines))?;
    Ok(row("1 GiB of lines, captured and dropped", took, pipe, "cat | cat"))
}

fn timed(command: &mut Command) -> Result<Duration> {
    let begun = SystemTime::now();
    command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    Ok(begun.elapsed()?)
}

/// Lines that differ, as those of a log do.
fn write_lines(path: &Path) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..LINES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line = format!(
            "{number:010} INFO request served path=/v1/items/{:06} status=200",
            state % 1_000_000
        );
        writeln!(file, "{line:<82} id={:013}", state >> 24)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(file.flush()?)
}
