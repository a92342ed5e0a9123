//! Memory of wrappers whose command does nothing.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use relay_tests::{
    measure::{now, status_of},
    service::Service,
    wait::eventually,
};

use crate::{
    Bench,
    report::{Claim, Report, Table, Verdict},
    wrapper::Wrapper,
};

/// Largest resident set of an idle entrypoint.
const MAX_KIB: u64 = 3_000_000 / 1024;
/// Figures of `/proc/PID/status`.
const FIGURES: [&str; 4] = ["VmRSS", "RssAnon", "VmHWM", "Threads"];

/// A wrapper and its waiting command, which end when this is dropped.
struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let mut kill = std::process::Command::new("kill");
        drop(kill.arg("-9").args(children.split_whitespace()).stderr(Stdio::null()).status());
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Measures all wrappers at the same time, a second after their start.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let service = Service::on_folder(&bench.store());
    let [without_spire, tekton] = Wrapper::tekton(bench, &[])?;
    let wrappers = [
        Wrapper::tini(),
        Wrapper::dumb_init(),
        without_spire,
        tekton,
        Wrapper::relay("Relay, service up", service.url(), "idle"),
        Wrapper::relay_alone("Relay, service down", &[]),
    ];
    let words = bench.stopwatch.task(&["hold"]);
    let start = |wrapper: &Wrapper| {
        let mut command = wrapper.command(&words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        anyhow::Ok(Idle(command.spawn()?))
    };
    let running = wrappers.iter().map(start).collect::<Result<Vec<_>>>()?;
    let begun = now();
    eventually(Duration::from_secs(30), "it has settled", || begun.elapsed().as_secs() >= 1);
    let figures = running.iter().map(figures).collect::<Result<Vec<_>>>()?;
    let mut table =
        Table::new("Memory of an idle wrapper", &["", "RSS", "anonymous", "peak", "threads"])
            .how("A second after the start of a command that does nothing.");
    for (wrapper, [resident, anonymous, peak, threads]) in wrappers.iter().zip(&figures) {
        let kib = [resident, anonymous, peak].map(|kib| format!("{kib} KiB"));
        let cells = std::iter::once(wrapper.name.to_owned()).chain(kib);
        table.row(cells.chain([threads.to_string()]));
    }
    let resident = |at: usize| format!("{} {} KiB", wrappers[at].name, figures[at][0]);
    let largest = figures[4][0].max(figures[5][0]);
    report.claim(Claim {
        what: "entrypoint, idle: resident memory",
        target: "3 MB",
        relay: format!("{largest} KiB"),
        peers: (0..4).map(resident).collect::<Vec<_>>().join(", "),
        verdict: Verdict::of(|| largest <= MAX_KIB),
    });
    report.table(table);
    Ok(())
}

fn figures(idle: &Idle) -> Result<[u64; 4]> {
    let mut figures = [0; 4];
    for (figure, name) in figures.iter_mut().zip(FIGURES) {
        *figure = status_of(idle.0.id(), name).context("a wrapper ended early")?;
    }
    Ok(figures)
}
