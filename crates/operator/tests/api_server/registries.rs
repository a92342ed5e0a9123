//! What registries and an API server that fail cost a pod: three seconds, and then it has Relay's own answer, before the
//! API server gives up on the webhook.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    http::Method,
    response::{IntoResponse as _, Response},
};
use futures_util::future::join_all;
use k8s_openapi::api::{core::v1::Namespace, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use relay_operator::api::v1beta1::Tenant;
use relay_tests::registry::{
    CONFIG, Content, Registry,
    scripted::{Asked, Server, Shelf, endless, never, status},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::lab::{Creation, Lab, is_wrapped, pod};

/// What images name the registry that fails by, and one that goes.
const FAILING: &str = "failing.test";
const GONE: &str = "gone.test";

/// Three seconds, and what the way to the webhook and back takes. The API server would wait for five.
const LIMIT: Duration = Duration::from_millis(3_500);

/// Images of which one has to be answered in time: a machine with much else to do may be late once.
const TAGS: [&str; 4] = ["1", "2", "3", "4"];

/// How a registry fails, with the clause that says so.
const FAULTS: [(&str, &str); 5] = [
    ("silent", "did not answer in time; try again later"),
    ("trickling", "did not answer in time; try again later"),
    ("busy", "has had too many requests (429); try again later"),
    ("refusing", "refuses its image, anonymously; check the pull secrets"),
    ("wrong", "gives an image that cannot be used: "),
];

/// What stands before the clause.
const DENIED: &str =
    "denied the request: relay: container main: no command, and Relay cannot look into its image";

fn shelf(program: &str) -> Shelf {
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Entrypoint": [program], "Cmd": ["$HOME"]}});
    Shelf::of_image(&Content::json(&config, CONFIG), &TAGS)
}

/// Fails as the path says. What trickles or is wrong is another image than before.
fn fail(asked: &Asked, moved: &Shelf) -> Response {
    let is = |fault: &str| asked.path.contains(&format!("/{fault}/"));
    match () {
        () if is("silent") => never(),
        () if is("busy") => status(429),
        () if is("refusing") => status(401),
        () if asked.method == Method::HEAD => moved.answer(asked),
        () if is("trickling") => endless(b"[".to_vec(), Duration::from_millis(50)),
        () => r#"{"schemaVersion":2,"config":{"Entrypoint":["/evil"]}}"#.into_response(),
    }
}

/// A pod of an image that says what it runs.
fn of(image: &str) -> Value {
    let mut pod = pod("p");
    pod["spec"]["containers"] = json!([{ "name": "main", "image": image }]);
    pod
}

/// What becomes of a pod, and how long that took: what it runs, or the error.
async fn attempt(lab: &Lab, pod: &Value) -> (Result<Value, String>, Duration) {
    let begun = Instant::now();
    let created = lab.cluster.create(&lab.required, pod, Creation::DryRun).await;
    let created = created.map_err(|error| error.to_string());
    let args = created.map(|pod| {
        assert!(is_wrapped(&pod), "{pod}");
        pod["spec"]["containers"][0]["args"].clone()
    });
    (args, begun.elapsed())
}

/// Expects a denial by Relay that says this, in time.
async fn denied(lab: &Lab, repository: &str, clause: &str) {
    let mut tries = Vec::new();
    for tag in TAGS {
        let (answer, taken) = attempt(lab, &of(&format!("{FAILING}/{repository}/app:{tag}"))).await;
        let error = answer.expect_err("nobody knows what it runs");
        if taken < LIMIT && error.contains(DENIED) && error.contains(clause) {
            return;
        }
        tries.push((taken, error));
    }
    assert!(tries.len() < TAGS.len(), "{repository} {clause}: {tries:#?}");
}

/// Expects what was said before, in time.
async fn as_before(lab: &Lab, repository: &str) {
    let mut tries = Vec::new();
    for tag in TAGS {
        let (answer, taken) = attempt(lab, &of(&format!("{FAILING}/{repository}/app:{tag}"))).await;
        if let Ok(args) = &answer {
            assert_eq!(*args, json!(["--", "/app", "$$HOME"]));
            if taken < LIMIT {
                return;
            }
        }
        tries.push((taken, answer));
    }
    assert!(tries.len() < TAGS.len(), "{repository}: {tries:#?}");
}

#[tokio::test]
async fn a_pod_whose_registry_fails_is_denied_by_relay_before_the_api_server_gives_up() {
    let moved = shelf("/moved");
    let server = Server::new(move |asked| fail(asked, &moved)).await;
    let images = format!(
        "registries: [{{host: {FAILING}, endpoints: [{{url: 'http://{}', local: true}}]}}]",
        server.host()
    );
    let Some(lab) = Lab::start_asking(&images).await else { return };
    join_all(FAULTS.map(|(fault, clause)| denied(&lab, fault, clause))).await;
    lab.end().await;
}

/// Takes the minute for which an answer counts.
#[tokio::test]
async fn when_registries_fail_pods_run_what_they_said_before_or_are_denied_and_an_event_says_so() {
    let registry = Registry::new();
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/app"], "Cmd": ["$HOME"]}});
    drop(registry.push_image("acme/app", Some("1"), &Content::json(&config, CONFIG)).await);
    let before = shelf("/app");
    let server = Server::new(move |asked| before.answer(asked)).await;
    let images = format!(
        "registries: [{{host: {FAILING}, endpoints: [{{url: 'http://{}', local: true}}]}}, {{host: {GONE}, endpoints: [{{url: 'http://{}', local: true}}]}}]",
        server.host(),
        registry.host()
    );
    let Some(lab) = Lab::start_asking(&images).await else { return };
    let known =
        FAULTS.iter().flat_map(|(fault, _)| TAGS.map(|tag| format!("{FAILING}/{fault}/app:{tag}")));
    let gone = format!("{GONE}/acme/app:1");
    for image in known.chain([gone.clone()]) {
        let pod = of(&image);
        lab.wait_for("its image is looked up", async |lab| attempt(lab, &pod).await.0.is_ok())
            .await;
    }
    drop(registry);
    let moved = shelf("/moved");
    server.answer(move |asked| fail(asked, &moved));

    // What was looked up last counts the longest.
    let events = Api::<Event>::namespaced(lab.cluster.client.clone(), &lab.required);
    let number = AtomicU32::new(0);
    lab.wait_for("an event says so", async |lab| {
        sleep(Duration::from_secs(2)).await;
        let mut pod = of(&gone);
        pod["metadata"]["name"] = json!(format!("p{}", number.fetch_add(1, Relaxed)));
        let created = lab.cluster.create(&lab.required, &pod, Creation::Real).await;
        assert!(is_wrapped(&created.expect("what was said before counts")));
        let all = events.list(&ListParams::default()).await.expect("events can be read");
        let notes = all.iter().filter(|event| event.reason.as_deref() == Some("StaleImage"));
        let mut notes = notes.filter_map(|event| event.note.as_deref());
        notes.any(|note| note.contains(&gone))
    })
    .await;
    let outcomes = FAULTS.map(async |(fault, clause)| match fault {
        "silent" | "busy" => as_before(&lab, fault).await,
        _ => denied(&lab, fault, clause).await,
    });
    join_all(outcomes).await;
    lab.end().await;
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_the_webhook_costs_a_pod_no_more_than_a_registry() {
    let images = format!(
        "registries: [{{host: {FAILING}, endpoints: [{{url: 'http://127.0.0.1:9', local: true}}]}}]"
    );
    let Some(lab) = Lab::start_asking(&images).await else { return };
    lab.gate.hold();
    let late = format!("{}-late", lab.namespace);
    lab.cluster.make_tenant(&late, "required").await;
    let with_secrets = json!({ "imagePullSecrets": [{ "name": "unknown" }] });
    let clause = "the API server does not show the pod's pull secrets in time; try again later";
    let is_in_time = async |namespace: &str, pod: &Value, words: [&str; 2]| {
        let begun = Instant::now();
        let created = lab.cluster.create(namespace, pod, Creation::DryRun).await;
        let error = created.expect_err("nobody knows enough").to_string();
        begun.elapsed() < LIMIT && words.iter().all(|words| error.contains(words))
    };
    lab.wait_for("a pod is denied for its secrets", async |lab| {
        let mut pod = of(&format!("{FAILING}/acme/app:1"));
        pod["spec"]
            .as_object_mut()
            .expect("it has one")
            .extend(with_secrets.as_object().expect("fields").clone());
        is_in_time(&lab.required, &pod, [DENIED, clause]).await
    })
    .await;
    // There is no answer of Relay's about a namespace that it does not know, but there is its reason.
    lab.wait_for("a pod fails for its namespace", async |_| {
        let clause = "relay: the tenant of the namespace is not known";
        is_in_time(&late, &pod("p"), ["failed calling webhook", clause]).await
    })
    .await;
    lab.gate.release();
    lab.wait_for("the namespace is known", async |lab| {
        let created = lab.cluster.create(&late, &pod("p"), Creation::DryRun).await;
        created.is_ok_and(|pod| is_wrapped(&pod))
    })
    .await;
    let how = DeleteParams::default();
    drop(lab.cluster.api::<Namespace>().delete(&late, &how).await);
    drop(lab.cluster.api::<Tenant>().delete(&late, &how).await);
    lab.end().await;
}
