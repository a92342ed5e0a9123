//! Bodies of the requests that write a stream, and of their answers.

use serde::{Deserialize, Serialize};

use crate::{
    context::ContextFields,
    name::{ContainerName, Instance, Namespace, PodName, PodUid, StreamName},
    range::ByteRange,
};

/// Body of `POST /logs`. `{"name": "stdout"}` alone is enough.
///
/// `namespace`, `pod` and `podUid` count only where the service runs without authentication;
/// otherwise they come from the caller's identity and are ignored here. What is said of a workflow
/// counts always: within that namespace, and when the stream is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CreateStream {
    /// Name of the stream within its container.
    pub name: StreamName,
    /// Container that writes it; `main` if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<ContainerName>,
    /// The container's run; the service makes one up if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<Instance>,
    /// Secret of the writer: at most 128 printable ASCII characters, random, the same in every
    /// repetition. Another writer that names the same stream does not know it and gets 409.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub writer: Option<String>,
    /// Namespace; `local` if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<Namespace>,
    /// Pod; `unnamed` if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<PodName>,
    /// Unique id of the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod_uid: Option<PodUid>,
    /// The part of a workflow that the stream belongs to.
    #[serde(flatten)]
    pub context: ContextFields,
}

/// Answer to `POST /logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StreamCreated {
    /// Append-only capability for this one stream. A secret: never logged.
    pub id: String,
    /// Name of the stream.
    pub name: StreamName,
    /// The container's run that the stream belongs to.
    pub instance: Instance,
    /// End of the id's life, in seconds since the Unix epoch.
    pub expires: u64,
    /// Whether the stream did not exist before. A writer that renews its id and reads `true`
    /// knows that what it had delivered is gone.
    pub created: bool,
}

/// Body of `POST /logs/{id}/markers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MarkRange {
    /// The bytes that the markers are about.
    pub range: ByteRange,
    /// What is true of them; not empty.
    pub markers: Vec<WriterMarker>,
    /// Why, for the service's metrics: the status that refused the bytes, or `full`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// What a writer may say of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WriterMarker {
    /// The writer lost these bytes and will never send them.
    Dropped,
    /// These bytes were delivered to an earlier stream of this name, which is gone.
    Restarted,
}

/// Body of `POST /logs/{id}/end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndStream {
    /// Length of the stream in bytes, dropped ones included.
    pub length: u64,
    /// CRC-32C of all bytes that no marker covers, in order, as 8 hexadecimal digits.
    pub crc32c: Crc32c,
    /// Why the stream is over.
    pub reason: EndReason,
    /// Exit status of the process as a shell shows it: 128 + n after signal n.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<u8>,
}

/// Why a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// The process closed the stream or exited.
    Eof,
    /// The process died of a signal.
    Killed,
    /// The writer vanished without a word; the rest is of unknown length.
    Abandoned,
}

/// Answer to `POST /logs/{id}/end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamEnded {
    /// The first 16 ranges that are neither stored nor marked. They may be filled for 10 minutes.
    pub gaps: Vec<ByteRange>,
}

/// A CRC-32C, as 8 hexadecimal digits on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Crc32c(pub u32);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Crc32c {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Crc32c".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f]{8}$" })
    }
}

/// A text that is not a CRC-32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("crc32c is not 8 hexadecimal digits")]
pub struct CrcError;

impl TryFrom<String> for Crc32c {
    type Error = CrcError;

    fn try_from(text: String) -> Result<Self, CrcError> {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u32::from_str_radix(&text, 16).ok()).flatten().map(Self).ok_or(CrcError)
    }
}

impl From<Crc32c> for String {
    fn from(crc: Crc32c) -> Self {
        format!("{:08x}", crc.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Crc32c, CreateStream, EndStream, MarkRange, WriterMarker};

    #[test]
    fn the_bodies_of_the_rfc_are_understood() {
        let create: CreateStream = serde_json::from_str(r#"{"name": "stdout"}"#).unwrap();
        assert_eq!(create.name.as_str(), "stdout");
        let mark: MarkRange =
            serde_json::from_str(r#"{"range": "bytes 0-5/*", "markers": ["dropped"]}"#).unwrap();
        assert_eq!((mark.range.length(), mark.markers), (6, vec![WriterMarker::Dropped]));
    }

    #[test]
    fn bodies_with_a_wrong_value_are_refused() {
        for text in [
            r#"{"name": "../x"}"#,
            r#"{"name": ""}"#,
            r#"{"name": "stdout", "container": "a/b"}"#,
            r#"{"container": "main"}"#,
        ] {
            assert!(serde_json::from_str::<CreateStream>(text).is_err(), "{text}");
        }
        for text in [
            r#"{"range": "0-5", "markers": ["dropped"]}"#,
            r#"{"range": "bytes 0-5/*", "markers": ["lost"]}"#,
        ] {
            assert!(serde_json::from_str::<MarkRange>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_checksum_is_eight_digits() {
        let text = r#"{"length":3,"crc32c":"0000beef","reason":"eof","exit":0}"#;
        let end: EndStream = serde_json::from_str(text).unwrap();
        assert_eq!(end.crc32c, Crc32c(0xbeef));
        assert_eq!(serde_json::to_string(&end).unwrap(), text);
        assert!(serde_json::from_str::<EndStream>(&text.replace("0000beef", "+000beef")).is_err());
    }
}
