//! A service with much in its store: memory, restart, the end of a long log.

use std::{fs, io::Read, path::Path, process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use relay_tests::{
    measure::{Samples, now, status_of},
    program::program,
    service::Service,
};

use crate::{
    Bench,
    http::{self, Connection, Request},
    ingest::Load,
    lines::Kind,
    report::{Claim, Report, Table, Verdict, millis},
    stopwatch::Contender,
};

/// Kills and restarts.
const RESTARTS: u64 = 7;
/// Runs of `tail`.
const TAILS: u64 = 20;
/// Streams that are open at the same time.
const MANY: usize = 1_000;
const IDLE_KIB: u64 = 64 << 10;
const MANY_KIB: u64 = 256 << 10;
const RESTART: Duration = Duration::from_secs(1);
const TAIL: Duration = Duration::from_millis(150);

/// Measures one service after the other.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut table = Table::new("Memory of the log service", &["", "RSS", "peak"]);
    many(bench, report, &mut table)?;
    let folder = bench.store();
    let mut service = Service::on_folder(&folder);
    let load = Load::plain("1 MiB", Kind::Real, 1 << 20);
    let bytes = bench.bytes(1 << 10);
    load.write(service.url(), &["stored".to_owned()], bytes)?;
    note(&service, "after 1 GiB into one stream", &mut table)?;
    report.table(table);
    tail(bench, &service, (&load, bytes), report)?;
    restart(bench, &mut service, (&load, bytes), report)?;
    Ok(())
}

fn note(service: &Service, when: &str, table: &mut Table) -> Result<[u64; 2]> {
    let process = service.process().id();
    let figures = [status_of(process, "VmRSS")?, status_of(process, "VmHWM")?];
    let cells = figures.map(|kib| format!("{}.{} MiB", kib >> 10, ((kib & 1023) * 10) >> 10));
    table.row(std::iter::once(when.to_owned()).chain(cells));
    Ok(figures)
}

/// Many streams, each with some bytes, written at the same time by many writers.
fn many(bench: &Bench, report: &mut Report, table: &mut Table) -> Result<()> {
    let folder = bench.store();
    let service = Service::on_folder(&folder);
    Connection::open(service.url())?.ask(Request {
        line: "GET /readyz",
        headers: "",
        body: b"",
    })?;
    let [idle, _] = note(&service, "idle", table)?;
    let load = Load::plain("64 KiB", Kind::Real, 64 << 10);
    let pods: Vec<_> = (0..MANY).map(|number| format!("many-{number}")).collect();
    thread::scope(|scope| {
        // A hundred streams have data under way at any moment.
        let (load, service) = (&load, &service);
        let writer = |pods| scope.spawn(move || load.write_in_turns(service.url(), pods));
        let threads: Vec<_> = pods.chunks(MANY / 100).map(writer).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no writer panics"))
    })?;
    let [many, peak] = note(&service, "with 1,000 open streams of 256 KiB", table)?;
    service.kill();
    let mebibytes = |kib: u64| format!("{} MiB", kib >> 10);
    report.claim(Claim {
        what: "log service, idle: resident memory",
        target: "64 MiB",
        relay: mebibytes(idle),
        peers: String::new(),
        verdict: Verdict::of(|| idle <= IDLE_KIB),
    });
    report.claim(Claim {
        what: "log service with 1,000 open streams: resident memory, largest",
        target: "256 MiB",
        relay: format!("{}, {}", mebibytes(many), mebibytes(peak)),
        peers: String::new(),
        verdict: Verdict::of(|| peak <= MANY_KIB),
    });
    Ok(())
}

/// The last lines of what was stored, which must be the last lines of what was written.
fn tail(bench: &Bench, service: &Service, load: (&Load, u64), report: &mut Report) -> Result<()> {
    let file = bench.path("written");
    load.0.save(&file, load.1)?;
    let relay = || {
        let mut relay = Command::new(program("relay"));
        relay.env("RELAY_LOG_URL", service.url());
        relay.args(["logs", "stored", "--tail", "1000"]);
        relay
    };
    let plain = || plain_tail(&file);
    ensure!(
        relay().output()?.stdout == plain().output()?.stdout,
        "the tail differs from what was written"
    );
    let mut contenders = [Contender::new("relay logs", relay), Contender::new("tail", plain)];
    let runs = bench.stopwatch.race(bench.runs(TAILS), &mut contenders)?;
    drop(contenders);
    let medians = [&runs[0], &runs[1]].map(|runs| runs.wall.median());
    report.claim(Claim {
        what: "the last 1,000 lines of 1 GiB: `relay logs --tail`, warm, median",
        target: "150 ms",
        relay: millis(medians[0]),
        peers: format!("tail on the plain file {}", millis(medians[1])),
        verdict: Verdict::of(|| medians[0] <= TAIL),
    });
    Ok(fs::remove_file(file)?)
}

fn plain_tail(file: &Path) -> Command {
    let mut tail = Command::new("tail");
    tail.args(["-n", "1000"]).arg(file);
    tail
}

/// Killed and started again: until a read and a write of the long log are answered.
fn restart(
    bench: &Bench,
    service: &mut Service,
    (load, mut end): (&Load, u64),
    report: &mut Report,
) -> Result<()> {
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..bench.runs(RESTARTS) {
        service.kill_9();
        let begun = now();
        service.restart();
        took[0].push(begun.elapsed());
        let mut connection = Connection::open(service.url())?;
        read_end(&mut connection)?;
        took[1].push(begun.elapsed());
        let mut connection = Connection::open(service.url())?;
        let id = http::create(&mut connection, "stored")?;
        let line = load.line();
        let length = u64::try_from(line.len())?;
        http::patch(&mut connection, &id, (end, length), (line, "Relay-Flush: now\r\n"))?;
        took[2].push(begun.elapsed());
        end += length;
    }
    let all = took.map(Samples::new);
    let mut table =
        Table::new("Restart after SIGKILL with 1 GiB stored", &["until", "min", "median", "max"])
            .how("From the start of the program; what is stored is in the page cache.");
    for (name, samples) in
        ["it listens", "a read was answered", "a write was durable, too"].iter().zip(&all)
    {
        let cells = [samples.min(), samples.median(), samples.quantile(1.0)].map(millis);
        table.row(std::iter::once((*name).to_owned()).chain(cells));
    }
    report.table(table);
    let worst = all[2].quantile(1.0);
    report.claim(Claim {
        what: "restart after SIGKILL with 1 GiB stored, until a read and a write are answered, largest",
        target: "1 s",
        relay: millis(worst),
        peers: String::new(),
        verdict: Verdict::of(|| worst < RESTART),
    });
    Ok(())
}

fn read_end(connection: &mut Connection) -> Result<()> {
    let line = "GET /api/namespaces/local/pods/stored/logs?tail=1";
    connection.send(Request { line, headers: "Connection: close\r\n", body: b"" })?;
    let (status, _) = connection.head()?;
    let mut body = Vec::new();
    connection.raw().read_to_end(&mut body)?;
    ensure!(status == 200 && !body.is_empty(), "a reader got {status}");
    Ok(())
}
