//! `make bench`: Relay beside its peers, measured in the same run.
//!
//! Whole processes are measured, in turns: one run of each contender, then the next of each. The
//! machine is noisy, so tables show the shortest run, the one in the middle, and CPU time. Every
//! peer is started here. `docs/benchmarks.md` says what each figure means.
//!
//! | variable | meaning |
//! |---|---|
//! | `RELAY_TEST_LONG` | Loki too |
//! | `RELAY_BENCH_SCALE` | share of the work in percent: small ones try the harness out |
//! | `RELAY_BENCH_ONLY` | groups to measure, joined by commas |
//! | `RELAY_BENCH_WRITE` | write the results into `docs/benchmarks.md` |

use std::{
    env,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use relay_tests::{measure::now, program::is_long_run};
use tempfile::TempDir;

use crate::{report::Report, stopwatch::Stopwatch};

mod flow;
mod follow;
mod http;
mod idle;
mod ingest;
mod lines;
mod loki;
mod machine;
mod masking;
mod page;
mod peer;
mod report;
mod rsyslog;
mod start;
mod stopwatch;
mod stored;
mod tenants;
mod wrapper;

/// What all groups share.
struct Bench {
    /// Share of the full work, in percent.
    scale: u64,
    /// On the disk that builds are on: a temporary folder may be memory, which nobody can sync.
    folder: TempDir,
    stopwatch: Stopwatch,
    tools: PathBuf,
    length: Length,
    stores: AtomicUsize,
    /// What the machine did before.
    load: String,
}

/// Whether peers that take minutes are measured too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Short,
    Long,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(Self {
            scale: setting("RELAY_BENCH_SCALE").map_or(Ok(100), |scale| scale.parse())?,
            stopwatch: Stopwatch::new(folder.path())?,
            folder,
            tools: tools()?,
            stores: AtomicUsize::new(0),
            load: machine::load()?,
            length: if is_long_run() { Length::Long } else { Length::Short },
        })
    }

    /// A file or folder of this run.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder for a server, which is not there yet. Those of earlier servers stay until the end:
    /// ext4 is slow to create files for minutes after many were removed.
    fn store(&self) -> PathBuf {
        self.path(&format!("store-{}", self.stores.fetch_add(1, Ordering::Relaxed)))
    }

    /// A number of runs, at least two.
    fn runs(&self, full: u64) -> usize {
        usize::try_from((full * self.scale / 100).max(2)).expect("a number of runs is small")
    }

    /// An amount of bytes in whole MiB.
    fn bytes(&self, full_mib: u64) -> u64 {
        (full_mib * self.scale / 100).max(8) << 20
    }

    /// One of the programs that `scripts/install bench` compiles.
    fn tool(&self, name: &str) -> Result<PathBuf> {
        let path = self.tools.join(name);
        ensure!(path.is_file(), "{} is missing: run `scripts/install bench`", path.display());
        Ok(path)
    }
}

/// Groups of figures, in the order of the page.
type Group = fn(&Bench, &mut Report) -> Result<()>;
const GROUPS: [(&str, Group); 9] = [
    ("start", start::measure),
    ("idle", idle::measure),
    ("flow", flow::measure),
    ("masking", masking::measure),
    ("ingest", ingest::measure),
    ("followers", follow::crowd::measure),
    ("follow", follow::measure),
    ("stored", stored::measure),
    ("operator", tenants::measure),
];

#[expect(clippy::print_stdout, reason = "the tables are the product")]
fn main() -> Result<()> {
    let bench = Bench::new()?;
    let only = setting("RELAY_BENCH_ONLY");
    let mut report = Report::default();
    let begun = now();
    for (name, group) in GROUPS {
        if only.as_ref().is_none_or(|only| only.split(',').any(|word| word == name)) {
            progress(name, begun.elapsed());
            group(&bench, &mut report).with_context(|| format!("{name} was not measured"))?;
        }
    }
    let text = format!("{}{}", machine::facts(&bench)?, report.text());
    println!("{text}");
    if setting("RELAY_BENCH_WRITE").is_some() {
        page::write(&text)?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "somebody waits for minutes")]
fn progress(name: &str, elapsed: Duration) {
    eprintln!("{:>4} s  {name}", elapsed.as_secs());
}

#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where `scripts/install` leaves what it compiles.
fn tools() -> Result<PathBuf> {
    let cache = setting("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || setting("HOME").map(|home| Path::new(&home).join(".cache"));
    Ok(cache.or_else(home).context("HOME is not set")?.join("relay/tools"))
}
