//! Images of which the registry says what they run.

use std::{path::PathBuf, thread, time::Duration};

use relay_tests::{
    cluster::{
        Cluster,
        follower::Follower,
        image,
        namespace::{Namespace, PATIENCE},
        registries::{GUARDED, OPEN, pull_secret},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{is_short_run, log_of};
use crate::manifest::{create, end, field, is_wrapped, script};

/// What the image's own program does first: it takes the words after `--`.
const BEGIN: &str = "#!/bin/sh\nshift\n";

/// An image whose program gets the words `from the image`, if it gets no others.
fn talker(script: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let say = format!("{BEGIN}{script}\n");
    let config = json!({ "Entrypoint": ["/say", "--"], "Cmd": ["from", "the", "image"] });
    let made = image::configured(folder.path(), "dev.local/talker:1", &[("say", &say)], &config);
    (folder, made.expect("busybox-static is installed"))
}

/// Puts it where a password is wanted, by a name of its own for each test: a node that has an image asks nobody.
fn push_private(cluster: &Cluster, test: &str) -> Option<String> {
    cluster.own_node()?;
    let name = format!("{GUARDED}/private/{test}:1");
    let (_folder, archive) = talker("echo \"$@\"");
    cluster.push_image(&archive, &name).expect("the node's registry takes it");
    Some(name)
}

/// A pod that runs what its image says.
fn of_image(name: &str, image: &str) -> Value {
    let mut pod = script(name, "");
    let container = &mut pod["spec"]["containers"][0];
    container["image"] = image.into();
    container["command"] = Value::Null;
    container["imagePullPolicy"] = "Always".into();
    pod
}

fn assert_runs(relay: &Relay, tenant: &Namespace, pod: &str) {
    assert_eq!(end(tenant, pod), ("0".into(), "Completed".into()));
    assert!(is_wrapped(tenant, pod));
    assert_eq!(log_of(relay, tenant, pod), "from the image\n");
}

#[test]
fn a_private_image_is_asked_for_what_it_runs_with_the_pull_secrets_of_the_pod_or_of_its_account() {
    let relay = Relay::shared();
    let Some(image) = push_private(relay.cluster(), "secrets") else { return };
    let tenant = relay.tenant("private", &json!({}));
    let refusal = create(&tenant, &of_image("nobody", &image)).expect_err("nobody may know");
    let sentence = format!(
        "container main: no command, and Relay cannot look into its image {image}: {GUARDED} refuses its image, anonymously; \
         check the pull secrets of the pod and of its service account; or write the command"
    );
    assert!(refusal.contains(&sentence), "{refusal}");

    tenant.apply(&pull_secret("password").to_string());
    let mut pod = of_image("pod", &image);
    pod["spec"]["imagePullSecrets"] = json!([{ "name": "password" }]);
    tenant.apply(&pod.to_string());
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "puller" },
        "imagePullSecrets": [{ "name": "password" }],
    });
    tenant.apply(&account.to_string());
    let mut pod = of_image("account", &image);
    pod["spec"]["serviceAccountName"] = "puller".into();
    tenant.apply(&pod.to_string());
    assert_runs(&relay, &tenant, "pod");
    assert_runs(&relay, &tenant, "account");
    let path = ".spec.imagePullSecrets[*].name";
    assert_eq!(field(&tenant, "pod/account", path), "password");
}

/// What Relay keeps of one container, once it has ended.
fn log_of_container(relay: &Relay, tenant: &Namespace, (pod, container): (&str, &str)) -> String {
    let words = ["logs", "-n", tenant.name(), "-f", pod, "-c", container];
    let ended = Follower::start(&mut relay.kubectl_relay(&words)).finish(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

/// Waits until the kubelet says that an ephemeral container has ended well.
fn wait_for_ephemeral(tenant: &Namespace, pod: &str, container: &str) {
    let path = format!(
        ".status.ephemeralContainerStatuses[?(@.name=='{container}')].state.terminated.exitCode"
    );
    eventually(PATIENCE, &format!("container {container} ends"), || {
        thread::park_timeout(Duration::from_millis(200));
        field(tenant, &format!("pod/{pod}"), &path) == "0"
    });
}

#[test]
fn native_sidecars_and_ephemeral_containers_run_what_their_images_say() {
    let relay = Relay::shared();
    if relay.cluster().own_node().is_none() {
        return;
    }
    let image = format!("{OPEN}/sidecars:1");
    let (_folder, archive) = talker("trap 'exit 0' TERM; echo \"$@\"; while :; do sleep 0.1; done");
    relay.cluster().push_image(&archive, &image).expect("the node's registry takes it");
    let short = format!("{OPEN}/short:1");
    let (_folder, archive) = talker("echo \"$@\"");
    relay.cluster().push_image(&archive, &short).expect("the node's registry takes it");
    let tenant = relay.common_tenant();
    let pod = "beside";
    let mut made = of_image(pod, &image);
    made["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let mut container = made["spec"]["containers"][0].clone();
    container["name"] = "side".into();
    container["restartPolicy"] = "Always".into();
    container["args"] = json!(["beside", "it"]);
    made["spec"]["initContainers"] = json!([container]);
    tenant.apply(&made.to_string());
    tenant.wait_for("condition=Ready", "pod/beside");
    for (name, command) in
        [("silent", &[][..]), ("told", &["--", "busybox", "echo", "by a person"])]
    {
        let (image, name) = (format!("--image={short}"), format!("--container={name}"));
        let words = ["debug", pod, "--profile=general", &image, &name];
        // Whether its words are a command or arguments is up to whoever asks.
        let how = ["--arguments-only=false"];
        tenant.ask(&[&words[..], &how, command].concat()).expect("it comes into the pod");
    }
    for (name, log) in [("silent", "from the image\n"), ("told", "by a person\n")] {
        wait_for_ephemeral(&tenant, pod, name);
        assert_eq!(log_of_container(&relay, &tenant, (pod, name)), log);
    }
    tenant.ask(&["delete", "pod", pod]).expect("it can be deleted, and ends in time");
    for (name, log) in [("side", "beside it\n"), ("main", "from the image\n")] {
        assert_eq!(log_of_container(&relay, &tenant, (pod, name)), log);
    }
}

/// Runs a pod whose containers are wrapped, and the same where Relay has nothing to do with it: both say these words.
fn assert_says(relay: &Relay, tenant: &Namespace, pod: &Value, logs: &[(&str, &str)]) {
    let plain = Namespace::new("plain");
    let name = pod["metadata"]["name"].as_str().expect("it has a name");
    for namespace in [tenant, &plain] {
        namespace.apply(&pod.to_string());
    }
    for namespace in [tenant, &plain] {
        assert_eq!(end(namespace, name), ("0".into(), "Completed".into()));
    }
    assert!(is_wrapped(tenant, name));
    for (container, log) in logs {
        let own = plain.ask(&["logs", name, "--container", container]).expect("its log");
        assert_eq!(own, *log);
        assert_eq!(log_of_container(relay, tenant, (name, container)), *log);
    }
}

#[test]
fn an_image_whose_words_differ_by_platform_runs_those_of_its_node() {
    let relay = Relay::shared();
    if relay.cluster().own_node().is_none() {
        return;
    }
    let image = format!("{OPEN}/platforms:1");
    let folder = tempfile::tempdir().expect("a folder for the image");
    let scripts = [("say", "#!/bin/sh\necho \"$@\"\n")];
    let here = json!({ "Entrypoint": ["/say", "$HOME", "$(NAME)", "$$"], "Cmd": ["here"] });
    let there = json!({ "Entrypoint": ["/say", "elsewhere"] });
    let archive = image::indexed(folder.path(), &image, &scripts, &[here, there]);
    let archive = archive.expect("busybox-static is installed");
    relay.cluster().push_image(&archive, &image).expect("the node's registry takes it");

    let mut pod = of_image("platforms", &image);
    let either =
        json!({ "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"] });
    pod["spec"]["affinity"] = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [either] }],
        },
    } });
    let main = &mut pod["spec"]["containers"][0];
    main["env"] = json!([{ "name": "NAME", "value": "value" }]);
    let mut told = main.clone();
    told["name"] = "told".into();
    told["args"] = json!(["$(NAME)", "$$"]);
    pod["spec"]["containers"] = json!([main, told]);
    let tenant = relay.common_tenant();
    let logs = [("main", "$HOME $(NAME) $$ here\n"), ("told", "$HOME $(NAME) $$ value $\n")];
    assert_says(&relay, &tenant, &pod, &logs);
    // Which words those are is decided on the node.
    let options = field(&tenant, "pod/platforms", ".spec.containers[*].args[0]");
    assert_eq!(options, "--platform-argv --platform-argv");
}

/// As `ENTRYPOINT echo …` makes them.
#[test]
fn an_image_whose_command_is_one_string_for_a_shell_runs_it() {
    let relay = Relay::shared();
    if relay.cluster().own_node().is_none() {
        return;
    }
    let image = format!("{OPEN}/string:1");
    let folder = tempfile::tempdir().expect("a folder for the image");
    // What the kubelet takes for a variable is another command to a shell, and `$$` its process.
    let string = "NAME() { echo called; }; test -d /proc/$$ && echo \"$NAME $(NAME) $0\"";
    let config = json!({ "Entrypoint": ["/bin/sh", "-c", string], "Cmd": ["dropped"] });
    let archive = image::configured(folder.path(), &image, &[], &config);
    let archive = archive.expect("busybox-static is installed");
    relay.cluster().push_image(&archive, &image).expect("the node's registry takes it");

    let mut pod = of_image("string", &image);
    let main = &mut pod["spec"]["containers"][0];
    main["env"] = json!([{ "name": "NAME", "value": "value" }]);
    let mut told = main.clone();
    told["name"] = "told".into();
    told["args"] = json!(["$(NAME)"]);
    pod["spec"]["containers"] = json!([main, told]);
    let logs = [("main", "value called dropped\n"), ("told", "value called value\n")];
    assert_says(&relay, &relay.common_tenant(), &pod, &logs);
}

#[test]
fn tools_of_a_private_registry_come_once_the_tenants_namespace_has_the_password() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    if relay.cluster().own_node().is_none() {
        return;
    }
    relay.use_private_images("tools-password");
    let tenant = Namespace::of_tenant("private-tools", &json!({}));
    let why = ".status.conditions[?(@.type=='ToolsReady')].reason";
    tenant.wait_for(&format!("jsonpath={{{why}}}=ImageNotPullable"), &tenant.tenant());
    tenant.apply(&pull_secret("tools-password").to_string());
    tenant.wait_for("condition=Ready", &tenant.tenant());
    let image = field(&tenant, &tenant.tenant(), ".status.tools.image");
    assert!(image.starts_with(GUARDED), "{image}");
    tenant.apply(&script("pod", "echo from private tools").to_string());
    assert_eq!(end(&tenant, "pod").0, "0");
    assert!(is_wrapped(&tenant, "pod"));
    assert_eq!(log_of(&relay, &tenant, "pod"), "from private tools\n");
    for delivery in ["ImageVolume", "InitContainer"] {
        let patch = json!({ "spec": { "entrypointInjection": { "delivery": delivery } } });
        let patch = patch.to_string();
        let words = ["patch", &tenant.tenant(), "--type=merge", "--patch", &patch];
        tenant.ask(&words).expect("it can be changed");
        let chosen = format!("jsonpath={{.status.tools.delivery}}={delivery}");
        tenant.wait_for(&chosen, &tenant.tenant());
        // The Job that looked at them has left them on the node, where a pod would not pull them.
        relay.cluster().forget_image(&image);
        let pod = delivery.to_lowercase();
        tenant.apply(&script(&pod, "echo pulled by the pod").to_string());
        assert_eq!(end(&tenant, &pod).0, "0");
        assert_eq!(log_of(&relay, &tenant, &pod), "pulled by the pod\n");
        let events = tenant.ask(&["describe", "pod", &pod]).expect("it is there");
        let pulled = format!("Successfully pulled image \"{image}\"");
        assert!(events.contains(&pulled), "{events}");
    }
}
