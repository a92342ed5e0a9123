//! Keys of everything that is stored. Pure.
//!
//! ```text
//! {hash2}/{tenant}/{stream}/meta                      who writes it
//!                           d/{start:016x}            a segment
//!                           m/{start}-{end}-{kind}    a marker
//!                           x/{start}-{crc}           bytes that lost against stored ones
//!                           end                       how it ended
//! i/{tenant}/pods/{pod}/{container}/{created:013}-{instance}-{name}-{stream}
//! ```

use object_store::path::Path;
use relay_protocol::{
    capability::StreamUuid,
    name::{Namespace, PodName},
    range::ByteRange,
    read::StreamRef,
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
    let StreamRef { container, instance, stream: name } = source;
    let created = created.0;
    Path::from(format!("{pod}/{container}/{created:013}-{instance}-{name}-{stream}"))
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
    use super::{StreamKeys, index, parse_marker, pod, segment_start};
    use object_store::path::Path;
    use relay_protocol::{
        capability::StreamUuid, range::ByteRange, read::StreamRef, time::UnixMillis,
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
