//! What masking costs, by the number of secrets.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, process::Command};

use anyhow::Result;
use relay_tests::measure::megabytes_per_second;

use crate::{
    Bench,
    lines::{self, Kind, Numbers},
    report::{Claim, Report, Table, Verdict, seconds},
    stopwatch::{Contender, Runs},
    wrapper::Wrapper,
};

/// Runs of each contender.
const RUNS: u64 = 5;
const SECRET_BYTES: usize = 24;
/// Letters and digits, of which most tokens are.
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// The worst case: numbers and ids of the lines look like the beginning of one of 10,000 secrets.
const HEXADECIMAL: &[u8] = b"0123456789abcdef";
/// Secrets that are registered, none of which occurs in the lines.
const SECRETS: [(usize, &[u8], &str); 5] = [
    (0, ALPHABET, "no secret"),
    (1, ALPHABET, "1 secret"),
    (100, ALPHABET, "100 secrets"),
    (10_000, ALPHABET, "10,000 secrets"),
    (10_000, HEXADECIMAL, "10,000 secrets of hexadecimal digits"),
];

/// Measures the entrypoint with secrets, capturing and dropping.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let file = bench.path("masked");
    let length = lines::write(&file, Kind::Real, bench.bytes(512))?;
    let path = file.display().to_string();
    let writer = |at: usize| format!("masked-writer-{at}");
    let mut contenders: Vec<_> = SECRETS
        .iter()
        .enumerate()
        .map(|(at, (count, alphabet, name))| {
            let mut words = bench.stopwatch.measuring(&writer(at));
            words.extend(bench.stopwatch.task(&["pour", &path, "65536"]));
            bench.stopwatch.forget(&writer(at));
            Contender::new(name, move || with_secrets((*count, alphabet), &words))
        })
        .collect();
    let all = bench.stopwatch.race(bench.runs(RUNS), &mut contenders)?;
    let head =
        ["", "MB/s, best", "MB/s, median", "CPU of the entrypoint, median", "MB per CPU second"];
    let mut table = Table::new("Masking", &head).how(format!(
        "{} MiB of 100-byte lines, captured, searched for secrets of {SECRET_BYTES} bytes that do not occur, and dropped. \
         The CPU of the process that writes is not counted.",
        length >> 20
    ));
    let mut rates = Vec::new();
    for (at, ((.., name), all)) in SECRETS.iter().zip(all).enumerate() {
        let writer = Runs::of(&bench.stopwatch.runs(&writer(at))?[1..]);
        let own = all.cpu.median().saturating_sub(writer.cpu.median());
        let rate = |time| format!("{:.0}", megabytes_per_second(length, time));
        rates.push(megabytes_per_second(length, own));
        table.row([
            (*name).to_owned(),
            rate(all.wall.min()),
            rate(all.wall.median()),
            seconds(own),
            rate(own),
        ]);
    }
    for (at, what, target, least) in [
        (2, "masking: MB per CPU second of the entrypoint with 100 secrets, median", "1,000", 1e3),
        (3, "masking: the same with 10,000 secrets", "400", 4e2),
    ] {
        report.claim(Claim {
            what,
            target,
            relay: format!("{:.0}", rates[at]),
            peers: String::new(),
            verdict: Verdict::of(|| rates[at] >= least),
        });
    }
    report.table(table);
    Ok(std::fs::remove_file(file)?)
}

fn with_secrets((count, alphabet): (usize, &[u8]), words: &[OsString]) -> Command {
    let names: Vec<_> = (0..count).map(|number| format!("S{number}")).collect();
    let options: Vec<_> = names.iter().flat_map(|name| ["--mask-env", name]).collect();
    let mut command = Wrapper::relay_alone("masking", &options).command(words);
    let mut numbers = Numbers::new();
    for name in &names {
        let secret: Vec<u8> = (0..SECRET_BYTES).map(|_| *numbers.one_of(alphabet)).collect();
        command.env(name, OsString::from_vec(secret));
    }
    command
}
