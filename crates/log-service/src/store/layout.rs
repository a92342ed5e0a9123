//! Keys of everything that is stored. Pure.
//!
//! ```text
//! {hash2}/{tenant}/{stream}/meta                      who writes it
//!                           d/{start:016x}            a segment
//!                           m/{start}-{end}-{kind}    a marker
//!                           x/{start}-{crc}           bytes that lost against stored ones
//!                           end                       how it ended
//! i/{tenant}/pods/{pod}/{container}/{created:013}-{instance}-{name}-{stream}
//! i/{tenant}/workflows/{workflow}/triggers/{trigger}/{created:013}-{stream}-{key}
//! i/{tenant}/workflows/{workflow}/runs/{run}/{step}/{created:013}-{stream}-{key}
//! w/{workflow}/{tenant}                               that the tenant has such a workflow
//! ```
//!
//! Index entries say in their keys all that lists need: a trigger may have thousands of streams. What
//! removes a stream removes its entries, which `meta` names; and `w/…` when the workflow has no entry
//! left, after which it looks again and puts it back if there is one.

use object_store::path::Path;
use relay_protocol::{
    capability::StreamUuid,
    context::{Context, Part},
    name::{Namespace, PodName, TriggerId, WorkflowName},
    range::ByteRange,
    read::{StreamKey, StreamRef},
    time::UnixMillis,
    write::WriterMarker,
};
use sha2::{Digest, Sha256};

/// The keys of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamKeys {
    folder: String,
}

impl StreamKeys {
    /// The folder begins with two digits of a hash, which spreads streams over a bucket.
    #[must_use]
    pub fn new(tenant: &Namespace, stream: StreamUuid) -> Self {
        let hash = Sha256::digest(stream.0)[0];
        Self { folder: format!("{hash:02x}/{tenant}/{stream}") }
    }

    fn key(&self, rest: &str) -> Path {
        Path::from(format!("{}/{rest}", self.folder))
    }

    /// Who writes the stream; its creation is the lock.
    #[must_use]
    pub fn meta(&self) -> Path {
        self.key("meta")
    }

    /// How the stream ended.
    #[must_use]
    pub fn end(&self) -> Path {
        self.key("end")
    }

    /// Folder of the segments.
    #[must_use]
    pub fn segments(&self) -> Path {
        self.key("d")
    }

    /// The segment that begins at `start`.
    #[must_use]
    pub fn segment(&self, start: u64) -> Path {
        self.key(&format!("d/{start:016x}"))
    }

    /// Folder of the markers.
    #[must_use]
    pub fn markers(&self) -> Path {
        self.key("m")
    }

    /// A marker.
    #[must_use]
    pub fn marker(&self, range: ByteRange, marker: WriterMarker) -> Path {
        let kind = kind(marker);
        self.key(&format!("m/{:016x}-{:016x}-{kind}", range.start(), range.end()))
    }

    /// Bytes that differ from those stored for the same offset.
    #[must_use]
    pub fn conflict(&self, start: u64, crc: u32) -> Path {
        self.key(&format!("x/{start:016x}-{crc:08x}"))
    }
}

/// Offset of the segment that a key names; `None` if it names something else.
#[must_use]
pub fn segment_start(key: &Path) -> Option<u64> {
    offset(key.filename()?)
}

/// What the key of a marker says.
#[must_use]
pub fn parse_marker(key: &Path) -> Option<(ByteRange, WriterMarker)> {
    let mut parts = key.filename()?.split('-');
    let (start, end) = (offset(parts.next()?)?, offset(parts.next()?)?);
    let marker = match parts.next()? {
        "dropped" => WriterMarker::Dropped,
        "restarted" => WriterMarker::Restarted,
        _ => return None,
    };
    Some((ByteRange::new(start, end)?, marker))
}

fn kind(marker: WriterMarker) -> &'static str {
    match marker {
        WriterMarker::Dropped => "dropped",
        WriterMarker::Restarted => "restarted",
    }
}

fn offset(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Folder whose folders are the pods of a tenant.
#[must_use]
pub fn pods(tenant: &Namespace) -> Path {
    Path::from(format!("i/{tenant}/pods"))
}

/// Folder of the index entries of a pod.
#[must_use]
pub fn pod(tenant: &Namespace, pod: &PodName) -> Path {
    Path::from(format!("i/{tenant}/pods/{pod}"))
}

/// Index entry of a stream of a pod. Sorted by key, a container's streams are in order of creation.
#[must_use]
pub fn index(pod: &Path, source: &StreamRef, created: UnixMillis, stream: StreamUuid) -> Path {
    let StreamRef { pod: _, container, instance, stream: name } = source;
    let created = created.0;
    Path::from(format!("{pod}/{container}/{created:013}-{instance}-{name}-{stream}"))
}

/// Folder whose folders are the triggers of a workflow.
#[must_use]
pub fn triggers(tenant: &Namespace, workflow: &WorkflowName) -> Path {
    Path::from(format!("i/{tenant}/workflows/{workflow}/triggers"))
}

/// Folder of the index entries of a part of a workflow.
#[must_use]
pub fn part(tenant: &Namespace, context: &Context) -> Path {
    let Context { workflow, part } = context;
    match part {
        Part::Trigger(trigger) => Path::from(format!("{}/{trigger}", triggers(tenant, workflow))),
        Part::Step { run, step } => {
            Path::from(format!("i/{tenant}/workflows/{workflow}/runs/{run}/{step}"))
        }
    }
}

/// Index entry of a stream of a part of a workflow. Sorted by key, they are in order of creation.
#[must_use]
pub fn part_entry(part: &Path, created: UnixMillis, stream: StreamUuid, key: &StreamKey) -> Path {
    Path::from(format!("{part}/{:013}-{stream}-{key}", created.0))
}

/// The key before all index entries of streams that were created at a time or later.
#[must_use]
pub fn part_entries_from(part: &Path, created: UnixMillis) -> Path {
    Path::from(format!("{part}/{:013}", created.0))
}

/// What the key of an index entry of a part says.
#[must_use]
pub fn parse_part_entry(key: &Path) -> Option<(UnixMillis, StreamUuid, u64)> {
    let mut parts = key.filename()?.split('-');
    let (created, stream, name) = (parts.next()?, parts.next()?, parts.next()?);
    let created = UnixMillis(created.parse().ok()?);
    Some((created, stream.parse().ok()?, offset(name)?))
}

/// The trigger whose index entry this is.
#[must_use]
pub fn trigger_of(entry: &Path) -> Option<TriggerId> {
    let mut parts = entry.parts().rev();
    let trigger = parts.nth(1)?;
    (parts.next()?.as_ref() == "triggers").then(|| trigger.as_ref().parse().ok()).flatten()
}

/// Folder of the namespaces that have a workflow of this name.
#[must_use]
pub fn namespaces_of(workflow: &WorkflowName) -> Path {
    Path::from(format!("w/{workflow}"))
}

/// Says that a namespace has a workflow of this name.
#[must_use]
pub fn namespace_of_workflow(workflow: &WorkflowName, tenant: &Namespace) -> Path {
    Path::from(format!("w/{workflow}/{tenant}"))
}

/// A key that no other probe uses at the same time.
///
/// # Panics
///
/// If the system has no randomness, which it has once it has booted.
#[must_use]
pub fn probe() -> Path {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness once it has booted");
    Path::from(format!("{}/{}", probes(), StreamUuid(random)))
}

/// Folder of the probes that are under way.
#[must_use]
pub fn probes() -> Path {
    Path::from("probe")
}

#[cfg(test)]
mod tests {
    use super::{
        StreamKeys, index, parse_marker, parse_part_entry, part, part_entries_from, part_entry,
        pod, segment_start, trigger_of,
    };
    use object_store::path::Path;
    use relay_protocol::{
        capability::StreamUuid,
        context::{Context, Part},
        range::ByteRange,
        read::{StreamKey, StreamRef},
        time::UnixMillis,
        write::WriterMarker,
    };

    fn keys() -> StreamKeys {
        StreamKeys::new(&"team-a".parse().unwrap(), StreamUuid([1; 16]))
    }

    #[test]
    fn keys_are_as_the_design_says() {
        let folder = "cc/team-a/01010101010101010101010101010101";
        assert_eq!(keys().meta().as_ref(), format!("{folder}/meta"));
        assert_eq!(keys().segment(255).as_ref(), format!("{folder}/d/00000000000000ff"));
        assert_eq!(keys().conflict(1, 2).as_ref(), format!("{folder}/x/0000000000000001-00000002"));
        let source = StreamRef {
            pod: None,
            container: "main".parse().unwrap(),
            instance: "i-1".parse().unwrap(),
            stream: "stdout".parse().unwrap(),
        };
        let pod = pod(&"team-a".parse().unwrap(), &"web.0".parse().unwrap());
        assert_eq!(
            index(&pod, &source, UnixMillis(5), StreamUuid([1; 16])).as_ref(),
            "i/team-a/pods/web.0/main/0000000000005-i-1-stdout-01010101010101010101010101010101"
        );
    }

    #[test]
    fn entries_of_a_workflow_say_what_lists_need() {
        let context = |part| Context { workflow: "deploy".parse().unwrap(), part };
        let tenant = "team-a".parse().unwrap();
        let step = Part::Step { run: "7".parse().unwrap(), step: "build".parse().unwrap() };
        let steps = part(&tenant, &context(step));
        assert_eq!(steps.as_ref(), "i/team-a/workflows/deploy/runs/7/build");
        let trigger: relay_protocol::name::TriggerId = "runs".parse().unwrap();
        let triggers = part(&tenant, &context(Part::Trigger(trigger.clone())));
        assert_eq!(triggers.as_ref(), "i/team-a/workflows/deploy/triggers/runs");
        let (uuid, key) = (StreamUuid([255; 16]), StreamKey::Hashed(9));
        let entry = part_entry(&triggers, UnixMillis(5), uuid, &key);
        assert_eq!(parse_part_entry(&entry), Some((UnixMillis(5), uuid, 9)));
        assert_eq!((trigger_of(&entry), trigger_of(&steps)), (Some(trigger), None));
        assert!(part_entries_from(&triggers, UnixMillis(5)) < entry);
        assert!(part_entries_from(&triggers, UnixMillis(6)) > entry);
        assert_eq!(trigger_of(&part_entry(&steps, UnixMillis(5), uuid, &key)), None);
    }

    #[test]
    fn what_a_key_says_is_read_back() {
        assert_eq!(segment_start(&keys().segment(u64::MAX)), Some(u64::MAX));
        let range = ByteRange::new(3, 9).unwrap();
        for marker in [WriterMarker::Dropped, WriterMarker::Restarted] {
            assert_eq!(parse_marker(&keys().marker(range, marker)), Some((range, marker)));
        }
        for text in ["d/1", "d/00000000000000ff#1", "d", ""] {
            assert_eq!(segment_start(&Path::from(text)), None);
        }
        for text in ["m/0000000000000003-0000000000000001-dropped", "m/x", "m/1-2-lost"] {
            assert_eq!(parse_marker(&Path::from(text)), None);
        }
    }
}
