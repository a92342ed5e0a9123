//! What a reader receives: records, and the position to go on from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    name::{
        ContainerName, Instance, Namespace, PodName, RunName, StepName, StreamName, TriggerId,
        WorkflowName,
    },
    range::position,
    time::UnixMillis,
    write::EndReason,
};

/// One stream as a reader names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamRef {
    /// Pod that wrote it, where a log has the streams of several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<PodName>,
    /// Container that wrote it.
    pub container: ContainerName,
    /// Run of the container.
    pub instance: Instance,
    /// Name of the stream.
    pub stream: StreamName,
}

/// One line of `application/x-ndjson`, or the data of one server-sent event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record {
    /// Where the bytes come from.
    #[serde(flatten)]
    pub source: StreamRef,
    /// Position of the first byte in its stream.
    pub offset: u64,
    /// Number of bytes that the record stands for; a reader goes on from `offset + length`.
    pub length: u64,
    /// When the first byte was captured, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time: Option<UnixMillis>,
    /// What it holds.
    #[serde(flatten)]
    pub content: Content,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// A line with its newline, or the part of one, in UTF-8.
    Text(String),
    /// The same where the bytes are not UTF-8, in base64 (RFC 4648 section 4).
    Base64(String),
    /// A remark of Relay's about the bytes, or about their absence.
    Marker(Marker),
}

/// A remark of Relay's within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Marker {
    /// The writer lost these bytes.
    Dropped,
    /// These bytes went to an earlier stream of this name, which is gone.
    Restarted,
    /// Not here yet, though later bytes are. They may still come.
    Gap,
    /// The stream has ended and these bytes never came.
    Missing,
    /// Two different versions of these bytes were written; the one shown began first.
    Conflict,
    /// The stored bytes fail their checksum and are not shown.
    Corrupt,
    /// The stream is over.
    End {
        /// Why.
        reason: EndReason,
        /// Exit status of the process.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        exit: Option<u8>,
    },
}

/// How far a reader came, per stream: names and positions, joined by commas. Before them, where the
/// service knows it, the time of `settled` in milliseconds and a tilde.
///
/// It is the `id:` of a server-sent event and the value of `Last-Event-ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Streams that were created before and are not named were read to their ends.
    pub settled: Option<UnixMillis>,
    /// Streams and the position after the last byte that was read of each.
    pub positions: Vec<(StreamKey, u64)>,
}

/// What a cursor calls a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKey {
    /// In the log of a pod: `container/stream@instance`.
    Named(StreamRef),
    /// In a log of several pods: 16 hexadecimal digits of a hash of the same with the pod's name
    /// before it. Such a log may have hundreds of streams, and a cursor must fit into a header.
    Hashed(u64),
}

/// A text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: send the `id` of the last event as it was received")]
pub struct CursorError;

impl StreamKey {
    /// What a stream is called in cursors.
    #[must_use]
    pub fn of(source: &StreamRef) -> Self {
        let Some(pod) = &source.pod else { return Self::Named(source.clone()) };
        let StreamRef { pod: _, container, instance, stream } = source;
        let hash = Sha256::digest(format!("{pod}/{container}/{stream}@{instance}"));
        Self::Hashed(hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn parse(text: &str) -> Option<Self> {
        let Some((container, rest)) = text.split_once('/') else {
            let is_hash = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let hash = is_hash.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
            return Some(Self::Hashed(hash));
        };
        let (stream, instance) = rest.split_once('@')?;
        Some(Self::Named(StreamRef {
            pod: None,
            container: container.parse().ok()?,
            instance: instance.parse().ok()?,
            stream: stream.parse().ok()?,
        }))
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(StreamRef { pod: _, container, instance, stream }) => {
                write!(formatter, "{container}/{stream}@{instance}")
            }
            Self::Hashed(hash) => write!(formatter, "{hash:016x}"),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(UnixMillis(settled)) = self.settled {
            write!(formatter, "{settled}~")?;
        }
        for (index, (key, offset)) in self.positions.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{key}:{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let entry = |entry: &str| {
            let (key, offset) = entry.split_once(':')?;
            Some((StreamKey::parse(key)?, position(offset)?))
        };
        let time = |digits: &str| position(digits).map(UnixMillis);
        let (settled, text) = match text.split_once('~') {
            Some((settled, text)) => (Some(time(settled).ok_or(CursorError)?), text),
            None => (None, text),
        };
        let entries = text.split(',').filter(|_| !text.is_empty());
        let positions = entries.map(entry).collect::<Option<_>>().ok_or(CursorError)?;
        Ok(Self { settled, positions })
    }
}

/// Answer to `GET /api/namespaces/{ns}/pods`: the pods that have a log, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PodList {
    /// The pods.
    pub pods: Vec<PodLogs>,
}

/// What is kept of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PodLogs {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub pod: PodName,
    /// Its streams, in the order in which they were created.
    pub streams: Vec<StreamState>,
}

/// State of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamState {
    /// Which one.
    #[serde(flatten)]
    pub source: StreamRef,
    /// When it was created.
    pub created: UnixMillis,
    /// Durable contiguous end, in bytes; the whole length once it has ended without gaps.
    pub length: u64,
    /// Whether and how it ended; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<EndReason>,
    /// Exit status of the process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<u8>,
}

/// Answer to `GET /api/workflows/{workflow}/triggers`: the triggers that have a log, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkflowTriggers {
    /// The namespace of the workflow.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: WorkflowName,
    /// Its triggers, without their streams.
    pub triggers: Vec<WorkflowTriggerState>,
}

/// What is kept of a trigger of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkflowTriggerState {
    /// Its synchronization id.
    pub id: TriggerId,
    /// The namespace of its workflow.
    pub namespace: Namespace,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// When its first stream was created.
    pub created: UnixMillis,
    /// When its newest stream was created.
    pub newest: UnixMillis,
    /// Its streams, in the order in which they were created; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub streams: Option<Vec<StreamState>>,
}

/// What is kept of a step of a workflow's run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkflowStepState {
    /// The namespace of its workflow.
    pub namespace: Namespace,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// The run.
    pub run: RunName,
    /// The step.
    pub step: StepName,
    /// Its streams, in the order in which they were created.
    pub streams: Vec<StreamState>,
}

#[cfg(test)]
mod tests {
    use super::{Content, Cursor, Marker, Record, StreamKey, StreamRef};
    use crate::{time::UnixMillis, write::EndReason};
    use proptest::prelude::*;

    fn source() -> StreamRef {
        StreamRef {
            pod: None,
            container: "main".parse().unwrap(),
            instance: "a1".parse().unwrap(),
            stream: "std.out".parse().unwrap(),
        }
    }

    #[test]
    fn a_record_is_one_flat_object() {
        let record = Record {
            source: source(),
            offset: 7,
            length: 3,
            time: Some(UnixMillis(1_000)),
            content: Content::Text("hi\n".to_owned()),
        };
        let text = r#"{"container":"main","instance":"a1","stream":"std.out","offset":7,"length":3,"time":1000,"text":"hi\n"}"#;
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        let end = Content::Marker(Marker::End { reason: EndReason::Eof, exit: Some(3) });
        assert_eq!(
            serde_json::to_string(&end).unwrap(),
            r#"{"marker":{"kind":"end","reason":"eof","exit":3}}"#
        );
    }

    #[test]
    fn a_cursor_survives_the_header() {
        let key = || StreamKey::of(&source());
        let positions = vec![(key(), 9), (key(), u64::MAX)];
        let cursor = Cursor { settled: None, positions };
        assert_eq!(cursor.to_string(), "main/std.out@a1:9,main/std.out@a1:18446744073709551615");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("".parse(), Ok(Cursor::default()));
        let cursor = Cursor { settled: Some(UnixMillis(7)), positions: vec![(key(), 9)] };
        assert_eq!(cursor.to_string(), "7~main/std.out@a1:9");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in [
            "~main/stdout@a1:1",
            "x~",
            "-1~",
            "1~2~",
            "x",
            "main/stdout@a1",
            "main/stdout@a1:",
            "main/stdout@a1:-1",
            ",",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn streams_of_several_pods_have_short_names_that_tell_the_pods_apart() {
        let key =
            |pod: &str| StreamKey::of(&StreamRef { pod: Some(pod.parse().unwrap()), ..source() });
        let positions = vec![(key("web-0"), 9), (key("web-1"), 0)];
        let cursor = Cursor { settled: None, positions };
        assert_ne!(cursor.positions[0].0, cursor.positions[1].0);
        let text = cursor.to_string();
        assert_eq!(text.len(), 16 + 2 + 1 + 16 + 2);
        assert_eq!(text.parse(), Ok(cursor));
        for text in ["0123456789abcde:1", "0123456789abcdeg:1", "+123456789abcdef:1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a/@:~,0-9.]{0,40}") {
            drop(text.parse::<Cursor>());
        }
    }
}
