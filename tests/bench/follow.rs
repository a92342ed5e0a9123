//! From the printing of a line to its arrival in a reader's pipe.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use relay_tests::{measure::Samples, program::program, service::Service};

use crate::{
    Bench, Length, loki,
    report::{Claim, Report, Table, Verdict, millis},
    rsyslog::{Rsyslog, Sync},
    wrapper::Wrapper,
};

pub(crate) mod crowd;

/// Lines, one every 130 ms: so that they meet the hold time of 200 ms at every phase.
pub(crate) const LINES: u64 = 150;
const INTERVAL_MILLIS: &str = "130";
const P50: Duration = Duration::from_millis(150);
const P99: Duration = Duration::from_millis(500);

/// Measures one writer and one reader.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut all = vec![
        ("Relay: entrypoint, `relay logs -f`", relay(bench)?),
        ("rsyslog: TCP, no sync, `tail -f`", rsyslog(bench)?),
    ];
    if bench.length == Length::Long {
        all.push(("Loki: push, tail over a websocket, `delay_for=0`", loki::follow(bench)?));
    }
    let mut table = Table::new("Following", &["", "min", "p50", "p99", "max"]).how(format!(
        "A program prints the time, {} lines, one every {INTERVAL_MILLIS} ms; the reader compares it with the time at which the \
         line came.",
        lines(bench)
    ));
    for (name, delays) in &all {
        let cells = [0.0, 0.5, 0.99, 1.0].map(|share| millis(delays.quantile(share)));
        table.row(std::iter::once((*name).to_owned()).chain(cells));
    }
    let both = |at: usize| {
        let (name, delays) = &all[at];
        let name = name.split(':').next().unwrap_or_default();
        format!("{name} {}, {}", millis(delays.median()), millis(delays.quantile(0.99)))
    };
    let relay = &all[0].1;
    report.claim(Claim {
        what: "follow: line printed to line read, p50, p99",
        target: "150 ms, 500 ms",
        relay: both(0).trim_start_matches("Relay ").to_owned(),
        peers: (1..all.len()).map(both).collect::<Vec<_>>().join("; "),
        verdict: Verdict::of(|| relay.median() <= P50 && relay.quantile(0.99) <= P99),
    });
    report.table(table);
    Ok(())
}

fn lines(bench: &Bench) -> usize {
    bench.runs(LINES)
}

/// The program that prints, with its output in a pipe.
pub(crate) fn ticker(bench: &Bench, wrapper: &Wrapper) -> Command {
    let count = lines(bench).to_string();
    let mut command = wrapper.command(&bench.stopwatch.task(&["tick", &count, INTERVAL_MILLIS]));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// How long ago the time was that a line holds.
pub(crate) fn age(line: &str) -> Result<Duration> {
    let printed = Duration::from_nanos(line.trim().parse().with_context(|| line.to_owned())?);
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.saturating_sub(printed))
}

/// Ages of all lines as they come.
pub(crate) fn ages(bench: &Bench, reader: impl Read) -> Result<Samples> {
    let count = lines(bench);
    let ages = BufReader::new(reader).lines().take(count).map(|line| age(&line?));
    let ages = ages.collect::<Result<Vec<_>>>()?;
    ensure!(ages.len() == count, "{} of {count} lines arrived", ages.len());
    Ok(Samples::new(ages))
}

fn reader(command: &mut Command) -> Result<(Child, ChildStdout)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout = child.stdout.take().context("the reader has no output")?;
    Ok((child, stdout))
}

fn relay(bench: &Bench) -> Result<Samples> {
    let service = Service::on_folder(&bench.store());
    let mut command = Command::new(program("relay"));
    command.env("RELAY_LOG_URL", service.url()).args(["logs", "-f", "clock"]);
    let (mut child, stdout) = reader(&mut command)?;
    let mut writer = ticker(bench, &Wrapper::relay("Relay", service.url(), "clock")).spawn()?;
    let ages = ages(bench, stdout)?;
    writer.wait()?;
    child.wait()?;
    Ok(ages)
}

fn rsyslog(bench: &Bench) -> Result<Samples> {
    let rsyslog = Rsyslog::start(&bench.store(), Sync::Off)?;
    std::fs::File::create(&rsyslog.file)?;
    let (mut child, stdout) = tail(&rsyslog.file)?;
    let mut connection = TcpStream::connect(("127.0.0.1", rsyslog.port))?;
    connection.set_nodelay(true)?;
    let mut ticker = ticker(bench, &Wrapper::none()).spawn()?;
    let ticks = ticker.stdout.take().context("the program has no output")?;
    let sender = std::thread::spawn(move || -> Result<()> {
        for line in BufReader::new(ticks).lines() {
            connection.write_all(format!("{}\n", line?).as_bytes())?;
        }
        Ok(())
    });
    let ages = ages(bench, stdout);
    child.kill()?;
    child.wait()?;
    ticker.wait()?;
    sender.join().expect("it does not panic")?;
    ages
}

fn tail(file: &Path) -> Result<(Child, ChildStdout)> {
    reader(Command::new("tail").args(["-n", "+1", "-f"]).arg(file))
}
