//! One look through a namespace: which pods are read, and of which people are told. Pure.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, core::PartialObjectMeta};
use tokio::time::Instant;

use super::{
    finding::{Doubt, Finding},
    told::Told,
    versions::{Outcome, Versions},
};
use crate::lenient::Lenient;

/// Pods of a namespace of which the webhook says nothing, and that are read in a round.
const MAX_SUSPECT: usize = 64;
/// Pods of a namespace that the webhook has wrapped, and that are read in a round.
const MAX_CHANGED: usize = 16;
/// Events about one namespace in a round; the gauge counts the others.
const MAX_EVENTS: usize = 16;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    told: Told,
    versions: Versions,
}

impl Memory {
    /// All namespaces were looked through.
    pub(super) fn end_round(&mut self) {
        self.versions.end_round();
    }
}

/// What is known about the pods of a namespace so far.
pub(super) struct Look<'memory> {
    memory: &'memory mut Memory,
    now: Instant,
    /// Pods that run without Relay.
    pub(super) unwrapped: i64,
    /// Pods of which nothing is known yet: the next rounds read them.
    pub(super) unread: i64,
    read: Read,
    events: usize,
}

impl<'memory> Look<'memory> {
    pub(super) fn new(memory: &'memory mut Memory, now: Instant) -> Self {
        memory.told.forget(now);
        Self { memory, now, unwrapped: 0, unread: 0, read: Read::default(), events: 0 }
    }

    /// Whether a pod must be read: once for each version, and again if people are to be told of it.
    pub(super) fn must_read(&mut self, pod: &Lenient<PartialObjectMeta<Pod>>) -> bool {
        // What cannot be read as metadata is of interest all the more.
        let doubt = pod.read().map_or(Doubt::Suspect, |pod| Doubt::of(&pod.metadata));
        if doubt == Doubt::None {
            return false;
        }
        let known = self.memory.versions.outcome(pod.meta());
        let must_read = match known {
            Some(Outcome::Wrapped) => return false,
            Some(Outcome::Unwrapped) => self.is_news(pod.meta()) && self.read.again(),
            None => self.read.first(doubt),
        };
        match known {
            _ if must_read => {}
            Some(_) => self.unwrapped += 1,
            None => self.unread += 1,
        }
        must_read
    }

    /// Takes in what reading a pod has shown, and gives what people are to be told.
    pub(super) fn take(&mut self, pod: &ObjectMeta, found: Option<Finding>) -> Option<Finding> {
        let outcome = if found.is_some() { Outcome::Unwrapped } else { Outcome::Wrapped };
        self.memory.versions.insert(pod, outcome);
        let finding = found?;
        self.unwrapped += 1;
        let is_news = self.is_news(pod);
        if is_news {
            self.events += 1;
            self.memory.told.insert(owner(pod), self.now);
        }
        is_news.then_some(finding)
    }

    fn is_news(&self, pod: &ObjectMeta) -> bool {
        self.events < MAX_EVENTS && self.memory.told.is_news(owner(pod))
    }
}

/// Pods that were read.
#[derive(Default)]
struct Read {
    suspect: usize,
    changed: usize,
    /// Known ones, of which people are to be told again.
    known: usize,
}

impl Read {
    fn first(&mut self, doubt: Doubt) -> bool {
        match doubt {
            Doubt::None => false,
            Doubt::Changed => one_more(&mut self.changed, MAX_CHANGED),
            Doubt::Suspect => one_more(&mut self.suspect, MAX_SUSPECT),
        }
    }

    fn again(&mut self) -> bool {
        one_more(&mut self.known, MAX_EVENTS)
    }
}

fn one_more(count: &mut usize, most: usize) -> bool {
    let is_left = *count < most;
    *count += usize::from(is_left);
    is_left
}

/// Whom an event would be about, by uid: whatever made the pod, or the pod.
fn owner(pod: &ObjectMeta) -> &str {
    let mut owners = pod.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true));
    let uid = owner.map(|owner| owner.uid.as_str()).or(pod.uid.as_deref());
    uid.or(pod.name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        Finding, Instant, Lenient, Look, MAX_CHANGED, MAX_EVENTS, MAX_SUSPECT, Memory, Resource,
    };
    use serde_json::{Value, json};

    /// A pod, wrapped by the webhook or not, with a container that is wrapped or not.
    fn pod(name: &str, owner: &str, annotations: &Value, command: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "uid": name, "generation": 1, "annotations": annotations,
                "ownerReferences": [
                    { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true },
                ],
            },
            "spec": { "containers": [{ "name": "main", "image": "app:1", "command": [command] }] },
        })
    }

    fn changed(name: &str) -> Value {
        pod(name, name, &json!({ "relay.sh/injected": "1" }), "/app")
    }

    fn bare(name: &str, owner: &str) -> Value {
        pod(name, owner, &json!({}), "/app")
    }

    fn unwrapped_by_right(name: &str) -> Value {
        pod(name, name, &json!({ "relay.sh/exclude-containers": "main" }), "/app")
    }

    /// What a round counts, does not come to, and tells of.
    fn round(memory: &mut Memory, pods: &[Value], now: Instant) -> (i64, i64, Vec<String>) {
        let mut look = Look::new(memory, now);
        let mut told = Vec::new();
        for pod in pods {
            let listed: Lenient<_> =
                serde_json::from_value(json!({ "metadata": pod["metadata"] })).unwrap();
            if look.must_read(&listed) {
                let found = look.take(listed.meta(), Finding::of(pod, "acme"));
                told.extend(found.map(|found| found.to_string()));
            }
        }
        let (unwrapped, unread) = (look.unwrapped, look.unread);
        memory.end_round();
        (unwrapped, unread, told)
    }

    fn count(count: usize) -> i64 {
        i64::try_from(count).unwrap()
    }

    #[test]
    fn pods_that_were_found_bad_do_not_keep_the_next_rounds_from_the_others() {
        let mut pods: Vec<_> = (0..MAX_CHANGED).map(|it| changed(&format!("a-{it:02}"))).collect();
        pods.push(changed("b"));
        let (mut memory, now) = (Memory::default(), Instant::now());
        let (unwrapped, unread, told) = round(&mut memory, &pods, now);
        assert_eq!((unwrapped, unread, told.len()), (count(MAX_CHANGED), 1, MAX_EVENTS));
        let (unwrapped, unread, told) = round(&mut memory, &pods, now);
        assert_eq!((unwrapped, unread), (count(pods.len()), 0));
        assert!(told.len() == 1 && told[0].starts_with("pod b: container main"), "{told:?}");
        // Nothing is read again, and nobody told again, for an hour.
        assert_eq!(round(&mut memory, &pods, now), (count(pods.len()), 0, vec![]));
        // What is told again leaves room for what nobody has read yet.
        let later = now + Duration::from_hours(1);
        pods.push(changed("c"));
        let (unwrapped, unread, told) = round(&mut memory, &pods, later);
        assert_eq!((unwrapped, unread, told.len()), (count(pods.len()), 0, MAX_EVENTS));
    }

    #[test]
    fn many_pods_of_one_owner_do_not_hide_another_owner() {
        let mut pods: Vec<_> = (0..MAX_EVENTS).map(|it| bare(&format!("a-{it:02}"), "a")).collect();
        pods.push(bare("b-0", "b"));
        let (_, _, told) = round(&mut Memory::default(), &pods, Instant::now());
        let names: Vec<_> = told.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(names, ["pod a-00", "pod b-0"]);
    }

    #[test]
    fn pods_that_are_rightly_left_alone_are_not_counted_however_many_there_are() {
        let pods: Vec<_> =
            (0..MAX_SUSPECT + 6).map(|it| unwrapped_by_right(&it.to_string())).collect();
        let (mut memory, now) = (Memory::default(), Instant::now());
        assert_eq!(round(&mut memory, &pods, now), (0, 6, vec![]));
        assert_eq!(round(&mut memory, &pods, now), (0, 0, vec![]));
    }

    #[test]
    fn a_pod_is_read_again_when_its_annotations_say_something_else() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        assert_eq!(round(&mut memory, &[unwrapped_by_right("a")], now), (0, 0, vec![]));
        let (unwrapped, _, told) = round(&mut memory, &[bare("a", "a")], now);
        assert_eq!((unwrapped, told.len()), (1, 1));
    }
}
