//! What images run is asked under the pull secrets that a real API server holds.

use k8s_openapi::api::core::v1::{Node, Secret, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use relay_tests::{
    certificate::Authority,
    registry::{CONFIG, Content, Registry, USER},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::lab::{Creation, Lab, is_wrapped, pod};

/// What images name the registry under test by.
const REGISTRY: &str = "registry.test";

/// A pod whose image says what it runs.
fn without_command(name: &str, more: &Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"] =
        json!([{ "name": "main", "image": format!("{REGISTRY}/acme/app:1") }]);
    let spec = pod["spec"].as_object_mut().expect("a pod has one");
    spec.extend(more.as_object().expect("fields").clone());
    pod
}

async fn push(registry: &Registry) {
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/app"], "Cmd": ["$HOME"]}});
    let config = Content::json(&config, CONFIG);
    drop(registry.push_image("acme/app", Some("1"), &config).await);
}

/// A registry with the image, which wants a password, and a namespace that has it.
async fn start_guarded() -> Option<(Lab, Registry, TempDir)> {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("registries");
    let registry = Registry::guarded(&authority, folder.path());
    push(&registry).await;
    let pem = folder.path().join("authority.pem");
    std::fs::write(&pem, authority.pem()).expect("it can be written");
    let images = format!(
        "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'https://{}', local: true, credentials: Registry, authorities: '{}'}}]}}]",
        registry.host(),
        pem.display()
    );
    let lab = Lab::start_asking(&images).await?;
    make_rights(&lab, &lab.required).await;
    Some((lab, registry, folder))
}

/// Makes a pull secret in a namespace, and two service accounts: one names it, one does not.
async fn make_rights(lab: &Lab, namespace: &str) {
    let (username, password) = USER;
    let auths = json!({"auths": {REGISTRY: {"username": username, "password": password}}});
    let client = || lab.cluster.client.clone();
    let secret = json!({
        "metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": auths.to_string()},
    });
    let secret: Secret = serde_json::from_value(secret).expect("a secret");
    let how = PostParams::default();
    let secrets = Api::<Secret>::namespaced(client(), namespace);
    secrets.create(&how, &secret).await.expect("it is taken");
    let accounts = Api::<ServiceAccount>::namespaced(client(), namespace);
    for (name, secrets) in [("puller", json!([{"name": "pull"}])), ("plain", json!([]))] {
        let account = json!({"metadata": {"name": name}, "imagePullSecrets": secrets});
        let account: ServiceAccount = serde_json::from_value(account).expect("an account");
        accounts.create(&how, &account).await.expect("it is taken");
    }
}

#[tokio::test]
async fn an_image_is_looked_up_with_the_pull_secrets_of_the_pod_or_of_its_service_account() {
    let Some((lab, _registry, _folder)) = start_guarded().await else { return };
    let by_pod = json!({"imagePullSecrets": [{"name": "missing"}, {"name": "pull"}]});
    for rights in [by_pod, json!({"serviceAccountName": "puller"})] {
        let pod = without_command("p", &rights);
        // A machine with much else to do may not look it up in the time that a pod waits.
        lab.wait_for("its image is looked up", async |lab| {
            let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
            created.is_ok_and(|pod| {
                let args = &pod["spec"]["containers"][0]["args"];
                is_wrapped(&pod) && *args == json!(["--", "/app", "$$HOME"])
            })
        })
        .await;
    }
    let plain = "refuses its image, anonymously; check the pull secrets";
    let missing = "no credentials are in Secret missing";
    for (without, clause) in [
        (json!({"serviceAccountName": "plain"}), plain),
        (json!({"imagePullSecrets": [{"name": "missing"}]}), missing),
    ] {
        let pod = without_command("p", &without);
        lab.wait_for(clause, async |lab| {
            let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
            created.expect_err("no right").to_string().contains(clause)
        })
        .await;
    }
    lab.end().await;
}

#[tokio::test]
async fn a_secret_is_found_by_its_name_alone_and_by_no_path_to_it() {
    let Some((lab, _registry, _folder)) = start_guarded().await else { return };
    let other = format!("../../{}/secrets/pull", lab.required);
    for name in [other.as_str(), "../secrets/pull", "./pull", "pull/", "pull?a", "%70ull"] {
        let pod = without_command("p", &json!({"imagePullSecrets": [{"name": name}]}));
        let clause = format!("no credentials are in Secret {name}");
        lab.wait_for(&clause, async |lab| {
            let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
            created.expect_err("no Secret is called so").to_string().contains(&clause)
        })
        .await;
    }
    lab.end().await;
}

#[tokio::test]
async fn the_nodes_say_for_which_platforms_an_image_is_looked_up() {
    let registry = Registry::new();
    let config = |word: &str, architecture: &str| {
        let config =
            json!({"os": "linux", "architecture": architecture, "config": {"Entrypoint": [word]}});
        Content::json(&config, CONFIG)
    };
    let amd64 = registry.push_image("acme/app", None, &config("/amd64", "amd64")).await;
    let s390x = registry.push_image("acme/app", None, &config("/s390x", "s390x")).await;
    let entry = |content: &Content, architecture: &str| {
        let mut entry = content.descriptor();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let index = json!({"schemaVersion": 2, "mediaType": relay_tests::registry::INDEX, "manifests": [entry(&amd64, "amd64"), entry(&s390x, "s390x")]});
    let index = Content::json(&index, relay_tests::registry::INDEX);
    registry.push_manifest("acme/app", "1", &index).await;
    let images = format!(
        "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'http://{}', local: true}}]}}]",
        registry.host()
    );
    let Some(lab) = Lab::start_asking(&images).await else { return };
    let nodes = Api::<Node>::all(lab.cluster.client.clone());
    let name = format!("{}-node", lab.namespace);
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "s390x"}}});
    let node: Node = serde_json::from_value(node).expect("a node");
    nodes.create(&PostParams::default(), &node).await.expect("it is taken");
    let pod = without_command("p", &json!({}));
    lab.wait_for("the node counts", async |lab| {
        let created = lab.cluster.create(&lab.required, &pod, Creation::DryRun).await;
        created.is_ok_and(|pod| pod["spec"]["containers"][0]["args"] == json!(["--", "/s390x"]))
    })
    .await;
    let chosen = without_command("p", &json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}));
    lab.wait_for("what the pod chooses counts", async |lab| {
        let created = lab.cluster.create(&lab.required, &chosen, Creation::DryRun).await;
        created.is_ok_and(|pod| pod["spec"]["containers"][0]["args"] == json!(["--", "/amd64"]))
    })
    .await;
    drop(nodes.delete(&name, &DeleteParams::default()).await);
    lab.end().await;
}
