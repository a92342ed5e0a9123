//! What it costs a server to take lines in and make them durable.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use relay_tests::{
    measure::{cpu_time, mebibytes_per_second, now, status_of},
    service::Service,
};

use crate::{
    Bench, Length,
    http::{self, Connection},
    lines::{self, Kind},
    loki,
    report::{Claim, Report, Table, Verdict},
    rsyslog,
};

/// Runs of each contender.
const RUNS: u64 = 3;
/// Streams that are written at the same time.
pub(crate) const STREAMS: usize = 4;
/// Bytes of a stream that are under way at most: half of what an entrypoint keeps.
const WINDOW: usize = 4 << 20;

/// Requests that are sent again and again, at ever new offsets.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Bytes of a request before compression.
    piece: usize,
    bodies: Vec<Vec<u8>>,
    header: &'static str,
}

/// What a server did for a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Bytes before compression.
    pub(crate) bytes: u64,
    /// Until all was acknowledged, or written if nothing is.
    pub(crate) wall: Duration,
    /// Of the server alone.
    pub(crate) cpu: Duration,
    /// The server's largest resident set, in KiB.
    pub(crate) peak: u64,
    /// Bytes in its files.
    pub(crate) stored: u64,
}

impl Took {
    fn per_cpu_second(&self) -> f64 {
        mebibytes_per_second(self.bytes, self.cpu)
    }

    fn per_second(&self) -> f64 {
        mebibytes_per_second(self.bytes, self.wall)
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn share(&self) -> f64 {
        self.stored as f64 / self.bytes as f64
    }
}

impl Load {
    /// Lines as they are.
    pub(crate) fn plain(name: &'static str, kind: Kind, piece: usize) -> Self {
        let block = lines::block(kind);
        let bodies = block.chunks_exact(piece).map(<[u8]>::to_vec).collect();
        Self { name, piece, bodies, header: "" }
    }

    /// Lines that a program compresses.
    fn compressed(name: &'static str, program: &[&str], header: &'static str) -> Result<Self> {
        let plain = Self::plain(name, Kind::Real, 1 << 20);
        let bodies =
            plain.bodies.iter().map(|body| filter(program, body)).collect::<Result<_>>()?;
        Ok(Self { bodies, header, ..plain })
    }

    /// Requests of a stream that are under way at most.
    fn window(&self) -> usize {
        (WINDOW / self.piece).clamp(1, 16)
    }

    /// Writes `bytes` bytes to streams of these pods, which are new, and returns when all is durable.
    pub(crate) fn write(&self, url: &str, pods: &[String], bytes: u64) -> Result<Duration> {
        let each = bytes / u64::try_from(pods.len() * self.piece)?;
        let mut connection = Connection::open(url)?;
        let ids = pods.iter().map(|pod| http::create(&mut connection, pod));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let next: Vec<_> = ids.iter().map(|_| AtomicU64::new(0)).collect();
        let begun = now();
        thread::scope(|scope| {
            let threads: Vec<_> = ids
                .iter()
                .zip(&next)
                .flat_map(|stream| (0..self.window()).map(move |_| stream))
                .map(|(id, next)| scope.spawn(move || self.writer(url, id, (next, each))))
                .collect();
            let all = threads.into_iter().map(|thread| thread.join().expect("no writer panics"));
            all.collect::<Result<Vec<_>>>()
        })?;
        Ok(begun.elapsed())
    }

    /// Writes the first four pieces to each of these pods' streams, one piece to each in turn.
    pub(crate) fn write_in_turns(&self, url: &str, pods: &[String]) -> Result<()> {
        let mut connection = Connection::open(url)?;
        let ids = pods.iter().map(|pod| http::create(&mut connection, pod));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let piece = u64::try_from(self.piece)?;
        for (number, body) in (0..4).zip(&self.bodies) {
            for id in &ids {
                let at = (number * piece, piece);
                http::patch(&mut connection, id, at, (body, "Relay-Flush: now\r\n"))?;
            }
        }
        Ok(())
    }

    /// Writes to a file what [`write`](Self::write) writes to one stream.
    pub(crate) fn save(&self, path: &Path, bytes: u64) -> Result<()> {
        let mut file = fs::File::create(path)?;
        let count = usize::try_from(bytes)? / self.piece;
        self.bodies.iter().cycle().take(count).try_for_each(|body| file.write_all(body))?;
        Ok(())
    }

    /// A line.
    pub(crate) fn line(&self) -> &[u8] {
        &self.bodies[0][..lines::LINE]
    }

    /// One connection of a stream: takes the next piece until there is none.
    fn writer(&self, url: &str, id: &str, (next, count): (&AtomicU64, u64)) -> Result<()> {
        let mut connection = Connection::open(url)?;
        let piece = u64::try_from(self.piece)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let body = &self.bodies[usize::try_from(number)? % self.bodies.len()];
            // At the end there is nothing to wait for.
            let is_last = number + u64::try_from(self.window())? >= count;
            let flush = if is_last { "Relay-Flush: now\r\n" } else { "" };
            let more = format!("{}{flush}", self.header);
            http::patch(&mut connection, id, (number * piece, piece), (body, &more))?;
        }
    }
}

fn filter(program: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {}", program[0]))?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    let input = input.to_vec();
    let writer = thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let output = child.wait_with_output()?;
    writer.join().expect("it does not panic")?;
    ensure!(output.status.success(), "{} failed", program[0]);
    Ok(output.stdout)
}

/// Bytes that all files below a folder take.
pub(crate) fn stored(folder: &Path) -> Result<u64> {
    let output = Command::new("du").args(["-s", "-B1"]).arg(folder).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("du says nothing")?.parse()?)
}

/// One contender's runs.
struct Results {
    name: String,
    durable: &'static str,
    runs: Vec<Took>,
}

/// Measures Relay with every load, and its peers.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let bytes = bench.bytes(512);
    let loads = loads()?;
    let mut all: Vec<_> =
        loads.iter().map(|load| results(format!("Relay, {}", load.name), "yes")).collect();
    all.push(results("rsyslog, no sync".to_owned(), "no"));
    all.push(results("rsyslog, sync".to_owned(), "not told"));
    if bench.length == Length::Long {
        all.push(results("Loki".to_owned(), "page cache"));
    }
    for turn in 0..bench.runs(RUNS) {
        for (load, results) in loads.iter().zip(&mut all) {
            results.runs.push(relay(bench, load, bytes)?);
        }
        let rest = &mut all[loads.len()..];
        rest[0].runs.push(rsyslog::ingest(bench, rsyslog::Sync::Off, bytes)?);
        if turn == 0 {
            // One fsync for each batch of a few lines: once is long enough.
            rest[1].runs.push(rsyslog::ingest(bench, rsyslog::Sync::On, bytes / 16)?);
        }
        if bench.length == Length::Long && turn == 0 {
            rest[2].runs.push(loki::ingest(bench, bytes)?);
        }
    }
    claims(&all, report);
    report.table(table(&all));
    Ok(())
}

fn results(name: String, durable: &'static str) -> Results {
    Results { name, durable, runs: Vec::new() }
}

fn loads() -> Result<Vec<Load>> {
    Ok(vec![
        Load::plain("1 MiB", Kind::Real, 1 << 20),
        Load::plain("64 KiB", Kind::Real, 64 << 10),
        Load::compressed("1 MiB, gzip -6", &["gzip", "-6"], "Content-Encoding: gzip\r\n")?,
        Load::compressed("1 MiB, zstd -1", &["zstd", "-1", "-c"], "Content-Encoding: zstd\r\n")?,
        Load::plain("1 MiB, one line repeated", Kind::Same, 1 << 20),
    ])
}

fn relay(bench: &Bench, load: &Load, bytes: u64) -> Result<Took> {
    let folder = bench.store();
    let service = Service::on_folder(&folder);
    let process = service.process().id();
    let pods: Vec<_> = (0..STREAMS).map(|number| format!("ingest-{number}")).collect();
    let before = cpu_time(process)?;
    let wall = load.write(service.url(), &pods, bytes)?;
    let took = Took {
        bytes,
        wall,
        cpu: cpu_time(process)?.saturating_sub(before),
        peak: status_of(process, "VmHWM")?,
        stored: stored(&folder)?,
    };
    Ok(took)
}

/// The best of several runs: other work on the machine can only make it worse.
fn best(runs: &[Took], rate: impl Fn(&Took) -> f64) -> f64 {
    runs.iter().map(rate).fold(0.0, f64::max)
}

fn median(runs: &[Took], rate: impl Fn(&Took) -> f64) -> f64 {
    let mut rates: Vec<_> = runs.iter().map(rate).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn claims(all: &[Results], report: &mut Report) {
    let rate = |name: &str| {
        let results = all.iter().find(|results| results.name == name);
        results.map_or(0.0, |results| median(&results.runs, Took::per_cpu_second))
    };
    let peer = |name: &str| format!("{name} {:.0}", rate(name));
    let peers = ["rsyslog, no sync", "rsyslog, sync", "Loki"].into_iter();
    let peers: Vec<_> = peers.filter(|name| rate(name) > 0.0).map(peer).collect();
    for (what, name, target, least) in [
        (
            "ingest: MiB per CPU second at 1 MiB a request, durable, median",
            "Relay, 1 MiB",
            "150",
            150.0,
        ),
        ("ingest: the same at 64 KiB a request", "Relay, 64 KiB", "80", 80.0),
        ("ingest: the same, gzip, bytes before compression", "Relay, 1 MiB, gzip -6", "60", 60.0),
    ] {
        report.claim(Claim {
            what,
            target,
            relay: format!("{:.0}", rate(name)),
            peers: peers.join(", "),
            verdict: Verdict::of(|| rate(name) >= least),
        });
    }
}

fn table(all: &[Results]) -> Table {
    let head = [
        "",
        "durable",
        "MiB per CPU second, best",
        "median",
        "MiB/s, best",
        "median",
        "largest RSS",
        "stored",
    ];
    let mut table = Table::new("Ingest", &head).how(
        "100-byte lines on 4 streams (connections, for rsyslog) at the same time. CPU is the server's alone, the client's is not \
         counted. *durable*: whether an acknowledged line is synced. *stored*: share of the bytes that came.",
    );
    for Results { name, durable, runs } in all {
        let mut cells = vec![name.clone(), (*durable).to_owned()];
        for rate in [Took::per_cpu_second, Took::per_second] {
            cells.push(format!("{:.0}", best(runs, rate)));
            cells.push(format!("{:.0}", median(runs, rate)));
        }
        let peak = runs.iter().map(|run| run.peak).max().unwrap_or(0);
        cells.push(format!("{} MiB", peak >> 10));
        cells.push(format!("{:.0} %", median(runs, Took::share) * 100.0));
        table.row(cells);
    }
    table
}
