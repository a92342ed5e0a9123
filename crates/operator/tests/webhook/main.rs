//! The webhook over TLS, as the API server meets it.

mod lab;
mod strangers;

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::{future::join_all, stream};
use lab::{Lab, creation, issued, patch, pod, tenant, tenant_without_tools};
use relay_operator::certificates::Use;
use relay_tests::measure::now;
use serde_json::{Value, json};

#[tokio::test]
async fn a_pod_of_a_tenant_is_allowed_with_a_patch() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], "8a1c");
    assert_eq!(answer["response"]["allowed"], true);
    let patch = patch(&answer).expect("it is wrapped");
    let command = json!({ "op": "add", "path": "/spec/containers/0/command", "value": ["/relay/lib/entrypoint"] });
    assert_eq!(patch[0], command);
    assert_eq!(lab.metric("relay_operator_reviews_total{result=\"wrapped\"}"), 1);
}

#[tokio::test]
async fn a_container_without_a_command_gets_that_of_its_image() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let mut pod = pod(&json!(null));
    pod["spec"]["containers"][0]["image"] = json!("known.test/app:7");
    let answer = lab.review(&creation("acme", &pod)).await;
    let patch = patch(&answer).expect("it is wrapped").to_string();
    assert!(patch.contains(r#""value":["--","/app","$$HOME"]"#), "{patch}");
    assert_eq!(lab.metric("relay_operator_image_lookups_total{result=\"static\"}"), 1);
    pod["spec"]["containers"][0]["image"] = json!("unknown.test/app");
    let answer = lab.review(&creation("acme", &pod)).await;
    let message = answer["response"]["status"]["message"].as_str().expect("it is denied");
    assert!(message.contains("registries are not asked in this cluster; add it"), "{message}");
    assert_eq!(lab.metric("relay_operator_image_lookups_total{result=\"not-asked\"}"), 1);
    pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let answer = lab.review(&creation("acme", &pod)).await;
    let message = answer["response"]["status"]["message"].as_str().expect("it is denied");
    assert!(message.contains("only on nodes (imagePullPolicy: Never)"), "{message}");
}

#[tokio::test]
async fn of_a_pod_with_a_thousand_images_only_some_are_looked_up() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let review = |images: usize| {
        let container =
            |at| json!({ "name": format!("c{at}"), "image": format!("known.test/app:{at}") });
        let mut pod = pod(&json!(null));
        pod["spec"]["containers"] = (0..images).map(container).collect();
        creation("acme", &pod)
    };
    assert!(patch(&lab.review(&review(64)).await).is_some());
    let answer = lab.review(&review(1000)).await;
    let message = answer["response"]["status"]["message"].as_str().expect("it is denied");
    assert!(message.contains("more than 64 images"), "{message}");
    let found = lab.metric("relay_operator_image_lookups_total{result=\"static\"}");
    assert_eq!(found, 64 + 64, "those of both pods");
    let refused = lab.metric("relay_operator_image_lookups_total{result=\"too-many\"}");
    assert_eq!(refused, 1000 - 64);
}

#[tokio::test]
async fn a_pod_of_nobody_is_allowed_untouched() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let answer = lab.review(&creation("other", &pod(&json!(["true"])))).await;
    assert_eq!(answer["response"], json!({ "uid": "8a1c", "allowed": true }));
    assert_eq!(lab.metric("relay_operator_reviews_total{result=\"no-tenant\"}"), 1);
}

#[tokio::test]
async fn the_first_pod_of_a_namespace_that_is_not_known_yet_is_wrapped() {
    let lab = Lab::start(vec![]).await;
    lab.api.add_tenant(tenant("late", "required"));
    lab.api.add_namespace("late", "late");
    let answer = lab.review(&creation("late", &pod(&json!(["true"])))).await;
    assert!(patch(&answer).is_some(), "{answer}");
}

#[tokio::test]
async fn a_label_that_names_the_tenant_of_another_namespace_gives_nothing() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    lab.api.add_namespace("thief", "acme");
    let answer = lab.review(&creation("thief", &pod(&json!(["true"])))).await;
    assert_eq!(patch(&answer), None);
}

#[tokio::test]
async fn what_cannot_be_wrapped_is_denied_with_a_sentence_where_it_is_required() {
    let lab = Lab::start(vec![tenant_without_tools("acme", "required")]).await;
    let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(answer["response"]["status"]["code"], 403);
    let message = answer["response"]["status"]["message"].as_str().expect("a sentence");
    assert!(
        message.starts_with("relay: the tools of this namespace's tenant are not ready"),
        "{message}"
    );
    assert_eq!(lab.metric("relay_operator_reviews_total{result=\"denied\"}"), 1);
}

#[tokio::test]
async fn what_cannot_be_wrapped_runs_with_a_warning_and_an_event_where_it_is_enabled() {
    let lab = Lab::start(vec![tenant_without_tools("acme", "enabled")]).await;
    let mut dry_run = creation("acme", &pod(&json!(["true"])));
    dry_run["request"]["dryRun"] = json!(true);
    dry_run["request"]["object"]["metadata"]["name"] = json!("dry");
    for review in [dry_run, creation("acme", &pod(&json!(["true"])))] {
        let answer = lab.review(&review).await;
        assert_eq!(answer["response"]["allowed"], true);
        let warning = answer["response"]["warnings"][0].as_str().expect("a warning");
        assert!(warning.starts_with("relay: not wrapped: the tools"), "{warning}");
    }
    // Events keep their order, so the dry run wrote none.
    let event = lab.api.event().await;
    assert_eq!(event["regarding"]["name"], "p");
    assert_eq!(event["reason"], "NotWrapped");
    assert_eq!(lab.metric("relay_operator_reviews_total{result=\"skipped\"}"), 2);
}

#[tokio::test]
async fn an_event_about_a_controlled_pod_is_about_its_controller() {
    let lab = Lab::start(vec![tenant_without_tools("acme", "enabled")]).await;
    let mut pod = pod(&json!(["true"]));
    pod["metadata"] = json!({ "generateName": "web-", "ownerReferences": [
        { "apiVersion": "v1", "kind": "X", "name": "other", "uid": "1" },
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "2", "controller": true },
    ] });
    lab.review(&creation("acme", &pod)).await;
    let event = lab.api.event().await;
    assert_eq!(event["regarding"]["kind"], "ReplicaSet");
    assert_eq!(event["regarding"]["name"], "web");
}

#[tokio::test]
async fn a_body_that_is_no_review_is_refused_and_the_next_is_answered() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let old = json!({ "apiVersion": "admission.k8s.io/v1beta1", "request": creation("acme", &json!({}))["request"] });
    let deep = "[".repeat(100_000);
    for body in ["{}", "null", "\u{0}", deep.as_str(), old.to_string().as_str()] {
        let sent = lab.client().post(lab.reviews()).body(body.to_owned()).send().await;
        assert_eq!(sent.expect("an answer").status(), 400, "{body:.40}");
    }
    for pod in
        [json!(null), json!("x"), json!({ "spec": [] }), json!({ "spec": { "containers": "x" } })]
    {
        let answer = lab.review(&creation("acme", &pod)).await;
        assert_eq!(answer["response"]["allowed"], true, "{pod}");
    }
    let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
    assert!(patch(&answer).is_some());
}

#[tokio::test]
async fn a_body_that_is_too_large_or_of_unknown_length_is_refused() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let large = "x".repeat((8 << 20) + 1);
    let sent = lab.client().post(lab.reviews()).body(large).send().await;
    // The server may hang up before all of it is sent.
    assert!(sent.is_err() || sent.is_ok_and(|sent| sent.status() == 413));
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("{}")]);
    let chunked = reqwest::Body::wrap_stream(chunks);
    let sent = lab.client().post(lab.reviews()).body(chunked).send().await;
    assert_eq!(sent.expect("an answer").status(), 411);
}

#[tokio::test]
async fn without_the_api_server_an_unknown_namespace_gets_no_answer() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let review = creation("broken", &pod(&json!(["true"]))).to_string();
    let sent = lab.client().post(lab.reviews()).body(review).send().await;
    assert_eq!(sent.expect("an answer").status(), 500);
    assert_eq!(lab.metric("relay_operator_reviews_total{result=\"failed\"}"), 1);
}

#[tokio::test]
async fn other_objects_pass() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let mut review = creation("acme", &json!({ "spec": { "containers": [{ "command": ["x"] }] } }));
    review["request"]["operation"] = json!("UPDATE");
    assert_eq!(lab.review(&review).await["response"], json!({ "uid": "8a1c", "allowed": true }));
    review["request"]["resource"] = json!({ "group": "apps", "version": "v1", "resource": "pods" });
    assert_eq!(lab.review(&review).await["response"], json!({ "uid": "8a1c", "allowed": true }));
}

#[tokio::test]
async fn it_is_ready_only_with_a_certificate_and_shows_the_newest_to_new_connections() {
    let mut lab = Lab::start_without_certificate(vec![tenant("acme", "required")]).await;
    lab.api.show_nodes();
    assert!(!lab.readiness.is_ready());
    assert!(lab.client().get(lab.url("/healthz")).send().await.is_err(), "there is no certificate");
    lab.followed.take(lab.held.clone());
    lab.wait_until("the webhook is ready", || lab.readiness.is_ready()).await;
    let old = lab.client();
    assert_eq!(old.get(lab.url("/readyz")).send().await.expect("an answer").status(), 200);

    lab.held = issued();
    lab.followed.take(lab.held.clone());
    assert_eq!(lab.client().get(lab.url("/readyz")).send().await.expect("an answer").status(), 200);
    // A connection that is open stays, and is trusted.
    assert_eq!(old.get(lab.url("/readyz")).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn it_is_ready_only_when_it_knows_the_nodes() {
    let lab = Lab::start_without_certificate(vec![tenant("acme", "required")]).await;
    lab.followed.take(lab.held.clone());
    // The tenant is known once it is found without a question.
    let is_known = async {
        loop {
            let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
            if patch(&answer).is_some() {
                return;
            }
        }
    };
    tokio::time::timeout(lab::PATIENCE, is_known).await.expect("the tenant is known");
    assert!(!lab.readiness.is_ready(), "all is there but nodes");
    lab.api.show_nodes();
    lab.wait_until("the webhook is ready", || lab.readiness.is_ready()).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_does_not_replace_one_that_can() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let mut broken = lab.held.clone();
    let other = issued().leaves.remove(&Use::Webhook).expect("it was issued");
    broken.leaves.get_mut(&Use::Webhook).expect("it was issued").key = other.key;
    lab.followed.take(broken);
    assert_eq!(lab.client().get(lab.url("/readyz")).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn when_it_stops_it_says_so_first_serves_on_and_then_ends() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let old = lab.client();
    let before = old.get(lab.url("/readyz")).send().await.expect("an answer");
    assert_eq!(before.headers().get("connection"), None);
    drop(before.bytes().await);
    lab.stopping.cancel();
    lab.wait_until("it is not ready", || !lab.readiness.is_ready()).await;
    let readiness = lab.client().get(lab.url("/readyz")).send().await;
    assert_eq!(readiness.expect("an answer").status(), 503);
    let answer: Value = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
    assert!(patch(&answer).is_some());
    // Whoever asks on a connection from before learns that it is the last time.
    let last = old.get(lab.url("/readyz")).send().await.expect("an answer");
    assert_eq!(last.headers().get("connection").expect("it says so"), "close");
    let ended = tokio::time::timeout(lab::PATIENCE, lab.running).await;
    ended.expect("it ends").expect("it does not panic");
}

#[tokio::test]
async fn pods_that_are_created_at_the_same_time_are_all_answered() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let client = lab.client();
    let review = creation("acme", &pod(&json!(["true"]))).to_string();
    // Each on a connection of its own, as the API server does it.
    let answers = (0..50).map(|_| client.post(lab.reviews()).body(review.clone()).send());
    for answer in join_all(answers).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
}

#[tokio::test]
async fn who_announces_much_from_many_addresses_and_sends_nothing_holds_up_nobody_else() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let clients: Vec<_> = (2..12).map(|last| lab.client_from([127, 0, 0, last])).collect();
    let url = lab.reviews();
    let liars = clients.iter().flat_map(|client| vec![client.clone(); 4]);
    let liars = liars.map(|client| {
        let url = url.clone();
        tokio::spawn(async move {
            // Each lie is believed for four seconds.
            loop {
                let nothing =
                    reqwest::Body::wrap_stream(stream::pending::<std::io::Result<&[u8]>>());
                // Sixteen of them are all the memory that there is for bodies.
                let lie = client.post(&url).header("content-length", (1 << 20) - 1).body(nothing);
                drop(lie.send().await);
            }
        })
    });
    let liars: Vec<_> = liars.collect();
    for _ in 0..20 {
        let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
        assert!(patch(&answer).is_some());
    }
    liars.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_review_cannot_make_the_operator_ask_for_anything_but_a_namespace() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    for namespace in ["silent?a", "x/../silent", "Silent", "", "silent/pods", &"x".repeat(64)] {
        let answer = lab.review(&creation(namespace, &pod(&json!(["true"])))).await;
        assert_eq!(answer["response"], json!({ "uid": "8a1c", "allowed": true }), "{namespace}");
    }
    assert_eq!(lab.api.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_tenant_that_cannot_be_read_costs_no_other_its_webhook() {
    let mut odd = tenant("odd", "required");
    // The API server takes it, and no client's type holds it.
    odd["metadata"]["managedFields"] = json!([{ "time": "9999-12-31T23:59:59Z" }]);
    let lab = Lab::start(vec![odd, tenant("acme", "required")]).await;
    let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
    assert!(patch(&answer).is_some());
}

#[tokio::test]
async fn events_are_few_and_of_names_that_objects_can_have() {
    let lab = Lab::start(vec![tenant_without_tools("acme", "enabled")]).await;
    let begun = now();
    let names = ["x".repeat(1000)].into_iter().chain((0..20).map(|at| format!("p{at}")));
    for name in names {
        let mut owned = pod(&json!(["true"]));
        owned["metadata"]["ownerReferences"] = json!([
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "2", "controller": true },
        ]);
        lab.review(&creation("acme", &owned)).await;
    }
    lab.wait_until("the last is told of", || lab.api.told("p19")).await;
    assert!(begun.elapsed() > Duration::from_millis(1500), "a flood: {:?}", begun.elapsed());
    assert_eq!(lab.api.event().await["regarding"]["name"], "p0");
}

#[tokio::test]
async fn pods_that_would_fill_the_memory_are_refused() {
    let lab = Lab::start(vec![tenant("acme", "required"), tenant("lax", "enabled")]).await;
    let mut pod = pod(&json!(["true"]));
    pod["spec"]["containers"] = json!(vec![json!({ "name": "a", "command": ["a"] }); 3000]);
    let answer = lab.review(&creation("acme", &pod)).await;
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().expect("a sentence");
    assert!(message.contains("3000 containers"), "{message}");
    let answer = lab.review(&creation("lax", &pod)).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(patch(&answer).expect("it says why")[0]["path"], "/metadata/annotations");

    pod["spec"]["containers"] = json!(vec![json!({ "a": 0 }); 100_000]);
    let bomb = creation("acme", &pod).to_string();
    assert!(bomb.len() < 1 << 20);
    let sent = lab.client().post(lab.reviews()).body(bomb).send().await;
    assert_eq!(sent.expect("an answer").status(), 413);
}

#[tokio::test]
async fn reviews_of_unknown_namespaces_do_not_flood_the_api_server() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let client = lab.client_from([127, 0, 0, 2]);
    let review = creation("silent", &pod(&json!(["true"]))).to_string();
    let unknown = (0..40).map(|_| client.post(lab.reviews()).body(review.clone()).send());
    let unknown = tokio::spawn(join_all(unknown));
    lab.wait_until("it asks", || lab.api.unanswered.at_most() > 0).await;
    let answer = lab.review(&creation("acme", &pod(&json!(["true"])))).await;
    assert!(patch(&answer).is_some(), "who is known does not wait");
    for answer in unknown.await.expect("they end") {
        assert_eq!(answer.expect("an answer").status(), 500);
    }
    // One that gave up may still wait there for a moment.
    let at_most = lab.api.unanswered.at_most();
    assert!(at_most < 20, "{at_most} at once");
}
