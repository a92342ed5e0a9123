//! Reads records one after the other, with few allocations: a log has millions.

use std::borrow::Cow;

use relay_protocol::{
    name::PodName,
    read::{Content, Marker, Record, StreamRef},
    time::UnixMillis,
};
use serde::{Deserialize, de::Error as _};

/// Reads records, each into the memory of the one before: most are of the same stream.
#[derive(Debug, Default)]
pub(crate) struct Records {
    record: Option<Record>,
}

/// A record whose texts lie in its line where they can.
///
/// [`Record`] reads the same form, but through a tree of values, which takes several times as long.
#[derive(Debug, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    pod: Option<Cow<'a, str>>,
    #[serde(borrow)]
    container: Cow<'a, str>,
    #[serde(borrow)]
    instance: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    offset: u64,
    length: u64,
    time: Option<UnixMillis>,
    text: Option<String>,
    base64: Option<String>,
    marker: Option<Marker>,
}

impl Records {
    /// Reads a record from its line.
    ///
    /// # Errors
    ///
    /// If the line is not a record.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<&Record, serde_json::Error> {
        let fields: Fields<'_> = serde_json::from_slice(line)?;
        let before = self.record.take().map(|record| record.source);
        let source = match before.filter(|source| fields.are_of(source)) {
            Some(source) => source,
            None => fields.source()?,
        };
        let Fields { offset, length, time, text, base64, marker, .. } = fields;
        let content = match (text, base64, marker) {
            (Some(text), None, None) => Content::Text(text),
            (None, Some(base64), None) => Content::Base64(base64),
            (None, None, Some(marker)) => Content::Marker(marker),
            _ => return Err(serde_json::Error::custom("a record has one content")),
        };
        Ok(self.record.insert(Record { source, offset, length, time, content }))
    }
}

impl Fields<'_> {
    fn are_of(&self, source: &StreamRef) -> bool {
        source.instance.as_str() == self.instance
            && source.stream.as_str() == self.stream
            && source.container.as_str() == self.container
            && source.pod.as_ref().map(PodName::as_str) == self.pod.as_deref()
    }

    fn source(&self) -> Result<StreamRef, serde_json::Error> {
        let pod = self.pod.as_deref().map(str::parse).transpose();
        Ok(StreamRef {
            pod: pod.map_err(serde_json::Error::custom)?,
            container: self.container.parse().map_err(serde_json::Error::custom)?,
            instance: self.instance.parse().map_err(serde_json::Error::custom)?,
            stream: self.stream.parse().map_err(serde_json::Error::custom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Records;
    use proptest::prelude::*;
    use relay_protocol::read::Record;

    proptest! {
        /// The oracle is the record's own form.
        #[test]
        fn records_are_read_as_they_are_written(
            records in prop::collection::vec(
                (
                    proptest::option::of("[pq]"), "[ab]", "[xy]", any::<u32>(),
                    proptest::option::of(any::<u32>()), 0..4_usize, ".{0,6}",
                ),
                1..6,
            ),
        ) {
            let mut reader = Records::default();
            for (pod, instance, stream, offset, time, content, text) in records {
                let content = match content {
                    0 => serde_json::json!({ "text": text }),
                    1 => serde_json::json!({ "base64": "/3R3bwo=" }),
                    2 => serde_json::json!({ "marker": { "kind": "dropped" } }),
                    _ => serde_json::json!({ "marker": { "kind": "end", "reason": "eof", "exit": 3 } }),
                };
                let mut record = serde_json::json!({
                    "container": "main", "instance": instance, "stream": stream,
                    "offset": offset, "length": 7, "later": [1],
                });
                record.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
                if let Some(pod) = pod {
                    record["pod"] = pod.into();
                }
                if let Some(time) = time {
                    record["time"] = time.into();
                }
                let line = record.to_string();
                let expected: Record = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(reader.read(line.as_bytes()).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        let place = r#""instance":"a","stream":"stdout","offset":0,"length":1"#;
        for line in [
            format!(r#"{{"container":"main",{place}}}"#),
            format!(r#"{{"container":"main",{place},"text":"a","base64":"YQ=="}}"#),
            format!(r#"{{"container":"../x",{place},"text":"a"}}"#),
            format!(r#"{{{place},"text":"a"}}"#),
            "[]".to_owned(),
        ] {
            Records::default().read(line.as_bytes()).unwrap_err();
        }
    }
}
