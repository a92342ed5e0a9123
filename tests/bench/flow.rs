//! Bytes through the wrapper: passed through, captured and dropped, captured and delivered.

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use relay_tests::{
    measure::{cpu_time, megabytes_per_second},
    program::program,
    service::Service,
};

use crate::{
    Bench,
    lines::{self, Kind},
    report::{Claim, Report, Table, Verdict, more_than, seconds},
    stopwatch::{Contender, Runs},
    wrapper::Wrapper,
};

/// Runs of each contender.
const RUNS: u64 = 5;
/// Captured and dropped, in MB/s.
const MIN_DRAIN: f64 = 2_000.0;
/// From the process into the store, in MB/s.
const MIN_DELIVERY: f64 = 200.0;
/// What capture may add to the CPU time of the process that writes, in percent.
const MAX_MORE_CPU: f64 = 5.0;

/// The process that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// It has its bytes already and does nothing but write them, 64 KiB at a time.
    Copies,
    /// It makes each line with `printf`; the C library writes 4 KiB at a time into a pipe.
    Prints,
}

/// What one contender took.
struct Took {
    name: &'static str,
    /// The wrapper with all below it.
    all: Runs,
    /// The process that writes.
    writer: Runs,
}

impl Writer {
    fn title(self) -> &'static str {
        match self {
            Self::Copies => "Throughput of a process that copies",
            Self::Prints => "Throughput of a process that prints",
        }
    }

    fn does(self) -> &'static str {
        match self {
            Self::Copies => "It does nothing but write what it has in memory, 64 KiB at a time.",
            Self::Prints => {
                "It makes each line with `printf`; the C library writes 4 KiB at a time."
            }
        }
    }

    fn pod(self) -> &'static str {
        match self {
            Self::Copies => "copies",
            Self::Prints => "prints",
        }
    }

    fn words(self, bench: &Bench, (file, length): (&str, u64)) -> Vec<OsString> {
        match self {
            Self::Copies => bench.stopwatch.task(&["pour", file, "65536"]),
            Self::Prints => bench.stopwatch.task(&["print", &length.to_string()]),
        }
    }
}

/// Measures all paths with both processes.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let path = bench.path("lines");
    let length = lines::write(&path, Kind::Real, bench.bytes(1 << 10))?;
    let file = path.display().to_string();
    let service = Service::on_folder(&bench.store());
    for writer in [Writer::Copies, Writer::Prints] {
        let served = cpu_time(service.process().id())?;
        let took = race(bench, writer, (&file, length), service.url())?;
        let served = cpu_time(service.process().id())?.saturating_sub(served);
        let runs = u32::try_from(bench.runs(RUNS) + 1)?;
        if writer == Writer::Copies {
            rates(&took, length, report)?;
        }
        report.claim(cpu(&took, writer)?);
        report.table(table(&took, writer, length, served / runs));
    }
    check(&service, &path)
}

fn wrappers(bench: &Bench, url: &str, pod: &'static str) -> Result<Vec<Wrapper>> {
    let copy = bench.path("tekton.out").display().to_string();
    let [passing, _] = Wrapper::tekton(bench, &[])?;
    let [mut capturing, _] = Wrapper::tekton(bench, &["-stdout_path", &copy])?;
    capturing.name = "Tekton, copied to a file";
    Ok(vec![
        Wrapper::none(),
        Wrapper::none_beside_a_busy_core(),
        Wrapper::tini(),
        Wrapper::dumb_init(),
        passing,
        capturing,
        Wrapper::relay_alone("Relay, captured and dropped", &[]),
        Wrapper::relay_alone("Relay, captured and passed on", &["--tee"]),
        Wrapper::relay("Relay, captured and delivered", url, pod),
    ])
}

fn race(bench: &Bench, writer: Writer, what: (&str, u64), url: &str) -> Result<Vec<Took>> {
    let wrappers = wrappers(bench, url, writer.pod())?;
    let own = |at: usize| format!("writer-{at}");
    let mut contenders: Vec<_> = wrappers
        .iter()
        .enumerate()
        .map(|(at, wrapper)| {
            let mut words = bench.stopwatch.measuring(&own(at));
            words.extend(writer.words(bench, what));
            bench.stopwatch.forget(&own(at));
            Contender::new(wrapper.name, move || into_cat(&wrapper.command(&words)))
        })
        .collect();
    let all = bench.stopwatch.race(bench.runs(RUNS), &mut contenders)?;
    let took = wrappers.iter().zip(all).enumerate().map(|(at, (wrapper, all))| {
        let writer = bench.stopwatch.runs(&own(at))?;
        // The first turn of a race does not count.
        Ok(Took { name: wrapper.name, all, writer: Runs::of(&writer[1..]) })
    });
    took.collect()
}

/// As a container's output goes: through a pipe, to a process that reads it.
fn into_cat(command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", "set -o pipefail; \"$@\" 2> /dev/null | cat > /dev/null", "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn named<'a>(all: &'a [Took], name: &str) -> Result<&'a Took> {
    all.iter().find(|took| took.name == name).with_context(|| format!("{name} was not measured"))
}

fn rates(all: &[Took], length: u64, report: &mut Report) -> Result<()> {
    let median = |name| anyhow::Ok(named(all, name)?.all.wall.median());
    let rate = |time| format!("{:.0} MB/s", megabytes_per_second(length, time));
    let drained = median("Relay, captured and dropped")?;
    let delivered = median("Relay, captured and delivered")?;
    let tekton = rate(median("Tekton, copied to a file")?);
    report.claim(Claim {
        what: "1 GiB of lines, captured and dropped, median",
        target: "2,000 MB/s",
        relay: rate(drained),
        peers: format!("no wrapper {}, Tekton to a file {tekton}", rate(median("no wrapper")?)),
        verdict: Verdict::of(|| megabytes_per_second(length, drained) >= MIN_DRAIN),
    });
    report.claim(Claim {
        what: "1 GiB of 100-byte lines, process to store, durable, median",
        target: "200 MB/s",
        relay: rate(delivered),
        peers: format!("Tekton to a file, not synced {tekton}"),
        verdict: Verdict::of(|| megabytes_per_second(length, delivered) >= MIN_DELIVERY),
    });
    Ok(())
}

/// CPU time of the process that writes, which is what capture costs the user.
fn cpu(all: &[Took], writer: Writer) -> Result<Claim> {
    let used = |name| anyhow::Ok(named(all, name)?.writer.cpu.median().as_secs_f64());
    let base = used("no wrapper")?;
    let relay = used("Relay, captured and delivered")?;
    Ok(Claim {
        what: match writer {
            Writer::Copies => {
                "the same: CPU of a process that only copies, against `| cat`, median"
            }
            Writer::Prints => "the same: CPU of a process that prints, against `| cat`, median",
        },
        target: "+5 %",
        relay: more_than(relay, base),
        peers: format!(
            "with a core busy {}, Tekton to a file {}",
            more_than(used("no wrapper, a core busy")?, base),
            more_than(used("Tekton, copied to a file")?, base)
        ),
        verdict: Verdict::of(|| relay <= base * (1.0 + MAX_MORE_CPU / 100.0)),
    })
}

fn table(all: &[Took], writer: Writer, length: u64, served: Duration) -> Table {
    let head = [
        "",
        "MB/s, best",
        "MB/s, median",
        "CPU of all, median",
        "of the writer: min",
        "median",
        "its user time",
    ];
    let mut table = Table::new(writer.title(), &head).how(format!(
        "{} MiB of 100-byte lines through the wrapper's stdout into `cat > /dev/null`. {} *CPU of all* is of the pipeline, `cat` \
         included; to it comes the log service's own for what is delivered: {} a run.",
        length >> 20,
        writer.does(),
        seconds(served)
    ));
    for Took { name, all, writer } in all {
        let rates = [all.wall.min(), all.wall.median()]
            .map(|time| format!("{:.0}", megabytes_per_second(length, time)));
        let own = &writer.cpu;
        let times = [all.cpu.median(), own.min(), own.median(), writer.user.median()]
            .map(|time| format!("{:.3} s", time.as_secs_f64()));
        table.row(std::iter::once((*name).to_owned()).chain(rates).chain(times));
    }
    table
}

/// What was delivered is what was written.
fn check(service: &Service, file: &Path) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "\"$0\" logs copies --previous --stream stdout | cmp - \"$1\""])
        .args([&program("relay"), file])
        .env("RELAY_LOG_URL", service.url())
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "what is stored differs from what was written");
    Ok(())
}
