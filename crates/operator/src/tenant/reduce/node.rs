//! Whether a node can mount images, as far as it says.
//!
//! Kubernetes has had volumes of the kind `image` in a usable form since 1.33, and they are switched on by themselves
//! since 1.35; containerd can mount them since 2.1, CRI-O since 1.31. Whether somebody switched them on, or off,
//! no node says: that shows when one is mounted.

/// The oldest kubelet, major and minor.
const KUBELET: (u32, u32) = (1, 33);
/// Runtimes by their names, and the oldest of each.
const RUNTIMES: [(&str, (u32, u32)); 2] = [("containerd", (2, 1)), ("cri-o", (1, 31))];

/// What keeps a node with these versions from it, after its name: "runs kubelet v1.32.1, …".
pub(super) fn obstacle(kubelet: &str, runtime: &str) -> Option<String> {
    if version(kubelet).is_none_or(|version| version < KUBELET) {
        return Some(format!("runs kubelet {kubelet}, and image volumes need v1.33"));
    }
    let (name, rest) = runtime.split_once("://").unwrap_or((runtime, ""));
    let Some((_, oldest)) = RUNTIMES.iter().find(|(known, _)| *known == name) else {
        let runtime = if runtime.is_empty() { "a runtime without a name" } else { runtime };
        return Some(format!(
            "runs {runtime}, and image volumes are known to need containerd or CRI-O"
        ));
    };
    let is_old = version(rest).is_none_or(|version| version < *oldest);
    is_old.then(|| format!("runs {runtime}, and image volumes need {}.{}", oldest.0, oldest.1))
}

/// Major and minor of a version such as `v1.33.4-gke.1` or `2.1.0-rc.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_start_matches('v').split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::{super::node as reduced, obstacle};
    use serde_json::{Value, json};

    /// Architecture and obstacle of a node with this spec and this status, if it counts.
    fn counted(spec: &Value, info: &Value) -> Option<(String, Option<String>)> {
        let mut there = json!({
            "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://2.1.0", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "v1.34.0", "machineID": "", "operatingSystem": "linux",
            "osImage": "", "systemUUID": "",
        });
        there.as_object_mut().unwrap().extend(info.as_object().unwrap().clone());
        let node = json!({
            "metadata": { "name": "n" }, "spec": spec, "status": { "nodeInfo": there },
        });
        let node = reduced(&serde_json::from_value(node).unwrap())?;
        Some((node.architecture, node.without_image_volumes))
    }

    #[test]
    fn every_node_of_linux_counts_to_which_a_pod_might_come() {
        let good = Some(("amd64".to_owned(), None));
        let taint = |key: &str| json!({ "taints": [{ "key": key, "effect": "NoSchedule" }] });
        for spec in [
            json!({}),
            json!({ "unschedulable": true }),
            taint("node-role.kubernetes.io/control-plane"),
            taint("node.kubernetes.io/not-ready"),
            taint("example.org/gpu"),
        ] {
            assert_eq!(counted(&spec, &json!({})), good, "{spec}");
        }
        let virtual_kubelet =
            json!({ "kubeletVersion": "v1.34.0-vk-1.11", "containerRuntimeVersion": "" });
        let (_, obstacle) =
            counted(&taint("virtual-kubelet.io/provider"), &virtual_kubelet).unwrap();
        let obstacle = obstacle.expect("nobody knows what it can do");
        assert!(obstacle.starts_with("node n runs a runtime without a name, and"), "{obstacle}");
        let cordoned = json!({ "unschedulable": true });
        let old = counted(&cordoned, &json!({ "kubeletVersion": "v1.30.1" })).unwrap();
        assert!(old.1.is_some_and(|obstacle| obstacle.contains("node n runs kubelet v1.30.1")));
        let arm = counted(&json!({}), &json!({ "architecture": "arm64" })).unwrap();
        assert_eq!(arm.0, "arm64");
    }

    #[test]
    fn nodes_of_windows_and_those_that_say_nothing_yet_do_not_count() {
        assert_eq!(counted(&json!({}), &json!({ "operatingSystem": "windows" })), None);
        assert_eq!(counted(&json!({}), &json!({ "operatingSystem": "" })), None);
        for status in [json!(null), json!({}), json!({ "conditions": [] })] {
            let node = json!({ "metadata": { "name": "n" }, "status": status });
            assert_eq!(reduced(&serde_json::from_value(node).unwrap()), None);
        }
    }

    #[test]
    fn nodes_mount_images_from_these_versions_on() {
        for (kubelet, runtime) in [
            ("v1.33.0", "containerd://2.1.0"),
            ("v1.34.4-gke.12", "containerd://2.3.7"),
            ("v1.36.1", "cri-o://1.31.0"),
            ("v2.0.0", "cri-o://2.0.0"),
        ] {
            assert_eq!(obstacle(kubelet, runtime), None, "{kubelet} {runtime}");
        }
        for (kubelet, runtime, words) in [
            ("v1.32.9", "containerd://2.1.0", "kubelet v1.32.9"),
            ("v1.33.0", "containerd://2.0.5", "need 2.1"),
            ("v1.35.0", "containerd://1.7.29", "need 2.1"),
            ("v1.34.0", "cri-o://1.30.9", "need 1.31"),
            ("v1.34.0", "docker://28.0.1", "docker://28.0.1"),
            ("v1.34.0", "", "containerd or CRI-O"),
            ("", "containerd://2.1.0", "kubelet"),
            ("v1.34.0", "containerd://nightly", "need 2.1"),
        ] {
            let said = obstacle(kubelet, runtime);
            assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{runtime}: {said:?}");
        }
    }
}
