//! Objects of the API server, reduced to what plans depend on. Pure.

mod node;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    batch::v1::Job,
    core::v1::{ConfigMap, Event, Node, PersistentVolumeClaim, Pod},
    rbac::v1::RoleBinding,
    storage::v1::StorageClass,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, core::PartialObjectMeta};

use super::{
    names::{self, APPLIED, CREATED_FOR, FILLED, GENERATION},
    objects::{self, TOOLS_VOLUME},
    seen::{self, Content, JobState, Life, Phase, Volumes, Webhook},
};
use crate::{
    certificates::{CA_CONFIG_MAP, CA_KEY},
    injection::INJECTED,
};

/// Marks the class that claims without one get.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Label of a pod: its Job.
const JOB: &str = "batch.kubernetes.io/job-name";
/// Why a container waits when its image is not there.
const IMAGE_ERRORS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
];

/// Longest text that is kept of what others wrote, in bytes: people see 600 characters of it.
const MAX_TEXT: usize = 2400;
/// Longest generation or uid that is kept. Anyone who may create pods and events writes what he likes there.
const MAX_ID: usize = 63;

/// What a warning is about, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// Uid of the object.
    pub(super) uid: String,
    /// What was said.
    pub(super) text: String,
    /// When, by the server's own count.
    pub(super) at: Option<jiff::Timestamp>,
}

fn life<K: ResourceExt>(object: &K) -> Life {
    if object.meta().deletion_timestamp.is_some() { Life::Ends } else { Life::Stays }
}

fn label<K: ResourceExt>(object: &K, name: &str) -> String {
    object.labels().get(name).cloned().unwrap_or_default()
}

fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    // What was cut off would stay in memory.
    text.shrink_to_fit();
    text
}

fn is_short(text: &str) -> bool {
    text.len() <= MAX_ID
}

pub(super) fn namespace<K: ResourceExt>(object: &K) -> seen::Namespace {
    seen::Namespace {
        uid: object.uid().unwrap_or_default(),
        created_for: object.annotations().get(CREATED_FOR).cloned(),
        applied: object.annotations().get(APPLIED).cloned(),
        life: life(object),
        labels: object.labels().clone(),
    }
}

/// The generation of the tools that a running pod mounts.
pub(super) fn mount(object: &PartialObjectMeta<Pod>) -> Option<String> {
    object.annotations().get(INJECTED).filter(|generation| is_short(generation)).cloned()
}

pub(super) fn authorities(object: &ConfigMap) -> Option<String> {
    let bundle = object.data.as_ref().and_then(|data| data.get(CA_KEY)).map(names::hash);
    // One that lost its key differs from all.
    (object.name_any() == CA_CONFIG_MAP).then(|| bundle.unwrap_or_default())
}

pub(super) fn pull_rights(object: &RoleBinding) -> Option<String> {
    let subjects = object.subjects.iter().flatten();
    let subjects: Vec<_> = subjects
        .map(|subject| (subject.kind.as_str(), subject.name.as_str(), subject.namespace.as_deref()))
        .collect();
    let rights = objects::rights_hash(&object.role_ref.kind, &object.role_ref.name, &subjects);
    (object.name_any() == names::PULL_RIGHTS).then_some(rights)
}

/// A claim of tools. Only its name says so for sure: people copy objects with all labels, and Relay deletes what
/// it takes for its own.
pub(super) fn claim(object: &PersistentVolumeClaim) -> Option<seen::Claim> {
    let generation = label(object, GENERATION);
    if !names::claims(&generation).contains(&object.name_any()) {
        return None;
    }
    let status = object.status.as_ref();
    Some(seen::Claim {
        uid: object.uid().unwrap_or_default(),
        generation,
        phase: match status.and_then(|status| status.phase.as_deref()) {
            Some("Bound") => Phase::Bound,
            Some("Lost") => Phase::Lost,
            _ => Phase::Pending,
        },
        class: object.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()),
        created: object.creation_timestamp(),
        life: life(object),
        warning: None,
        volume: object.spec.as_ref().and_then(|spec| spec.volume_name.clone()),
        content: if object.annotations().contains_key(FILLED) {
            Content::Filled
        } else {
            Content::Open
        },
    })
}

/// A Job on a claim of tools, by its name as claims are.
pub(super) fn job(object: &Job) -> Option<seen::Job> {
    let generation = label(object, GENERATION);
    if !names::jobs(&generation).contains(&object.name_any()) {
        return None;
    }
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut held = conditions.filter(|condition| condition.status == "True");
    let state = held.find_map(|condition| match condition.type_.as_str() {
        "Complete" => Some(JobState::Succeeded),
        "Failed" => {
            let texts = [&condition.reason, &condition.message].into_iter().flatten();
            let texts: Vec<_> = texts.filter(|text| !text.is_empty()).map(String::as_str).collect();
            Some(JobState::Failed(texts.join(": ")))
        }
        _ => None,
    });
    Some(seen::Job {
        uid: object.uid().unwrap_or_default(),
        generation,
        state: state.unwrap_or_default(),
        created: object.creation_timestamp(),
        life: life(object),
        warning: None,
        applied: object.annotations().get(APPLIED).cloned(),
        volumes: volumes(object),
    })
}

/// An API server drops volumes of kinds that it does not know, without a word.
fn volumes(object: &Job) -> Volumes {
    let pod = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let mut names = pod.iter().flat_map(|pod| pod.volumes.iter().flatten()).map(|it| &it.name);
    if names.any(|name| name == TOOLS_VOLUME) { Volumes::Kept } else { Volumes::Dropped }
}

pub(super) fn job_pod(object: &Pod) -> Option<seen::JobPod> {
    let job = object.labels().get(JOB)?.clone();
    let status = object.status.as_ref();
    let containers = || status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let waiting = containers().filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let image_error = waiting.filter(|waiting| {
        waiting.reason.as_deref().is_some_and(|reason| IMAGE_ERRORS.contains(&reason))
    });
    let ended = containers().filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    let mut failures = ended.filter(|ended| ended.exit_code != 0);
    let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut unschedulable = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    Some(seen::JobPod {
        job,
        image_error: image_error
            .map(|waiting| waiting.message.clone().or_else(|| waiting.reason.clone()))
            .next()
            .flatten()
            .map(shorten),
        unschedulable: unschedulable.find_map(|condition| condition.message.clone()).map(shorten),
        waits_since: waits_since(object),
        failure: failures.find_map(|ended| {
            let status = format!("exit status {}", ended.exit_code);
            ended.message.clone().filter(|message| !message.trim().is_empty()).or(Some(status))
        }),
    })
}

/// When a node took a pod of which nothing runs yet.
fn waits_since(object: &Pod) -> Option<Time> {
    let status = object.status.as_ref()?;
    if status.phase.as_deref() != Some("Pending") {
        return None;
    }
    let mut conditions = status.conditions.iter().flatten();
    let placed = conditions.find(|it| it.type_ == "PodScheduled" && it.status == "True")?;
    placed.last_transition_time.clone()
}

/// What is of interest of a node of Linux; others run no pod that is wrapped.
///
/// Every node counts to which a pod might come: one that is cordoned may be free again when a pod is placed, taints are
/// tolerated by whom they are for, and a node that is no machine (a virtual kubelet) takes pods all the same. A way that
/// only some nodes can go would leave a pod waiting on the others; the one that is taken instead works everywhere.
pub(super) fn node(object: &Node) -> Option<seen::Node> {
    let info = object.status.as_ref()?.node_info.as_ref()?;
    let (kubelet, runtime) = (&info.kubelet_version, &info.container_runtime_version);
    (info.operating_system == "linux").then(|| seen::Node {
        architecture: info.architecture.clone(),
        without_image_volumes: node::obstacle(kubelet, runtime)
            .map(|obstacle| format!("node {} {obstacle}", object.name_any())),
    })
}

pub(super) fn storage_class(object: &PartialObjectMeta<StorageClass>) -> seen::StorageClass {
    let is_default = object.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true");
    if is_default { seen::StorageClass::Default } else { seen::StorageClass::ByName }
}

pub(super) fn webhook(object: &MutatingWebhookConfiguration) -> Webhook {
    let mut webhooks = object.webhooks.iter().flatten().peekable();
    let has_any = webhooks.peek().is_some();
    let trusts = webhooks.all(|webhook| {
        webhook.client_config.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty())
    });
    if has_any && trusts { Webhook::Trusted } else { Webhook::Untrusted }
}

/// A warning about an object that Relay made, by its name.
pub(super) fn warning(event: &Event) -> Option<Warning> {
    let about = &event.involved_object;
    let is_ours = about.name.as_deref().is_some_and(|name| name.starts_with("relay-"));
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let at = series.map(|time| time.0);
    let at = at
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let uid = about.uid.clone().filter(|uid| is_ours && is_short(uid))?;
    Some(Warning { uid, text: shorten(event.message.clone().unwrap_or_default()), at })
}
