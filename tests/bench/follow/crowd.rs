//! What readers cost writers: many followers, one of which never reads.

use std::{
    io::Read,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use relay_tests::{
    measure::{Samples, cpu_time, mebibytes_per_second, now, status_of},
    service::Service,
    wait::eventually,
};

use crate::{
    Bench,
    http::{self, Connection, Request},
    ingest::{Load, STREAMS},
    lines::{self, Kind},
    report::{Claim, Report, Table, Verdict, more_than, seconds},
};

/// Runs with and without followers.
const RUNS: u64 = 5;
/// Followers, with the one that never reads.
const FOLLOWERS: usize = 500;
/// A log that people follow: 100 lines a second.
const TRICKLE: (Duration, usize) = (Duration::from_millis(100), 10 * lines::LINE);
/// What they may cost, in percent.
const MAX_COST: f64 = 5.0;

/// What one run took.
struct Took {
    wall: Duration,
    cpu: Duration,
    peak: u64,
}

/// Measures ingest with and without them, in turns.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let load = Load::plain("64 KiB", Kind::Real, 64 << 10);
    let bytes = bench.bytes(256);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs(RUNS) {
        without.push(run(bench, &load, (bytes, 0))?);
        with.push(run(bench, &load, (bytes, FOLLOWERS))?);
    }
    let walls = |all: &[Took]| Samples::new(all.iter().map(|took| took.wall).collect());
    let cpus = |all: &[Took]| Samples::new(all.iter().map(|took| took.cpu).collect());
    let mut table = Table::new("Ingest beside followers", &["", "MiB/s, best", "median", "CPU, min", "median", "largest RSS"])
        .how(format!(
            "{} MiB in requests of 64 KiB on {STREAMS} streams, beside a log of 100 lines a second that {} readers follow, and one \
             reader of a stream that is written at full speed, who never reads. CPU is the service's, for ingest and readers.",
            bytes >> 20,
            FOLLOWERS - 1
        ));
    for (name, all) in [("no followers", &without), ("500 followers, one stalled", &with)] {
        let (walls, cpus) = (walls(all), cpus(all));
        let rates = [walls.min(), walls.median()]
            .map(|wall| format!("{:.0}", mebibytes_per_second(bytes, wall)));
        let times = [cpus.min(), cpus.median()].map(seconds);
        let peak = all.iter().map(|took| took.peak).max().unwrap_or(0);
        let cells = std::iter::once(name.to_owned()).chain(rates).chain(times);
        table.row(cells.chain([format!("{} MiB", peak >> 10)]));
    }
    report.table(table);
    let [base, cost] = [&without, &with].map(|all| walls(all).median().as_secs_f64());
    report.claim(Claim {
        what: "500 followers, one stalled: time that ingest takes longer, median",
        target: "+5 %",
        relay: more_than(cost, base),
        peers: String::new(),
        verdict: Verdict::of(|| cost <= base * (1.0 + MAX_COST / 100.0)),
    });
    Ok(())
}

fn run(bench: &Bench, load: &Load, (bytes, followers): (u64, usize)) -> Result<Took> {
    let folder = bench.store();
    let service = Service::on_folder(&folder);
    let process = service.process().id();
    let pods: Vec<_> = (0..STREAMS).map(|number| format!("busy-{number}")).collect();
    let (read, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut trickle = Connection::open(service.url())?;
    let id = http::create(&mut trickle, "watched")?;
    let url = service.url().to_owned();
    let took = thread::scope(|scope| -> Result<Took> {
        let stalled = (followers > 0).then(|| follow(&url, "busy-0")).transpose()?;
        for _ in 1..followers {
            let mut follower = follow(&url, "watched")?;
            let (read, thread) = (&read, thread::Builder::new().stack_size(128 << 10));
            thread.spawn_scoped(scope, move || drain(&mut follower, read))?;
        }
        let trickling = scope.spawn(|| write_slowly(&mut trickle, &id, &over));
        eventually(Duration::from_mins(1), "all followers read", || {
            read.load(Ordering::Relaxed) >= followers.saturating_sub(1)
        });
        let before = cpu_time(process)?;
        let wall = load.write(&url, &pods, bytes);
        let cpu = cpu_time(process)?.saturating_sub(before);
        over.store(true, Ordering::Relaxed);
        trickling.join().expect("it does not panic")?;
        let peak = status_of(process, "VmHWM")?;
        // Its followers end with it.
        service.kill();
        drop(stalled);
        Ok(Took { wall: wall?, cpu, peak })
    })?;
    Ok(took)
}

fn follow(url: &str, pod: &str) -> Result<Connection> {
    let mut connection = Connection::open(url)?;
    let line = format!("GET /api/namespaces/local/pods/{pod}/logs?follow=true");
    connection.send(Request { line: &line, headers: "Accept: text/plain\r\n", body: b"" })?;
    Ok(connection)
}

/// Reads to the end; tells when the first bytes of the log have come.
fn drain(follower: &mut Connection, read: &AtomicUsize) -> Result<()> {
    let (status, _) = follower.head()?;
    ensure!(status == 200, "a follower got {status}");
    let mut buffer = [0; 16 << 10];
    let mut count = follower.raw().read(&mut buffer)?;
    read.fetch_add(1, Ordering::Relaxed);
    while count > 0 {
        count = follower.raw().read(&mut buffer)?;
    }
    Ok(())
}

/// Writes a log that people follow, until the run is over.
fn write_slowly(connection: &mut Connection, id: &str, over: &AtomicBool) -> Result<()> {
    let block = lines::block(Kind::Real);
    let (pause, bytes) = TRICKLE;
    let begun = now();
    for (number, piece) in (0_u32..).zip(block.chunks_exact(bytes)) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let length = u64::try_from(bytes)?;
        let headers = "";
        http::patch(connection, id, (u64::from(number) * length, length), (piece, headers))?;
        thread::park_timeout((pause * number).saturating_sub(begun.elapsed()));
    }
    Ok(())
}
