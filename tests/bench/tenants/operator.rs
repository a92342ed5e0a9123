//! The operator under measurement.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use relay_tests::{measure::now, program::program};
use tokio::time::sleep;

use super::{
    cluster::{Cluster, SYSTEM},
    images::Images,
};
use crate::Bench;

/// Longest start.
const START: Duration = Duration::from_mins(1);

/// An operator that runs. It is killed when dropped, and ends with the harness.
pub(super) struct Operator {
    child: Child,
    /// Where its counters are.
    address: String,
}

impl Operator {
    /// Starts one with these tools. Its successor leads at once, since it has the same name.
    pub(super) async fn start(
        bench: &Bench,
        cluster: &Cluster,
        image: &str,
        images: &Images,
    ) -> Result<Self> {
        let folder = bench.store();
        fs::create_dir_all(&folder)?;
        let file = folder.join("address");
        let webhook = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let url = format!("https://{webhook}/inject");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program("relay-operator"))
            .args(["run", "--identity", "bench", "--namespace", SYSTEM, "--tools-image", image])
            .args(["--listen", "127.0.0.1:0", "--webhook-listen", &webhook, "--webhook-url", &url])
            // Nobody provides claims here.
            .args(["--claim-seconds", "3600", "--address-file"])
            .arg(&file)
            .arg("--images-config")
            .arg(&images.file)
            .env("KUBECONFIG", &cluster.kubeconfig)
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("log"))?)
            .spawn()?;
        let mut operator = Self { child, address: String::new() };
        let begun = now();
        while !file.exists() {
            ensure!(begun.elapsed() < START, "it does not start: {}", folder.display());
            sleep(Duration::from_millis(50)).await;
        }
        operator.address = fs::read_to_string(file)?;
        Ok(operator)
    }

    /// Its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Requests by which it changed something for tenants.
    pub(super) async fn writes(&self) -> Result<usize> {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let writes = text.lines().filter(|line| line.starts_with("relay_operator_writes_total"));
        let counts = writes.map(|line| {
            line.rsplit(' ').next().context("no count")?.parse::<usize>().context("no count")
        });
        counts.sum()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
