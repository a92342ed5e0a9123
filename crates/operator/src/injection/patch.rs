//! A JSON patch (RFC 6902), as far as Relay needs one.

use serde::Serialize;
use serde_json::Value;

/// Changes to a pod, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Patch(Vec<Operation>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add { path: String, value: Value },
    Replace { path: String, value: Value },
    Remove { path: String },
}

impl Patch {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a member of an object, or inserts into an array.
    pub(super) fn add(&mut self, path: impl Into<String>, value: Value) {
        self.0.push(Operation::Add { path: path.into(), value });
    }

    /// Replaces what is there.
    pub(super) fn replace(&mut self, path: impl Into<String>, value: Value) {
        self.0.push(Operation::Replace { path: path.into(), value });
    }

    /// Removes what is there.
    pub(super) fn remove(&mut self, path: impl Into<String>) {
        self.0.push(Operation::Remove { path: path.into() });
    }

    /// Whether it sets this path.
    pub(super) fn sets(&self, wanted: &str) -> bool {
        self.0
            .iter()
            .any(|operation| matches!(operation, Operation::Add { path, .. } if path == wanted))
    }

    /// Makes a list hold `wanted`: an element of the same `key` is replaced if it differs, what is not
    /// there is appended. `current` is the list as it is, at `path`.
    pub(super) fn merge(
        &mut self,
        path: &str,
        current: Option<&Value>,
        key: &str,
        wanted: Vec<Value>,
    ) {
        let Some(current) = current.and_then(Value::as_array) else {
            self.add(path, Value::Array(wanted));
            return;
        };
        for value in wanted {
            let alike =
                current.iter().enumerate().filter(|(_, there)| there.get(key) == value.get(key));
            let mut is_there = false;
            for (index, there) in alike {
                is_there = true;
                if *there != value {
                    self.replace(format!("{path}/{index}"), value.clone());
                }
            }
            if !is_there {
                self.add(format!("{path}/-"), value);
            }
        }
    }
}

/// A name as part of a path.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
