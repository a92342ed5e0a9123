//! Pull secrets, as far as they are asked for.
//!
//! They are read one by one, with rights that the operator has in the namespaces of tenants alone, and are forgotten after
//! a minute.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    flight::Flights,
    keychain::{Entry, Form, Keychain, read},
    lru::{Bounds, Lru},
    turns::Turns,
};

/// How long a secret counts.
const FRESH: Duration = Duration::from_mins(1);
/// How long it counts that there is none, or that it may not be read.
const ABSENT: Duration = Duration::from_secs(5);
/// Secrets that are kept.
const BOUNDS: Bounds = Bounds { count: 1024, weight: 8 << 20 };
/// Secrets of one pod that are read.
const MAX_SECRETS: usize = 16;
/// Objects that are asked for at once, and of one namespace: the API server answers the operator's own questions, too.
const QUESTIONS: usize = 16;
const QUESTIONS_EACH: usize = 12;
/// Longest name of an object.
const MAX_NAME: usize = 253;

/// What a pod that says nothing else runs as.
const DEFAULT_ACCOUNT: &str = "default";

/// Pull secrets.
#[derive(Clone)]
pub(super) struct Secrets(Arc<Parts>);

struct Parts {
    client: Client,
    kept: Mutex<Lru<Key, (Instant, Read)>>,
    flights: Flights<Key, Read>,
    turns: Turns,
}

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Secret,
    Account,
}

/// What is known of an object.
#[derive(Clone, Debug)]
enum Read {
    Entries(Arc<Vec<Entry>>),
    /// Names of the secrets of a service account.
    Names(Arc<Vec<String>>),
    Absent,
}

/// The credentials of a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulled {
    pub(super) keychain: Keychain,
    /// Secrets that could not be read.
    pub(super) unread: Vec<String>,
}

impl Secrets {
    pub(super) fn new(client: Client) -> Self {
        let kept = Mutex::new(Lru::new(BOUNDS));
        let (flights, turns) = (Flights::new(), Turns::new(QUESTIONS, QUESTIONS_EACH));
        Self(Arc::new(Parts { client, kept, flights, turns }))
    }

    /// The credentials of a pod: those that it names, else those of its service account, as the API server would fill
    /// them in.
    pub(super) async fn of(&self, pod: &Value, namespace: &str) -> Pulled {
        let mut names = named(pod);
        if names.is_empty() {
            let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str);
            let account = account.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ACCOUNT);
            if let Read::Names(of_account) = self.get(Kind::Account, namespace, account).await {
                names = of_account.to_vec();
            }
        }
        let read = names.iter().map(|name| self.get(Kind::Secret, namespace, name));
        let mut pulled = Pulled::default();
        let mut all = Vec::new();
        for (name, read) in names.iter().zip(join_all(read).await) {
            match read {
                Read::Entries(entries) => all.push(entries.to_vec()),
                Read::Names(_) | Read::Absent => pulled.unread.push(shown(name)),
            }
        }
        pulled.keychain = Keychain::of(all);
        pulled
    }

    async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Read {
        // It becomes part of a path, and an object has but one name.
        if !is_name(name) {
            return Read::Absent;
        }
        let key = Key { namespace: namespace.to_owned(), name: name.to_owned(), kind };
        if let Some(read) = self.0.recall(&key) {
            return read;
        }
        let ask = || Arc::clone(&self.0).ask(key.clone()).boxed();
        self.0.flights.join(&key, ask).await
    }
}

impl Parts {
    fn recall(&self, key: &Key) -> Option<Read> {
        let mut kept = self.kept();
        let (at, read) = kept.get(key)?;
        let counts = if matches!(read, Read::Absent) { ABSENT } else { FRESH };
        (at.elapsed() < counts).then(|| read.clone())
    }

    async fn ask(self: Arc<Self>, key: Key) -> Read {
        let Key { namespace, name, kind } = &key;
        // Nobody waits for all that one namespace names.
        let _turn = self.turns.of(namespace).await;
        let _question = self.turns.any().await;
        let asked = match kind {
            Kind::Secret => {
                let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
                secrets.get_opt(name).await.map(|secret| secret.as_ref().and_then(entries))
            }
            Kind::Account => {
                let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
                let account = accounts.get_opt(name).await;
                account.map(|account| account.map(|account| Read::Names(Arc::new(names(account)))))
            }
        };
        let read = asked.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(
                error,
                namespace,
                name,
                ?kind,
                "failed to read what images are pulled with"
            );
            None
        });
        let read = read.unwrap_or(Read::Absent);
        let weight = read.weight() + 2 * (namespace.len() + name.len());
        self.kept().put(key, (Instant::now(), read.clone()), weight);
        read
    }

    fn kept(&self) -> MutexGuard<'_, Lru<Key, (Instant, Read)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    fn weight(&self) -> usize {
        match self {
            Self::Entries(entries) => entries.iter().map(Entry::weight).sum(),
            Self::Names(names) => names.iter().map(|name| name.len() + 32).sum(),
            Self::Absent => 0,
        }
    }
}

/// Whether an object can have this name.
fn is_name(text: &str) -> bool {
    let is_inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let is_label = |label: &[u8]| {
        label.iter().all(is_inner)
            && label.first().is_some_and(|byte| *byte != b'-')
            && label.last() != Some(&b'-')
    };
    text.len() <= MAX_NAME && text.as_bytes().split(|byte| *byte == b'.').all(is_label)
}

/// A name as people are told of it: it may be longer than any object's.
fn shown(name: &str) -> String {
    let mut name = name.to_owned();
    name.truncate(name.floor_char_boundary(MAX_NAME));
    name
}

/// The secrets that a pod names, each once.
fn named(pod: &Value) -> Vec<String> {
    let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    let names = secrets.into_iter().flatten().filter_map(|secret| secret.get("name")?.as_str());
    let mut seen = BTreeSet::new();
    let names = names.filter(|name| !name.is_empty() && seen.insert(*name));
    names.map(str::to_owned).take(MAX_SECRETS).collect()
}

fn names(account: ServiceAccount) -> Vec<String> {
    let secrets = account.image_pull_secrets.into_iter().flatten();
    secrets.map(|secret| secret.name).filter(|name| !name.is_empty()).take(MAX_SECRETS).collect()
}

/// `None` if it is no pull secret.
fn entries(secret: &Secret) -> Option<Read> {
    let (form, key) = Form::of(secret.type_.as_deref()?)?;
    let json = secret.data.as_ref()?.get(key)?;
    read(form, &json.0).map(|entries| Read::Entries(Arc::new(entries)))
}

#[cfg(test)]
mod tests {
    use super::{MAX_SECRETS, is_name, named, shown};
    use serde_json::{Value, json};

    #[test]
    fn only_what_an_object_can_be_called_is_asked_for() {
        let longest = "x".repeat(253);
        for name in ["pull", "a.b-c.7", "0", longest.as_str()] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(254);
        let wrong = [
            "", ".", "..", "a..b", "../pull", "pull/", "./pull", "pull?a", "%70ull", "pull#",
            "Pull", "-pull", "pull-", "a.-b", "pull\n", "püll", &long,
        ];
        for name in wrong {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(shown(&"ü".repeat(1000)).len(), 252, "no message grows with it");
    }

    #[test]
    fn a_pod_names_each_secret_once() {
        let pod = |secrets: Value| json!({"spec": {"imagePullSecrets": secrets}});
        let twice = json!([{"name": "b"}, {"name": "a"}, {"name": "b"}, {}, {"name": ""}, 7]);
        assert_eq!(named(&pod(twice)), ["b", "a"]);
        for none in [json!(null), json!("x"), json!([])] {
            assert!(named(&pod(none)).is_empty());
        }
        let many: Vec<_> = (0..100).map(|number| json!({"name": number.to_string()})).collect();
        assert_eq!(named(&pod(many.into())).len(), MAX_SECRETS);
    }
}
