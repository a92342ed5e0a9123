//! What becomes of a pod.

use std::{
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use relay_tests::cluster::{
    follower::Follower,
    image,
    namespace::{Namespace, PATIENCE},
    relay::Relay,
};
use serde_json::json;

use super::log_of;
use crate::manifest::{end, go_on, in_two_parts, is_wrapped, line_of, script};

/// How much longer a wrapped pod may take from its creation to its end: some twenty times as much
/// as it does.
const SECONDS_OF_NORMAL: Duration = Duration::from_secs(20);

#[test]
fn an_ordinary_pod_is_wrapped_its_log_is_followed_live_and_its_end_is_its_own() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let words = in_two_parts("echo first; echo second >&2", "echo last; exit 7");
    let image = format!("--image={}", image::SHELL);
    let run = ["run", "main", &image, "--restart=Never", "--image-pull-policy=IfNotPresent"];
    let command = ["--command", "--", "sh", "-c", &words];
    tenant.ask(&[&run[..], &command].concat()).expect("the pod is admitted");
    let follow = &mut relay.kubectl_relay(&["logs", "--namespace", tenant.name(), "-f", "main"]);
    let follow = Follower::start(follow);
    follow.wait_for("first\n", PATIENCE);
    assert!(!follow.stdout().contains("last"), "the pod is half way");
    go_on(&tenant, "main");
    let ended = follow.finish(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["first", "last", "second"]);
    assert!(ended.stderr.contains("ended with status 7"), "{}", ended.stderr);
    assert_eq!(end(&tenant, "main"), ("7".into(), "Error".into()));
    let cluster_log = tenant.ask(&["logs", "main"]).expect("the cluster keeps a log too");
    assert_eq!(cluster_log, line_of(&tenant, "main"));
}

/// A runtime that sees the end of a container's output ends its stdin, and with it what is on its way.
#[test]
fn what_is_piped_into_a_pod_reaches_its_command() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let mut pod = script("fed", "cat");
    pod["spec"]["containers"][0]["stdin"] = true.into();
    pod["spec"]["containers"][0]["stdinOnce"] = true.into();
    tenant.apply(&pod.to_string());
    tenant.wait_for("condition=Ready", "pod/fed");
    let mut attach = tenant.kubectl();
    attach.args(["attach", "fed", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut attach = attach.spawn().expect("kubectl can be started");
    // A few bytes may be faster than the end.
    let lines = "piped\n".repeat(200_000);
    let written = attach.stdin.take().expect("it is a pipe").write_all(lines.as_bytes());
    let ended = attach.wait_with_output().expect("it can be waited for");
    assert!(written.is_ok() && ended.stdout.is_empty(), "{written:?} {ended:?}");
    assert_eq!(end(&tenant, "fed").0, "0");
    let log = log_of(&relay, &tenant, "fed");
    assert!(log == lines, "{} bytes", log.len());
}

#[test]
fn a_pod_runs_within_seconds_of_normal() {
    let relay = Relay::shared();
    let (tenant, plain) = (relay.common_tenant(), Namespace::new("plain"));
    let time = |namespace: &Namespace| {
        let begun = SystemTime::now();
        namespace.apply(&script("quick", "exit 5").to_string());
        assert_eq!(end(namespace, "quick"), ("5".into(), "Error".into()));
        begun.elapsed().unwrap_or_default()
    };
    let (normal, wrapped) = (time(&plain), time(&tenant));
    assert!(is_wrapped(&tenant, "quick") && !is_wrapped(&plain, "quick"));
    assert!(wrapped < normal + SECONDS_OF_NORMAL, "{wrapped:?}, and {normal:?} without Relay");
}

#[test]
fn a_pod_that_runs_out_of_memory_is_said_to_have_done_so() {
    let relay = Relay::shared();
    let (tenant, plain) = (relay.common_tenant(), Namespace::new("memory"));
    let mut pod = script("hungry", "echo hungry; exec tail /dev/zero");
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "48Mi" } });
    for namespace in [&*tenant, &plain] {
        namespace.apply(&pod.to_string());
    }
    assert_eq!(end(&plain, "hungry"), ("137".into(), "OOMKilled".into()));
    assert_eq!(end(&tenant, "hungry"), ("137".into(), "OOMKilled".into()));
    assert!(is_wrapped(&tenant, "hungry"));
    assert_eq!(log_of(&relay, &tenant, "hungry"), "hungry\n");
}

#[test]
fn a_static_program_in_an_empty_image_is_wrapped_without_root_and_on_a_read_only_disk() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let folder = tempfile::tempdir().expect("a folder for the image");
    let name = "dev.local/bare:1";
    let image = image::bare(folder.path(), name, Path::new("/bin/busybox"));
    relay.cluster().load_image(&image.expect("busybox-static is installed"), "dev.local/bare");
    let mut pod = script("bare", "");
    let container = &mut pod["spec"]["containers"][0];
    container["image"] = name.into();
    container["command"] = json!(["/busybox", "printf", "%s\\n", "$(WHO)", "$$(WHO)", "a  b"]);
    container["env"] = json!([{ "name": "WHO", "value": "nobody" }]);
    container["securityContext"] = json!({
        "runAsUser": 12345, "runAsGroup": 12345, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    tenant.apply(&pod.to_string());
    assert_eq!(end(&tenant, "bare"), ("0".into(), "Completed".into()));
    assert!(is_wrapped(&tenant, "bare"));
    assert_eq!(log_of(&relay, &tenant, "bare"), "nobody\n$(WHO)\na  b\n");
}
