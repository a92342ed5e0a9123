//! How long a review takes at 500 a second: the pods of the cases of `tests/injection`, over one HTTP/2
//! connection, as the API server sends them.

#[expect(dead_code, reason = "the tests of the webhook need more of it")]
#[path = "../tests/webhook/lab.rs"]
mod lab;

use std::{fs, sync::Arc, time::Duration};

use lab::{Lab, creation, tenant};
use relay_operator::webhook::PATH;
use relay_tests::program::workspace;
use serde_json::Value;
use tokio::{sync::Mutex, time::interval};

const RATE: u32 = 500;
const SECONDS: u32 = 20;
/// Reviews before the clock counts: connections open, caches fill.
const WARM_UP: usize = 500;
const CASES: [&str; 5] = [
    "a-command",
    "everything-else-stays",
    "init-containers-and-sidecars",
    "knative",
    "tekton-task",
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // As many as a large installation has; only one is asked about.
    let others = (0..999).map(|number| tenant(&format!("tenant-{number}"), "required"));
    let lab = Lab::start(others.chain([tenant("acme", "required")]).collect()).await;
    let bodies: Vec<_> = CASES.iter().map(|case| body(case)).collect();
    let client = lab.client();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let mut due = interval(Duration::from_secs(1) / RATE);
    let mut sent = Vec::new();
    for number in 0..(WARM_UP + (RATE * SECONDS) as usize) {
        // Open loop: a slow answer does not delay the next request.
        let planned = due.tick().await;
        let request = client.post(lab.url(PATH)).body(bodies[number % bodies.len()].clone());
        let taken = Arc::clone(&taken);
        sent.push(tokio::spawn(async move {
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), 200);
            drop(response.bytes().await.expect("a body"));
            taken.lock().await.push((number, planned.elapsed()));
        }));
    }
    for sent in sent {
        sent.await.expect("an answer");
    }
    let taken = taken.lock().await;
    report(
        taken.iter().filter(|(number, _)| *number >= WARM_UP).map(|(_, taken)| *taken).collect(),
    );
}

fn body(case: &str) -> String {
    let path = workspace().join("tests/injection").join(case).join("in/pod.json");
    let pod: Value =
        serde_json::from_slice(&fs::read(path).expect("the case is there")).expect("JSON");
    creation("acme", &pod).to_string()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn report(mut taken: Vec<Duration>) {
    taken.sort();
    let at = |permille: usize| taken[(taken.len() - 1) * permille / 1000];
    println!(
        "admission at {RATE}/s, {} reviews: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        taken.len(),
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000),
    );
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: ?");
    println!("with 1,000 tenants, client and fake API server in the same process: {resident}");
}
