//! The chart's guard refuses exactly those pods that the webhook would not leave as they are.

mod chart;
mod cluster;
mod pods;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, TestRunner},
};
use relay_operator::injection::{
    ENTRYPOINT,
    skip::{ANYWHERE, BY_LABEL, FIRST_PROCESSES},
    unwrapped,
};
use relay_tests::program::is_long_run;
use serde_json::json;

use cluster::Cluster;

fn quoted<'name>(names: impl IntoIterator<Item = &'name str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", names.join(", "))
}

#[test]
fn the_chart_has_the_lists_of_the_webhook() {
    let policy = chart::policy();
    let expression = |name: &str| {
        let variables = policy["spec"]["variables"].as_array().expect("a list");
        let variable = variables.iter().find(|variable| variable["name"] == name);
        variable.expect(name)["expression"].as_str().expect("text").to_owned()
    };
    let starts = ANYWHERE.iter().filter_map(|name| name.strip_suffix('*'));
    assert_eq!(expression("prefixes"), quoted(starts));
    let whole = ANYWHERE.into_iter().filter(|name| !name.ends_with('*'));
    let by_label = BY_LABEL.iter().map(|(label, names)| {
        format!(" + ('{label}' in variables.labels ? {} : [])", quoted(names.iter().copied()))
    });
    assert_eq!(expression("names"), quoted(whole) + &by_label.collect::<String>());
    assert_eq!(expression("programs"), quoted([ENTRYPOINT].into_iter().chain(FIRST_PROCESSES)));
}

#[tokio::test]
async fn a_pod_is_refused_just_if_one_of_its_containers_should_be_wrapped_and_is_not() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut runner = TestRunner::new(Config::default());
    let count = if is_long_run() { 2000 } else { 200 };
    let mut refused = 0;
    for _ in 0..count {
        let pod = pods::any().new_tree(&mut runner).expect("it generates").current();
        let bare = unwrapped(&pod);
        let created = cluster.create(&pod).await;
        match (&created, bare.first()) {
            (Ok(()), None) => {}
            (Err(why), Some(name)) => {
                refused += 1;
                let more = if bare.len() > 1 {
                    format!(" and {} more", bare.len() - 1)
                } else {
                    String::new()
                };
                assert!(
                    why.contains(" would run without Relay") && why.contains(&more),
                    "{pod}: {why}, {name}"
                );
            }
            (other, _) => panic!("{other:?}, though {bare:?} should be wrapped, of {pod:#}"),
        }
    }
    // The pods are of both kinds.
    assert!(refused > count / 10 && refused < count * 9 / 10, "{refused} of {count}");
    cluster.end().await;
}

#[tokio::test]
async fn special_pods_are_refused_or_not_as_the_webhook_has_it() {
    let Some(cluster) = Cluster::start().await else { return };
    for (pod, is_admitted) in pods::special() {
        assert_eq!(unwrapped(&pod).is_empty(), is_admitted, "{pod:#}");
        let created = cluster.create(&pod).await;
        assert_eq!(created.is_ok(), is_admitted, "{created:?}: {pod:#}");
    }
    cluster.end().await;
}

#[tokio::test]
async fn ephemeral_containers_of_wrapped_pods_are_watched_too() {
    let Some(cluster) = Cluster::start().await else { return };
    let container =
        |command: &str| json!({ "name": "main", "image": "app:1", "command": [command] });
    let wrapped = cluster.keep("wrapped", &pods::wrapped(&container("/app"))).await;
    let bare = json!({ "name": "debug", "image": "app:1" });
    let why = cluster.debug(&wrapped, &bare).await.expect_err("it is not wrapped");
    assert!(why.contains("container debug would run without Relay"), "{why}");
    let mut shell = bare.clone();
    shell["tty"] = json!(true);
    cluster.debug(&wrapped, &shell).await.expect("a terminal is no log");
    let mut second = bare.clone();
    second["name"] = json!("second");
    second["command"] = json!([ENTRYPOINT]);
    cluster.debug(&wrapped, &second).await.expect("it is wrapped");
    // What was there before is not looked at again,
    let mut known = pods::wrapped(&container("/app"));
    known["metadata"]["annotations"] = json!({ "relay.sh/exclude-containers": "debug" });
    let known = cluster.keep("known", &known).await;
    cluster.debug(&known, &bare).await.expect("it is excluded");
    cluster.change(&known, &json!({ "metadata": { "annotations": null } })).await;
    cluster.debug(&known, &second).await.expect("another is wrapped");
    // nor is a pod that has no place for Relay.
    let mut left_out = pods::of(&[container("/app")]);
    left_out["metadata"]["annotations"] = json!({ "relay.sh/exclude-containers": "main" });
    let left_out = cluster.keep("left-out", &left_out).await;
    cluster.debug(&left_out, &bare).await.expect("it has none of Relay's volumes");
    cluster.end().await;
}

#[tokio::test]
async fn ephemeral_containers_of_pods_with_volumes_of_their_own_are_judged_as_the_webhook_does() {
    let Some(cluster) = Cluster::start().await else { return };
    let debugger = json!({ "name": "debug", "image": "app:1" });
    let mut admitted = 0;
    for (index, volumes) in pods::volumes().into_iter().enumerate() {
        let mut pod = pods::of(&[json!({ "name": "main", "image": "app:1" })]);
        pod["metadata"]["annotations"] = json!({ "relay.sh/exclude-containers": "main" });
        pod["spec"]["volumes"] = volumes;
        let name = cluster.keep(&format!("own-{index}"), &pod).await;
        let answer = cluster.debug(&name, &debugger).await;
        pod["spec"]["ephemeralContainers"] = json!([debugger]);
        let is_admitted = unwrapped(&pod).is_empty();
        assert_eq!(answer.is_ok(), is_admitted, "{answer:?}: {pod:#}");
        admitted += usize::from(is_admitted);
    }
    assert_eq!(admitted, 5, "the others have the volumes of a wrapped pod");
    cluster.end().await;
}

#[tokio::test]
async fn where_it_is_not_required_nothing_is_refused() {
    let Some(cluster) = Cluster::start().await else { return };
    let pod = pods::of(&[json!({ "name": "main", "image": "app:1" })]);
    for namespace in [&cluster.enabled, &cluster.nobody] {
        cluster.create_in(namespace, &pod).await.expect("it is not required");
    }
    cluster.end().await;
}

/// CEL has a budget; what exceeds it is refused with another reason.
#[tokio::test]
async fn the_largest_pods_are_judged_too() {
    let Some(cluster) = Cluster::start().await else { return };
    let container = |index: usize, program: &str| {
        let name = format!("container-with-a-name-of-some-length-{index}");
        json!({ "name": name, "image": "app:1", "command": [program] })
    };
    let mut containers: Vec<_> = (0..2048).map(|index| container(index, ENTRYPOINT)).collect();
    cluster.create(&pods::of(&containers)).await.expect("all are wrapped");
    containers[2047] = container(2047, "/app");
    let why = cluster.create(&pods::of(&containers)).await.expect_err("one is not");
    assert!(why.contains("container container-with-a-name-of-some-length-2047 would run"), "{why}");
    let containers: Vec<_> = (0..2048).map(|index| container(index, "/app")).collect();
    let why = cluster.create(&pods::of(&containers)).await.expect_err("none is");
    assert!(why.contains(" and 2047 more would run"), "{why}");
    cluster.end().await;
}
