//! What it costs to be in front of a process: until it runs, and until all is over.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use relay_tests::{measure::Samples, service::Service};

use crate::{
    Bench,
    report::{Claim, Report, Table, Verdict, millis},
    stopwatch::{Contender, Runs},
    wrapper::Wrapper,
};

/// Runs of each contender.
const STARTS: u64 = 200;
/// What Relay may take longer than tini, until the command is executed.
const BEHIND_TINI: Duration = Duration::from_millis(2);
/// Largest program, in bytes.
const MAX_SIZE: u64 = 4_000_000;

/// What one way to start a command took.
struct Took {
    name: &'static str,
    size: Option<u64>,
    /// From the execution of the wrapper to that of the command.
    exec: Samples,
    runs: Runs,
}

/// Measures all ways to start a command that ends at once.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let service = Service::on_folder(&bench.store());
    let [without_spire, tekton] = Wrapper::tekton(bench, &[])?;
    let wrappers = [
        Wrapper::none(),
        Wrapper::tini(),
        Wrapper::dumb_init(),
        without_spire,
        tekton,
        Wrapper::relay_without_url(),
        Wrapper::relay("Relay, service up", service.url(), "start"),
        Wrapper::relay_alone("Relay, service down", &[]),
    ];
    let took = race(bench, &wrappers)?;
    report.claim(claim(&took)?);
    report.claim(size(&took)?);
    report.table(table(&took));
    Ok(())
}

fn race(bench: &Bench, wrappers: &[Wrapper]) -> Result<Vec<Took>> {
    let marks = |wrapper: &Wrapper| format!("mark {}", wrapper.name);
    for wrapper in wrappers {
        bench.stopwatch.forget(&marks(wrapper));
    }
    let mut contenders: Vec<_> = wrappers
        .iter()
        .map(|wrapper| {
            let words = bench.stopwatch.mark(&marks(wrapper));
            Contender::new(wrapper.name, move || wrapper.command(&words))
        })
        .collect();
    let runs = bench.stopwatch.race(bench.runs(STARTS), &mut contenders)?;
    let took = wrappers.iter().zip(runs).map(|(wrapper, runs)| {
        let size = wrapper.file().map(fs::metadata).transpose()?.map(|file| file.len());
        let exec = bench.stopwatch.marked(&marks(wrapper))?;
        Ok(Took { name: wrapper.name, size, exec, runs })
    });
    took.collect()
}

fn named<'a>(all: &'a [Took], name: &str) -> Result<&'a Took> {
    all.iter().find(|took| took.name == name).with_context(|| format!("{name} was not measured"))
}

fn claim(all: &[Took]) -> Result<Claim> {
    let (relay, tini) = (named(all, "Relay, service up")?, named(all, "tini")?);
    let both = |took: &Took| {
        let (exec, wall) = (took.exec.median(), took.runs.wall.median());
        format!("{} of {} in all", millis(exec), millis(wall))
    };
    let peers = ["tini", "dumb-init", "Tekton, no SPIRE", "Tekton"]
        .map(|name| named(all, name).map(|took| format!("{name} {}", both(took))));
    Ok(Claim {
        what: "execution of the entrypoint to execution of the command, service up, median",
        target: "tini + 2 ms",
        relay: both(relay),
        peers: peers.into_iter().collect::<Result<Vec<_>>>()?.join(", "),
        verdict: Verdict::of(|| relay.exec.median() <= tini.exec.median() + BEHIND_TINI),
    })
}

fn size(all: &[Took]) -> Result<Claim> {
    let size = |name: &str| named(all, name)?.size.context("it has no program");
    let megabytes = |bytes: u64| format!("{}.{:02} MB", bytes / 1_000_000, bytes / 10_000 % 100);
    let relay = size("Relay, service up")?;
    let peers = ["tini", "dumb-init", "Tekton, no SPIRE", "Tekton"];
    let peers = peers.map(|name| Ok(format!("{name} {}", megabytes(size(name)?))));
    Ok(Claim {
        what: "size of the program",
        target: "4 MB",
        relay: megabytes(relay),
        peers: peers.into_iter().collect::<Result<Vec<_>>>()?.join(", "),
        verdict: Verdict::of(|| relay <= MAX_SIZE),
    })
}

fn table(all: &[Took]) -> Table {
    let head = ["", "exec, min", "exec, median", "wall, min", "wall, median", "CPU, median"];
    let mut table = Table::new("Start", &head).how(
        "A command that ends at once, under each wrapper in turns. *exec* is the time from the wrapper's execve to the command's \
         first instruction: the command is a static program that reads the clock before anything else. *wall* and *CPU* are of \
         the whole run, the command's end and the delivery of its log's end included.",
    );
    for Took { name, exec, runs, .. } in all {
        let times = [exec.min(), exec.median(), runs.wall.min(), runs.wall.median()];
        let cells = times.into_iter().chain([runs.cpu.median()]).map(millis);
        table.row(std::iter::once((*name).to_owned()).chain(cells));
    }
    table
}
