//! The webhook as a real API server meets it.

mod another;
mod audit;
mod images;
mod lab;
mod registries;

use std::{
    collections::HashSet,
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Namespace,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use lab::{Cluster, Creation, Lab, is_wrapped, pod, pods};
use relay_operator::{
    certificates::{Moment, Names, Periods, renew},
    injection::ENTRYPOINT,
    webhook::configuration::NAME,
};
use relay_tests::program::workspace;
use serde_json::{Value, json};

/// Cases whose pods an API server accepts as they are.
const CASES: [&str; 6] = [
    "a-command-and-arguments",
    "everything-else-stays",
    "init-containers-and-sidecars",
    "knative",
    "tekton-task",
    "words-with-dollars-stay",
];

#[tokio::test]
async fn pods_come_out_as_the_golden_cases_say() {
    let Some(lab) = Lab::start().await else { return };
    for case in CASES {
        let read = |name: &str| -> Value {
            let path = workspace().join("tests/injection").join(case).join(name);
            serde_json::from_slice(&fs::read(path).expect("the case is there")).expect("JSON")
        };
        let mut pod = read("in/pod.json");
        pod["metadata"]["namespace"] = json!(lab.required);
        let patch: json_patch::Patch =
            serde_json::from_value(read("out/patch.json")).expect("a patch");
        let mut expected = pod.clone();
        json_patch::patch(&mut expected, &patch).expect("it fits");
        let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
        let created = created.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_same(case, &lab.namespace, &expected, &created);
    }
    lab.end().await;
}

/// The fields that Relay writes are as expected, beside what the API server adds of its own.
fn assert_same(case: &str, namespace: &str, expected: &Value, created: &Value) {
    let expected = expected.to_string().replace("relay-system", namespace);
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let own =
        |value: &&Value| !value["name"].as_str().unwrap_or_default().starts_with("kube-api-access");
    let list = |value: &Value| -> Vec<Value> {
        value.as_array().into_iter().flatten().filter(own).cloned().collect()
    };
    for containers in ["initContainers", "containers"] {
        let (expected, created) = (&expected["spec"][containers], &created["spec"][containers]);
        assert_eq!(list(expected).len(), list(created).len(), "{case}");
        for (expected, created) in list(expected).iter().zip(list(created)) {
            for field in
                ["name", "image", "command", "args", "workingDir", "lifecycle", "resources"]
            {
                if !expected[field].is_null() {
                    assert!(
                        contains(&created[field], &expected[field]),
                        "{case}: {field} of {created}"
                    );
                }
            }
            for field in ["env", "volumeMounts"] {
                assert_eq!(list(&expected[field]), list(&created[field]), "{case}: {field}");
            }
        }
    }
    assert_eq!(list(&expected["spec"]["volumes"]), list(&created["spec"]["volumes"]), "{case}");
    assert!(contains(&created["metadata"]["annotations"], &expected["metadata"]["annotations"]));
}

/// Whether `part` is in `whole`, which has defaults besides.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        _ => whole == part,
    }
}

#[tokio::test]
async fn pods_of_nobody_and_those_that_opted_out_stay_as_they_are() {
    let Some(lab) = Lab::start().await else { return };
    let created = lab.cluster.create(&lab.nobody, &pod("p"), Creation::DryRun).await;
    assert!(!is_wrapped(&created.expect("it is created")));
    let mut opted_out = pod("p");
    opted_out["metadata"]["labels"] = json!({ "relay.sh/inject": "false" });
    let created = lab.cluster.create(&lab.required, &opted_out, Creation::DryRun).await;
    assert!(!is_wrapped(&created.expect("it is created")));
    lab.end().await;
}

/// Controllers create the pods of users, so that who creates one says nothing about whose it is.
#[tokio::test]
async fn a_pod_is_wrapped_whoever_creates_it() {
    let Some(lab) = Lab::start().await else { return };
    let own = format!("system:serviceaccount:{}:relay-operator", lab.namespace);
    for user in [
        "system:serviceaccount:kube-system:job-controller",
        "system:serviceaccount:tekton-pipelines:tekton-pipelines-controller",
        &own,
        "system:kube-controller-manager",
        "system:node:node",
        "somebody@example.com",
    ] {
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", lab.required);
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .header("impersonate-user", user)
            .header("impersonate-group", "system:masters")
            .body(pod("p").to_string().into_bytes());
        let created = lab.cluster.client.request(request.expect("a request")).await;
        assert!(is_wrapped(&created.expect("it is created")), "{user}");
    }
    lab.end().await;
}

#[tokio::test]
async fn what_cannot_be_wrapped_is_denied_or_passes_as_its_tenant_wants() {
    let Some(lab) = Lab::start().await else { return };
    let mut pod = pod("p");
    pod["spec"]["containers"][0].as_object_mut().expect("an object").remove("command");
    let denied = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
    let denied = denied.expect_err("it has no command").to_string();
    assert!(denied.contains("container main: no command"), "{denied}");
    let created =
        lab.cluster.create(&lab.enabled, &pod, Creation::DryRun).await.expect("it passes");
    let why = created["metadata"]["annotations"]["relay.sh/skipped"].as_str();
    assert!(why.is_some_and(|why| why.contains("no command")), "{created}");
    lab.end().await;
}

#[tokio::test]
async fn a_dead_webhook_stops_pods_only_where_injection_is_required() {
    let Some(mut lab) = Lab::start().await else { return };
    lab.kill().await;
    // A connection that is open may answer once more.
    lab.wait_for("nobody answers any more", async |lab| {
        lab.cluster.create(&lab.required, &pod("p"), Creation::DryRun).await.is_err()
    })
    .await;
    let Lab { cluster, required, enabled, nobody, .. } = &lab;
    let denied = cluster.create(required, &pod("p"), Creation::DryRun).await;
    let denied = denied.expect_err("nobody can wrap it").to_string();
    assert!(denied.contains("required.injection.relay.sh"), "{denied}");
    for namespace in [enabled, nobody] {
        let created = cluster.create(namespace, &pod("p"), Creation::DryRun).await;
        assert!(!is_wrapped(&created.expect("it passes")));
    }
    // Even one who labels the cluster's own namespace does not bring it under the webhook.
    let namespaces = cluster.api::<Namespace>();
    let label = |tenant: Value, mode: Value| {
        let labels = json!({ "relay.sh/tenant": tenant, "relay.sh/injection": mode });
        Patch::Merge(json!({ "metadata": { "labels": labels } }))
    };
    let how = PatchParams::default();
    namespaces
        .patch("kube-system", &how, &label(json!(required), json!("required")))
        .await
        .expect("labelled");
    cluster.make_account("kube-system").await;
    let created = cluster.create("kube-system", &pod("p"), Creation::DryRun).await;
    namespaces
        .patch("kube-system", &how, &label(Value::Null, Value::Null))
        .await
        .expect("unlabelled");
    assert!(!is_wrapped(&created.expect("it passes")));
    lab.end().await;
}

#[tokio::test]
async fn a_container_that_another_webhook_adds_is_wrapped_too() {
    let Some(lab) = Lab::start().await else { return };
    let another = another::Webhook::start(&lab).await;
    lab.wait_for("both webhooks change a pod", async |lab| {
        let created = lab.cluster.create(&lab.required, &pod("p"), Creation::DryRun).await;
        created.is_ok_and(|pod| pod["spec"]["containers"].as_array().map(Vec::len) == Some(2))
    })
    .await;
    let created = lab.cluster.create(&lab.required, &pod("p"), Creation::DryRun).await;
    let created = created.expect("it is created");
    assert!(is_wrapped(&created), "{created}");
    let late = &created["spec"]["containers"][1];
    assert_eq!(late["args"], json!(["--", "sleep", "1"]));
    assert_eq!(created["spec"]["containers"][0]["args"], json!(["--", "true"]));
    let volumes = created["spec"]["volumes"].as_array().expect("it has volumes");
    let tools = volumes.iter().filter(|volume| volume["name"] == "relay-tools").count();
    assert_eq!(tools, 1, "{created}");
    another.end(&lab).await;
    lab.end().await;
}

/// The webhook is asked again because of what another one added.
#[tokio::test]
async fn a_pod_that_says_what_was_left_alone_needs_no_second_answer_of_a_registry() {
    let Some(lab) = Lab::start().await else { return };
    let another = another::Webhook::start(&lab).await;
    let mut pod = pod("p");
    pod["spec"]["containers"][0].as_object_mut().expect("an object").remove("command");
    let denied = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
    let denied = denied.expect_err("nobody may ask for it").to_string();
    assert!(denied.contains("container main: no command"), "{denied}");
    pod["metadata"]["annotations"] = json!({ "relay.sh/left-alone": "main" });
    lab.wait_for("both webhooks change a pod", async |lab| {
        let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
        created.is_ok_and(|pod| pod["spec"]["containers"].as_array().map(Vec::len) == Some(2))
    })
    .await;
    let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
    let created = created.expect("what was decided holds");
    assert_eq!(created["spec"]["containers"][0]["command"], Value::Null, "{created}");
    assert_eq!(created["spec"]["containers"][1]["command"], json!([ENTRYPOINT]));
    assert_eq!(created["metadata"]["annotations"]["relay.sh/left-alone"], "main");
    another.end(&lab).await;
    lab.end().await;
}

#[tokio::test]
async fn an_ephemeral_container_of_a_wrapped_pod_is_wrapped() {
    let Some(lab) = Lab::start().await else { return };
    lab.cluster.create(&lab.required, &pod("p"), Creation::Real).await.expect("it is created");
    let pods = pods(lab.cluster.client.clone(), &lab.required);
    for name in ["a", "b"] {
        let container = json!({ "name": name, "image": "busybox", "command": ["ls", "/"] });
        let patch = Patch::Strategic(json!({ "spec": { "ephemeralContainers": [container] } }));
        let how = PatchParams::default();
        let patched = pods.patch_subresource("ephemeralcontainers", "p", &how, &patch).await;
        let patched = patched.expect("the ephemeral containers are accepted");
        for container in
            patched.data["spec"]["ephemeralContainers"].as_array().expect("they are there")
        {
            assert_eq!(container["command"], json!([ENTRYPOINT]));
            assert_eq!(container["args"], json!(["--", "ls", "/"]));
        }
    }
    lab.end().await;
}

#[tokio::test]
async fn a_skipped_pod_has_an_event() {
    let Some(lab) = Lab::start().await else { return };
    let mut pod = pod("p");
    pod["spec"]["containers"][0].as_object_mut().expect("an object").remove("command");
    lab.cluster.create(&lab.enabled, &pod, Creation::Real).await.expect("it is created");
    let client = lab.cluster.client.clone();
    let events = Api::<k8s_openapi::api::events::v1::Event>::namespaced(client, &lab.enabled);
    lab.wait_for("an event says why", async |_| {
        let all = events.list(&kube::api::ListParams::default()).await.expect("events can be read");
        all.iter().any(|event| event.reason.as_deref() == Some("NotWrapped"))
    })
    .await;
    lab.end().await;
}

#[tokio::test]
async fn a_changed_configuration_comes_back_and_additions_to_selectors_stay() {
    let Some(lab) = Lab::start().await else { return };
    let mut changed = lab.configuration().await;
    changed.metadata.annotations = None;
    for webhook in changed.webhooks.iter_mut().flatten() {
        webhook.failure_policy = Some("Ignore".to_owned());
        webhook.timeout_seconds = Some(30);
        let selector = webhook.namespace_selector.as_mut().expect("it selects");
        let addition = json!({ "key": "control-plane", "operator": "DoesNotExist" });
        let addition = serde_json::from_value(addition).expect("a requirement");
        selector.match_expressions.get_or_insert_default().push(addition);
    }
    let configurations = lab.cluster.api::<MutatingWebhookConfiguration>();
    configurations
        .replace(NAME, &kube::api::PostParams::default(), &changed)
        .await
        .expect("changed");
    lab.wait_for("the configuration comes back", async |lab| {
        let there = lab.configuration().await;
        let is_annotated = there.metadata.annotations.is_some_and(|all| {
            all.get("admissions.enforcer/disabled").is_some_and(|value| value == "true")
        });
        let there = there.webhooks.unwrap_or_default();
        is_annotated
            && there[0].failure_policy.as_deref() == Some("Fail")
            && there[0].timeout_seconds == Some(5)
    })
    .await;
    let there = lab.configuration().await;
    for webhook in there.webhooks.iter().flatten() {
        let selector = webhook.namespace_selector.as_ref().expect("it selects");
        let keys: Vec<_> =
            selector.match_expressions.iter().flatten().map(|it| it.key.as_str()).collect();
        assert!(
            keys.contains(&"control-plane") && keys.contains(&"relay.sh/injection"),
            "{keys:?}"
        );
    }
    configurations.delete(NAME, &kube::api::DeleteParams::default()).await.expect("deleted");
    lab.wait_for("the configuration comes back", async |_| {
        configurations.get_opt(NAME).await.expect("an answer").is_some()
    })
    .await;
    lab.end().await;
}

#[tokio::test]
async fn two_that_both_think_they_lead_end_with_one_authority() {
    let Some(cluster) = Cluster::find().await else { return };
    let namespace = "default";
    let secrets =
        Api::<k8s_openapi::api::core::v1::Secret>::namespaced(cluster.client.clone(), namespace);
    let how = kube::api::DeleteParams::default();
    drop(secrets.delete("relay-certificates", &how).await);
    let (names, periods) = (Names::in_namespace(namespace), Periods::default());
    let attempts =
        (0..8).map(|_| renew(&cluster.client, namespace, (&names, &periods), Moment::now(), None));
    let held: Vec<_> = futures_util::future::join_all(attempts).await;
    let held: Vec<_> = held.into_iter().filter_map(Result::ok).collect();
    assert!(!held.is_empty(), "one of them wins");
    assert!(held.iter().all(|other| *other == held[0]), "they agree");
    for name in ["relay-certificates", "relay-log-service-tls"] {
        secrets.delete(name, &how).await.expect("it was written");
    }
}

#[tokio::test]
async fn certificates_change_under_a_stream_of_pods_without_one_failure() {
    // The API server's clock is real, so all of the story lies around now: the first authority is 51 of
    // its 100 hours old, its successor is announced an hour ago, signs now, and remains.
    const HOUR: Duration = Duration::from_hours(1);
    let periods = Periods { authority: HOUR * 100, leaf: HOUR * 99, announcement: HOUR / 2 };
    let now = Moment::now();
    let at = |minutes: i64| now.shifted(minutes * 60);
    let Some(lab) = Lab::start_at(periods, at(-51 * 60)).await else { return };
    let (stopped, created) = (AtomicBool::new(false), AtomicUsize::new(0));
    let stream = async {
        while !stopped.load(Ordering::Relaxed) {
            let pod = lab.cluster.create(&lab.required, &pod("p"), Creation::DryRun).await;
            assert!(is_wrapped(&pod.expect("no pod is refused")));
            created.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut paths = HashSet::new();
    let story = async {
        for (minutes, authorities) in [(-54, 2), (0, 2), (49 * 60 + 12, 2)] {
            let client = &lab.cluster.client;
            let path = lab.configured.borrow().clone();
            let keeping = (&lab.names, &periods);
            let renewed = renew(client, &lab.namespace, keeping, at(minutes), path.as_ref()).await;
            let held = renewed.expect("certificates are renewed");
            assert_eq!(held.authorities.len(), authorities, "{held:?}");
            let bundle = held.bundle();
            let path = held.paths.named().expect("there is one").end().to_owned();
            paths.insert(path.clone());
            lab.wait_for("the API server has the new bundle", async |lab| {
                let there = lab.configuration().await.webhooks.unwrap_or_default();
                let followed = lab.followed.held().borrow().as_deref() == Some(&held);
                let is_known = lab.configured.borrow().as_ref() == held.paths.named();
                followed
                    && is_known
                    && there.iter().all(|webhook| {
                        let there = &webhook.client_config;
                        let url = there.url.as_deref().unwrap_or_default();
                        let there = there.ca_bundle.as_ref();
                        url.ends_with(&path)
                            && there.is_some_and(|there| there.0 == bundle.as_bytes())
                    })
            })
            .await;
            let before = created.load(Ordering::Relaxed);
            lab.wait_for("more pods are created", async |_| {
                created.load(Ordering::Relaxed) > before + 20
            })
            .await;
        }
        stopped.store(true, Ordering::Relaxed);
    };
    tokio::join!(stream, story);
    assert_eq!(paths.len(), 2, "reviews were sent elsewhere at last");
    lab.end().await;
}
