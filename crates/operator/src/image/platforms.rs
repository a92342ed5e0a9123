//! On which platforms a pod may run. Pure.
//!
//! The pod says it itself where it can: by its operating system, its node selector and its required node affinity. What it
//! leaves open the nodes of the cluster say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::config::Platform;

/// Labels of nodes that say what they are.
const OS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
const ARCHITECTURE: [&str; 2] = ["kubernetes.io/arch", "beta.kubernetes.io/arch"];

/// Platforms that a pod can name. With more, all count that its images are made for, which are more, and never wrong.
const MAX_NAMED: usize = 64;

/// What a pod runs on if nobody says anything else.
const LINUX: &str = "linux";

/// On which platforms a pod may run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platforms {
    /// Nobody knows: all that the image is made for count.
    Any,
    /// On these; never none.
    Of(BTreeSet<Platform>),
}

/// The platforms of the nodes of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    by_name: HashMap<String, Platform>,
    /// How many there are of each.
    counts: BTreeMap<Platform, usize>,
}

impl Nodes {
    /// Takes a node in, or what it is now.
    pub fn put(&mut self, name: String, platform: Platform) {
        self.remove(&name);
        *self.counts.entry(platform.clone()).or_default() += 1;
        self.by_name.insert(name, platform);
    }

    /// Forgets a node.
    pub fn remove(&mut self, name: &str) {
        let Some(platform) = self.by_name.remove(name) else { return };
        if let Some(count) = self.counts.get_mut(&platform) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&platform);
            }
        }
    }
}

impl Platforms {
    /// Of a pod, in a cluster of these nodes.
    ///
    /// A platform that the pod names counts even if no node is of it now: one may be added for the pod.
    #[must_use]
    pub fn of(pod: &Value, nodes: &Nodes) -> Self {
        let terms = terms(pod);
        if let Some(platform) = the_node(pod, &terms).and_then(|name| nodes.by_name.get(name)) {
            return Self::Of(BTreeSet::from([platform.clone()]));
        }
        let wish = Wish { os: pod_os(pod), selector: pod.pointer("/spec/nodeSelector"), terms };
        let Some(named) = wish.named() else { return Self::Any };
        let live = nodes.counts.keys().cloned();
        let all: BTreeSet<_> = live.chain(named).filter(|platform| wish.admits(platform)).collect();
        if all.is_empty() { Self::Any } else { Self::Of(all) }
    }
}

/// What a pod says about where it runs.
struct Wish<'pod> {
    os: Option<&'pod str>,
    selector: Option<&'pod Value>,
    /// One of these must hold; if there is none, nothing must.
    terms: Vec<&'pod Value>,
}

/// The node that a pod is for, if it is for one alone: `DaemonSet`s say it so.
fn the_node<'pod>(pod: &'pod Value, terms: &[&'pod Value]) -> Option<&'pod str> {
    if let Some(name) = pod.pointer("/spec/nodeName").and_then(Value::as_str)
        && !name.is_empty()
    {
        return Some(name);
    }
    let [term] = terms else { return None };
    expressions(term, "matchFields").find_map(|expression| {
        let is_name = expression.get("key")?.as_str() == Some("metadata.name");
        let is_in = expression.get("operator")?.as_str() == Some("In");
        match values(expression).collect::<Vec<_>>().as_slice() {
            [name] if is_name && is_in => Some(*name),
            _ => None,
        }
    })
}

fn pod_os(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/os/name").and_then(Value::as_str)
}

fn terms(pod: &Value) -> Vec<&Value> {
    const PATH: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = pod.pointer(PATH).and_then(Value::as_array);
    terms.into_iter().flatten().collect()
}

fn expressions<'pod>(term: &'pod Value, field: &str) -> impl Iterator<Item = &'pod Value> {
    term.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn values(expression: &Value) -> impl Iterator<Item = &str> {
    let values = expression.get("values").and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str)
}

impl<'pod> Wish<'pod> {
    fn admits(&self, platform: &Platform) -> bool {
        let selected = |keys: [&str; 2], is: &str| {
            let mut wanted = keys.iter().filter_map(|key| self.selector?.get(key)?.as_str());
            wanted.all(|wanted| wanted == is)
        };
        self.os.is_none_or(|os| os == platform.os)
            && selected(OS, &platform.os)
            && selected(ARCHITECTURE, &platform.architecture)
            && (self.terms.is_empty() || self.terms.iter().any(|term| holds(term, platform)))
    }

    /// The platforms that the pod names, of which some may not be admitted; `None` if there are too many.
    fn named(&self) -> Option<impl Iterator<Item = Platform>> {
        let mut os = self.names(OS);
        os.extend(self.os);
        if os.is_empty() {
            os.insert(LINUX);
        }
        let architectures = self.names(ARCHITECTURE);
        (os.len().saturating_mul(architectures.len()) <= MAX_NAMED).then(|| {
            os.into_iter().flat_map(move |os| {
                architectures.clone().into_iter().map(move |other| Platform::new(os, other, ""))
            })
        })
    }

    fn names(&self, keys: [&str; 2]) -> BTreeSet<&'pod str> {
        let selected = keys.iter().filter_map(|key| self.selector?.get(key)?.as_str());
        let required = self.terms.iter().flat_map(|term| expressions(term, "matchExpressions"));
        let required = required
            .filter(|expression| is_about(expression, keys) && operator(expression) == "In")
            .flat_map(values);
        selected.chain(required).collect()
    }
}

fn is_about(expression: &Value, keys: [&str; 2]) -> bool {
    expression.get("key").and_then(Value::as_str).is_some_and(|key| keys.contains(&key))
}

fn operator(expression: &Value) -> &str {
    expression.get("operator").and_then(Value::as_str).unwrap_or_default()
}

/// Whether a node of this platform may match a term: what a term says of other labels is not known.
fn holds(term: &Value, platform: &Platform) -> bool {
    expressions(term, "matchExpressions").all(|expression| {
        let is = if is_about(expression, OS) {
            &platform.os
        } else if is_about(expression, ARCHITECTURE) {
            &platform.architecture
        } else {
            return true;
        };
        match operator(expression) {
            "In" => values(expression).any(|value| value == is),
            "NotIn" => values(expression).all(|value| value != is),
            // Every node has these labels.
            "DoesNotExist" => false,
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Nodes, Platform, Platforms};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn nodes(platforms: &[&str]) -> Nodes {
        let mut nodes = Nodes::default();
        for (at, platform) in platforms.iter().enumerate() {
            let (os, architecture) = platform.split_once('/').unwrap();
            nodes.put(format!("node-{at}"), Platform::new(os, architecture, ""));
        }
        nodes
    }

    fn of(pod: &Value, nodes: &Nodes) -> Vec<String> {
        match Platforms::of(pod, nodes) {
            Platforms::Any => Vec::new(),
            Platforms::Of(all) => all.iter().map(Platform::to_string).collect(),
        }
    }

    fn affinity(terms: &Value) -> Value {
        json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"key": key, "operator": operator, "values": values})
    }

    #[test]
    fn what_a_pod_leaves_open_the_nodes_say() {
        let cluster = nodes(&["linux/amd64", "linux/amd64", "linux/arm64", "windows/amd64"]);
        let arch = "kubernetes.io/arch";
        let os = "kubernetes.io/os";
        for (pod, expected) in [
            (json!({}), &["linux/amd64", "linux/arm64", "windows/amd64"][..]),
            (json!({"spec": {"os": {"name": "linux"}}}), &["linux/amd64", "linux/arm64"]),
            (json!({"spec": {"os": {"name": "windows"}}}), &["windows/amd64"]),
            (json!({"spec": {"nodeSelector": {os: "linux"}}}), &["linux/amd64", "linux/arm64"]),
            (
                json!({"spec": {"nodeSelector": {"beta.kubernetes.io/arch": "arm64"}}}),
                &["linux/arm64"],
            ),
            (json!({"spec": {"nodeSelector": {arch: "amd64", os: "linux"}}}), &["linux/amd64"]),
            (json!({"spec": {"nodeSelector": {arch: "s390x"}}}), &["linux/s390x"]),
            (
                json!({"spec": {"nodeSelector": {arch: "arm64"}, "os": {"name": "windows"}}}),
                &["windows/arm64"],
            ),
            (
                json!({"spec": {"nodeSelector": {"disk": "ssd", os: "linux"}}}),
                &["linux/amd64", "linux/arm64"],
            ),
            (json!({"spec": {"nodeName": "node-2"}}), &["linux/arm64"]),
            (json!({"spec": {"nodeName": "gone", "os": {"name": "windows"}}}), &["windows/amd64"]),
            (
                affinity(
                    &json!([{"matchExpressions": [expression(arch, "In", &["arm64", "ppc64le"])]}]),
                ),
                &["linux/arm64", "linux/ppc64le"],
            ),
            (
                affinity(
                    &json!([{"matchExpressions": [expression(arch, "NotIn", &["arm64"]), expression(os, "In", &["linux"])]}]),
                ),
                &["linux/amd64"],
            ),
            (
                affinity(&json!([
                    {"matchExpressions": [expression(arch, "In", &["arm64"])]},
                    {"matchExpressions": [expression(os, "In", &["windows"]), expression("disk", "Exists", &[])]},
                ])),
                &["linux/arm64", "windows/amd64", "windows/arm64"],
            ),
            (
                affinity(
                    &json!([{"matchFields": [expression("metadata.name", "In", &["node-2"])]}]),
                ),
                &["linux/arm64"],
            ),
            (affinity(&json!([{"matchExpressions": [expression(os, "DoesNotExist", &[])]}])), &[]),
            (affinity(&json!([])), &["linux/amd64", "linux/arm64", "windows/amd64"]),
            (
                json!({"spec": {"nodeSelector": 7, "affinity": [], "os": "linux"}}),
                &["linux/amd64", "linux/arm64", "windows/amd64"],
            ),
        ] {
            assert_eq!(of(&pod, &cluster), expected, "{pod}");
        }
    }

    #[test]
    fn a_pod_that_names_very_many_is_not_weighed_against_all_of_them() {
        let names = |count| (0..count).map(|at| format!("x{at}")).collect::<Vec<_>>();
        let pod = |count| {
            let names = names(count);
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            affinity(&json!([{"matchExpressions": [
                expression("kubernetes.io/os", "In", &names),
                expression("kubernetes.io/arch", "In", &names),
            ]}]))
        };
        let cluster = nodes(&["linux/amd64"]);
        assert_eq!(of(&pod(8), &cluster).len(), 64);
        assert_eq!(Platforms::of(&pod(3000), &cluster), Platforms::Any);
    }

    #[test]
    fn without_nodes_only_the_pod_can_say() {
        let nobody = Nodes::default();
        assert_eq!(Platforms::of(&json!({}), &nobody), Platforms::Any);
        let pod = json!({"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}});
        assert_eq!(of(&pod, &nobody), ["linux/arm64"]);
    }

    #[test]
    fn a_platform_stays_until_its_last_node_goes() {
        let mut cluster = nodes(&["linux/amd64", "linux/arm64", "linux/arm64"]);
        cluster.remove("node-1");
        assert_eq!(of(&json!({}), &cluster), ["linux/amd64", "linux/arm64"]);
        cluster.put("node-2".to_owned(), Platform::new("linux", "amd64", ""));
        assert_eq!(of(&json!({}), &cluster), ["linux/amd64"]);
        cluster.remove("node-2");
        cluster.remove("node-2");
        assert_eq!(of(&json!({}), &cluster), ["linux/amd64"]);
    }

    proptest! {
        #[test]
        fn what_a_pod_says_never_adds_what_it_excludes(
            os in proptest::option::of("linux|windows"),
            selected in proptest::option::of("amd64|arm64|s390x"),
            listed in proptest::collection::vec("amd64|arm64|s390x", 0..3),
            is_in: bool,
        ) {
            let cluster = nodes(&["linux/amd64", "linux/arm64", "windows/amd64"]);
            let operator = if is_in { "In" } else { "NotIn" };
            let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": operator, "values": listed}]}]);
            let mut pod = affinity(&terms);
            if let Some(os) = &os { pod["spec"]["os"] = json!({"name": os}) }
            if let Some(arch) = &selected { pod["spec"]["nodeSelector"] = json!({"kubernetes.io/arch": arch}) }
            if let Platforms::Of(all) = Platforms::of(&pod, &cluster) {
                prop_assert!(!all.is_empty());
                for platform in all {
                    prop_assert!(os.as_ref().is_none_or(|os| *os == platform.os));
                    prop_assert!(selected.as_ref().is_none_or(|arch| *arch == platform.architecture));
                    prop_assert_eq!(listed.contains(&platform.architecture), is_in);
                }
            }
        }
    }
}
