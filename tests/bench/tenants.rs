//! The operator beside a real API server, with a thousand tenants: its memory, what a new image costs, and how
//! soon it answers reviews. What a job controller does is done here.

mod cluster;
mod images;
mod operator;
mod reviews;

use std::time::Duration;

use anyhow::{Context, Result};
use relay_tests::{
    control_plane::{ControlPlane, Controllers},
    measure::{now, status_of},
};
use tokio::runtime::Runtime;

use crate::{
    Bench,
    report::{Claim, Report, Table, Verdict, millis},
};
use cluster::Cluster;
use images::Images;
use operator::Operator;
use reviews::Pods;

/// Tenants, and pods of each.
const TENANTS: u64 = 1_000;
const PODS: usize = 2;
/// Largest resident set of the operator.
const MAX_KIB: u64 = 64 << 10;
/// Longest review, of a hundred.
const MAX_REVIEW: Duration = Duration::from_millis(10);

/// Measures one thing after the other, with the same tenants.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let plane = ControlPlane::start(Controllers::None)?;
    let runtime = Runtime::new()?;
    let count = usize::try_from((TENANTS * bench.scale / 100).max(10))?;
    runtime.block_on(async {
        let cluster = Cluster::new(&plane, count)?;
        cluster.prepare().await?;
        let mut table = Table::new("The operator", &["", "RSS", "peak", "took"]).how(format!(
            "{count} tenants with {PODS} pods each, which pass its webhook, and a real API server; Jobs are ended by the harness. A \
             new image is another --tools-image. A change is a new version of a tenant, or a claim or Job that comes or goes: each costs one request."
        ));
        let begun = now();
        let images = Images::new(bench).await?;
        let operator = Operator::start(bench, &cluster, "dev.local/tools:1", &images).await?;
        cluster.until_all_have("dev.local/tools:1").await?;
        cluster.make_pods(PODS).await?;
        let resident = note(&operator, "all tenants are ready", begun.elapsed(), &mut table)?;
        cluster.make_accounts().await?;
        for pods in [Pods::WithCommands, Pods::OfImages] {
            admission(&cluster, pods, report).await?;
        }
        let after = note(&operator, "after the reviews", Duration::ZERO, &mut table)?;
        drop(operator);
        let begun = now();
        let changes = cluster.follow_changes().await?;
        let operator = Operator::start(bench, &cluster, "dev.local/tools:2", &images).await?;
        cluster.until_all_have("dev.local/tools:2").await?;
        let cycled = note(&operator, "all tenants have a new image", begun.elapsed(), &mut table)?;
        let versions = changes.count(&cluster).await?;
        let requests = operator.writes().await?;
        let largest = resident.max(after).max(cycled);
        report.claim(Claim {
            what: "operator with 1,000 tenants: resident memory",
            target: "64 MiB",
            relay: mib(largest),
            peers: String::new(),
            verdict: Verdict::of(|| largest <= MAX_KIB),
        });
        report.claim(Claim {
            what: "1,000 tenants to a new image: requests for each change of an object",
            // One that goes out twice, because the first was not heard of yet, is no harm.
            target: "1.01",
            relay: format!("{requests} for {versions}"),
            peers: String::new(),
            verdict: Verdict::of(|| requests <= versions + versions / 100),
        });
        report.table(table);
        Ok(())
    })
}

async fn admission(cluster: &Cluster, pods: Pods, report: &mut Report) -> Result<()> {
    let samples = reviews::send(cluster, pods).await?;
    let [p50, p99] = [0.5, 0.99].map(|share| samples.quantile(share));
    let (title, which, what) = match pods {
        Pods::WithCommands => (
            "Reviews",
            "pods of `tests/injection`",
            "admission at 500 reviews a second, no lookup: p50, p99",
        ),
        Pods::OfImages => (
            "Reviews with lookups that are remembered",
            "pods of three containers without commands, each of one of 50 images of a registry that has answered before,",
            "admission at 500 reviews a second, lookups remembered: p50, p99",
        ),
    };
    let mut table = Table::new(title, &["p50", "p90", "p99", "p99.9", "longest"]).how(format!(
        "{} reviews a second for {} s, whether earlier ones were answered or not, over TLS and HTTP/1.1 with connections that stay \
         open, as the API server sends them: {which} in namespaces of all tenants, with 1,000 tenants. Each is \
         counted from the moment at which it was due.",
        reviews::RATE, reviews::SECONDS
    ));
    table.row([0.5, 0.9, 0.99, 0.999, 1.0].map(|share| millis(samples.quantile(share))));
    report.table(table);
    report.claim(Claim {
        what,
        target: "p99 10 ms",
        relay: format!("{}, {}", millis(p50), millis(p99)),
        peers: String::new(),
        verdict: Verdict::of(|| p99 <= MAX_REVIEW),
    });
    Ok(())
}

/// Writes memory into the table; the answer is what is resident, in KiB.
fn note(operator: &Operator, when: &str, took: Duration, table: &mut Table) -> Result<u64> {
    let process = operator.process();
    let [resident, peak] = ["VmRSS", "VmHWM"].map(|name| status_of(process, name));
    let (resident, peak) = (resident.context("the operator ended")?, peak?);
    let took = if took.is_zero() { String::new() } else { format!("{:.0} s", took.as_secs_f64()) };
    table.row([when.to_owned(), mib(resident), mib(peak), took]);
    Ok(resident)
}

fn mib(kib: u64) -> String {
    format!("{}.{} MiB", kib >> 10, ((kib & 1023) * 10) >> 10)
}
