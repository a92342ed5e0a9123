//! Names of namespaces, pods, containers and streams. Checked once, at the edge.
//!
//! Every one of them may become a part of a storage key, so none can hold a slash, start with a
//! dot or be longer than a file system allows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that cannot be the name that it was given as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {rule}")]
pub struct NameError {
    what: &'static str,
    rule: &'static str,
    text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    return Ok(Self(text));
                }
                // What is shown back is bounded: the input need not be.
                let text = text.chars().take(80).collect();
                Err(NameError { what: $what, rule: $rule, text })
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $rule })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Namespace of a tenant: a DNS label (RFC 1123). Without a cluster it is `local`.
    Namespace, "namespace",
    "use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |text| is_label(text, 63)
);
name!(
    /// Name of a pod, or of the host without a cluster: a DNS subdomain (RFC 1123).
    PodName, "pod name",
    "use 1 to 253 of a-z, 0-9, - and ., beginning and ending with a letter or digit",
    |text| is_subdomain(text, 253)
);
name!(
    /// Unique id of a pod, as Kubernetes makes it.
    PodUid, "pod uid",
    "use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |text| is_label(text, 63)
);
name!(
    /// Name of a container: a DNS label (RFC 1123).
    ContainerName, "container name",
    "use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |text| is_label(text, 63)
);
name!(
    /// One run of a container: random, made by the entrypoint at its start.
    Instance, "instance",
    "use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |text| is_label(text, 63)
);
name!(
    /// Name of a workflow within its namespace.
    WorkflowName, "workflow name",
    "use 1 to 63 of A-Z, a-z, 0-9, -, _ and ., beginning and ending with a letter or digit",
    is_label_value
);
name!(
    /// Id of a workflow's trigger: the synchronization id.
    TriggerId, "trigger id",
    "use 1 to 63 of A-Z, a-z, 0-9, -, _ and ., beginning and ending with a letter or digit",
    is_label_value
);
name!(
    /// Number or name of a workflow's run.
    RunName, "run",
    "use 1 to 63 of A-Z, a-z, 0-9, -, _ and ., beginning and ending with a letter or digit",
    is_label_value
);
name!(
    /// Name of a step of a run.
    StepName, "step name",
    "use 1 to 63 of A-Z, a-z, 0-9, -, _ and ., beginning and ending with a letter or digit",
    is_label_value
);
name!(
    /// Name of a stream: `stdout`, `stderr` or another.
    StreamName, "stream name",
    "use 1 to 63 of a-z, 0-9, - and .",
    |text| (1..=63).contains(&text.len()) && text.bytes().all(|byte| is_plain(byte) || byte == b'.')
);

/// The form of the values of Kubernetes' labels, but for the empty one.
fn is_label_value(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= 63
        && bytes.iter().all(is_inner)
        && is_edge(bytes.first())
        && is_edge(bytes.last())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_label(text: &str, longest: usize) -> bool {
    is_subdomain(text, longest) && !text.contains('.')
}

fn is_subdomain(text: &str, longest: usize) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-' && *byte != b'.');
    let bytes = text.as_bytes();
    bytes.len() <= longest
        && bytes.iter().all(|byte| is_plain(*byte) || *byte == b'.')
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::{Namespace, PodName, StreamName, WorkflowName};

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in
            ["", ".", "..", "../x", "a/b", "a\0b", "A", "a..b", "-a", "a-", "é", "a b", "%2e%2e"]
        {
            assert!(text.parse::<PodName>().is_err(), "{text:?}");
        }
        for text in ["", "a/b", "A", "a_b", "a\n", "a b"] {
            assert!(text.parse::<StreamName>().is_err(), "{text:?}");
        }
        for text in ["", ".", "..", ".a", "a.", "_", "-a", "a/b", "a b", "é", "a\0b", "$(A)"] {
            assert!(text.parse::<WorkflowName>().is_err(), "{text:?}");
        }
        assert!("a".repeat(64).parse::<WorkflowName>().is_err());
        assert!("a.b".parse::<Namespace>().is_err());
        assert!("a".repeat(64).parse::<Namespace>().is_err());
    }

    #[test]
    fn names_of_kubernetes_are_taken() {
        assert_eq!("web-0.example".parse::<PodName>().unwrap().as_str(), "web-0.example");
        assert_eq!("a".repeat(63).parse::<Namespace>().unwrap().as_str().len(), 63);
        assert_eq!("stdout".parse::<StreamName>().unwrap().to_string(), "stdout");
        for text in ["7", "Deploy_to-eu.1", "a..b", &"a".repeat(63)] {
            assert_eq!(text.parse::<WorkflowName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn an_error_names_the_input_and_the_rule_and_stays_short() {
        let error = "X".repeat(10_000).parse::<Namespace>().unwrap_err().to_string();
        assert!(error.contains("is not a namespace: use 1 to 63 of a-z"), "{error}");
        assert!(error.len() < 250, "{error}");
    }
}
