//! What masking costs, by the number of secrets.

use std::{ffi::OsString, process::Command};

use anyhow::Result;
use relay_tests::measure::megabytes_per_second;

use crate::{
    Bench,
    lines::{self, Kind},
    report::{Report, Table, seconds},
    stopwatch::{Contender, Runs},
    wrapper::Wrapper,
};

/// Runs of each contender.
const RUNS: u64 = 5;
/// Secrets that are registered, none of which occurs in the lines.
const SECRETS: [(usize, &str); 4] =
    [(0, "no secret"), (1, "1 secret"), (100, "100 secrets"), (10_000, "10,000 secrets")];

/// Measures the entrypoint with secrets, capturing and dropping.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let file = bench.folder("masked");
    let length = lines::write(&file, Kind::Real, bench.bytes(512))?;
    let path = file.display().to_string();
    let writer = |at: usize| format!("masked-writer-{at}");
    let mut contenders: Vec<_> = SECRETS
        .iter()
        .enumerate()
        .map(|(at, (count, name))| {
            let mut words = bench.stopwatch.measuring(&writer(at));
            words.extend(bench.stopwatch.task(&["pour", &path, "65536"]));
            bench.stopwatch.forget(&writer(at));
            Contender::new(name, move || with_secrets(*count, &words))
        })
        .collect();
    let all = bench.stopwatch.race(bench.runs(RUNS), &mut contenders)?;
    let head =
        ["", "MB/s, best", "MB/s, median", "CPU of the entrypoint, median", "MB per CPU second"];
    let mut table = Table::new("Masking", &head).how(format!(
        "{} MiB of 100-byte lines, captured, searched for secrets of 24 bytes that do not occur, and dropped. \
         The CPU of the process that writes is not counted.",
        length >> 20
    ));
    for (at, ((_, name), all)) in SECRETS.iter().zip(all).enumerate() {
        let writer = Runs::of(&bench.stopwatch.runs(&writer(at))?[1..]);
        let own = all.cpu.median().saturating_sub(writer.cpu.median());
        let rate = |time| format!("{:.0}", megabytes_per_second(length, time));
        table.row([
            (*name).to_owned(),
            rate(all.wall.min()),
            rate(all.wall.median()),
            seconds(own),
            rate(own),
        ]);
    }
    report.table(table);
    Ok(std::fs::remove_file(file)?)
}

fn with_secrets(count: usize, words: &[OsString]) -> Command {
    let names: Vec<_> = (0..count).map(|number| format!("S{number}")).collect();
    let options: Vec<_> = names.iter().flat_map(|name| ["--mask-env", name]).collect();
    let mut command = Wrapper::relay_alone("masking", &options).command(words);
    for (number, name) in names.iter().enumerate() {
        // Different from the first byte on, as secrets are.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        command.env(name, format!("{:024x}", u128::try_from(mixed).expect("it fits") << 24));
    }
    command
}
