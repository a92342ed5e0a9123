//! The page that keeps the results: what stands between its two marks is written by the harness,
//! the rest by people.

use std::fs;

use anyhow::{Context, Result};
use relay_tests::program::workspace;

const BEGIN: &str = "<!-- results: written by `RELAY_BENCH_WRITE=1 make bench` -->\n";
const END: &str = "<!-- end of results -->\n";

/// Replaces the results.
pub(crate) fn write(results: &str) -> Result<()> {
    let path = workspace().join("docs/benchmarks.md");
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(BEGIN).context("the page lacks its first mark")?;
    let (_, after) = rest.split_once(END).context("the page lacks its second mark")?;
    Ok(fs::write(&path, format!("{before}{BEGIN}\n{results}{END}{after}"))?)
}
