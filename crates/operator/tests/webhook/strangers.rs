//! What others find who reach the webhook, and what one tenant leaves to another.

use std::time::Duration;

use futures_util::{future::join_all, stream};
use relay_operator::certificates::Held;
use relay_tests::measure::now;
use serde_json::{Value, json};

use super::lab::{Lab, creation, patch, pod, silent_registry, tenant};

/// A pod that does not say what it runs.
fn without_command(image: &str) -> Value {
    let mut pod = pod(&json!(null));
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

/// A pod whose patch is made while no other large one is.
fn large(mut pod: Value) -> Value {
    pod["metadata"]["annotations"] = json!({ "notes": "x".repeat(40 << 10) });
    pod
}

#[tokio::test]
async fn who_does_not_know_where_reviews_are_sent_learns_nothing_of_any_image() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let review = creation("acme", &without_command("known.test/app:7"));
    let told = patch(&lab.review(&review).await).expect("the API server is told");
    assert!(told.to_string().contains("$$HOME"), "{told}");
    let path = lab.held.paths.named().expect("it was issued").as_str();
    let (zeros, short) =
        (format!("/inject/{:032}", 0), path.strip_suffix(|_| true).expect("it is long"));
    let (long, loud) = (format!("{path}0"), path.to_uppercase());
    for guess in ["/", "/inject", "/inject/", &zeros, short, &long, &format!("{path}/"), &loud] {
        let thief = lab.client_from([127, 0, 0, 2]);
        let sent = thief.post(lab.url(guess)).body(review.to_string()).send().await;
        // The server may hang up before all of it is sent.
        assert!(sent.is_err() || sent.is_ok_and(|sent| sent.status() == 404), "{guess}");
    }
    assert_eq!(lab.metric("relay_operator_reviews_total{result=\"wrapped\"}"), 1);
    let nothing = reqwest::Body::wrap_stream(stream::pending::<std::io::Result<&[u8]>>());
    let announced = lab.client().post(lab.url("/inject")).header("content-length", 1 << 20);
    let sent = announced.body(nothing).send().await.expect("nobody waits for what is announced");
    assert_eq!(sent.status(), 404);
}

#[tokio::test]
async fn reviews_are_answered_where_operators_of_before_are_asked_as_long_as_the_secret_says_so() {
    let lab = Lab::start(vec![tenant("acme", "required")]).await;
    let mut data = lab.held.to_data();
    data.remove("webhook.paths").expect("paths are written down");
    lab.followed.take(Held::from_data(&data).expect("certificates are there"));
    let review = creation("acme", &pod(&json!(["true"]))).to_string();
    let sent = lab.client().post(lab.url("/inject")).body(review).send().await;
    assert_eq!(sent.expect("an answer").status(), 200);
    lab.followed.take(lab.held.clone());
    assert!(patch(&lab.review(&creation("acme", &pod(&json!(["true"])))).await).is_some());
}

#[tokio::test]
async fn large_pods_whose_images_are_slow_hold_up_no_large_pod_of_another() {
    let (registry, images) = silent_registry().await;
    let tenants = vec![tenant("acme", "required"), tenant("slow", "required")];
    let lab = Lab::start_asking(tenants, &images).await;
    let slow = (0..8).map(|at| {
        let (client, url) = (lab.client(), lab.reviews());
        tokio::spawn(async move {
            // Each is looked up for three seconds.
            for round in 0.. {
                let pod = without_command(&format!("silent.test/app:{at}-{round}"));
                let review = creation("slow", &large(pod)).to_string();
                drop(client.post(&url).body(review).send().await);
            }
        })
    });
    let slow: Vec<_> = slow.collect();
    lab.wait_until("several are looked up at once", || registry.at_most() >= 4).await;
    for _ in 0..8 {
        let answer = lab.review(&creation("acme", &large(pod(&json!(["true"]))))).await;
        assert!(patch(&answer).is_some());
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn pods_whose_images_are_slow_leave_room_to_those_of_others() {
    let (registry, images) = silent_registry().await;
    let tenants = vec![tenant("acme", "required"), tenant("slow", "required")];
    let lab = Lab::start_asking(tenants, &images).await;
    // Nine of them take the room that there is for values, though each is small as a text.
    let with_notes = |mut pod: Value| {
        pod["metadata"]["annotations"] = json!({ "notes": ",".repeat(20_000) });
        pod
    };
    let slow = (0..24).map(|at| {
        let (client, url) = (lab.client(), lab.reviews());
        tokio::spawn(async move {
            for round in 0.. {
                let pod = with_notes(without_command(&format!("silent.test/app:{at}-{round}")));
                let review = creation("slow", &pod).to_string();
                drop(client.post(&url).body(review).send().await);
            }
        })
    });
    let slow: Vec<_> = slow.collect();
    lab.wait_until("some are looked up", || registry.at_most() >= 2).await;
    let flood = now();
    while flood.elapsed() < Duration::from_secs(2) {
        let begun = now();
        let pod = with_notes(pod(&json!(["true"])));
        let answer = lab.review(&creation("acme", &pod)).await;
        assert!(patch(&answer).is_some());
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn pods_that_name_many_secrets_do_not_flood_the_api_server() {
    let (_registry, images) = silent_registry().await;
    let names = ["a", "b", "c", "d"];
    let lab = Lab::start_asking(names.map(|name| tenant(name, "required")).into(), &images).await;
    let client = lab.client();
    let reviews = names.iter().cycle().take(40).enumerate().map(|(at, namespace)| {
        let mut pod = without_command("silent.test/app:1");
        let secrets = (0..16).map(|secret| json!({ "name": format!("slow-{at}-{secret}") }));
        pod["spec"]["imagePullSecrets"] = secrets.collect();
        client.post(lab.reviews()).body(creation(namespace, &pod).to_string()).send()
    });
    for answer in join_all(reviews).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    let at_most = lab.api.unanswered.at_most();
    // One that gave up may still wait there for a moment.
    assert!((1..64).contains(&at_most), "{at_most} of 640 at once");
}
