//! Credentials for registries, and which of them are for an image: the rules of the kubelet. Pure.
//!
//! The source of the rules: `pkg/credentialprovider` of Kubernetes. Every credential whose key matches is tried, the more
//! exact key first. Unlike there, all names of Docker Hub are one, and an entry that cannot be read does not make the others
//! useless.

use std::{collections::BTreeMap, fmt};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::name::{HUB, HUB_ALIASES, Name};

/// `auth` comes with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials that are tried for one image. A tenant may write any number down, and each is a request to somebody.
pub(super) const MAX_TRIED: usize = 8;

/// Entries of one pull secret that are read: a tenant may write a megabyte of them. Docker writes one for each registry.
const MAX_ENTRIES: usize = 256;

/// A name and a password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Credential {
    pub(super) username: String,
    pub(super) password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential")
    }
}

/// One entry of a pull secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    key: Key,
    credential: Credential,
}

/// For which repositories an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// Host and path, which order the keys of a keychain.
    whole: String,
    /// Words of the host, each a glob.
    labels: Vec<String>,
    port: String,
    /// Empty, or starts with a slash.
    path: String,
}

/// What the pull secrets of a pod hold.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    entries: Vec<Entry>,
}

/// Which credentials are used: equal for whoever uses the same, and useless for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

/// The two forms of pull secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `kubernetes.io/dockerconfigjson`
    DockerConfigJson,
    /// `kubernetes.io/dockercfg`
    Dockercfg,
}

impl Form {
    /// The form of a secret's type, and the key of its data.
    pub(super) fn of(secret_type: &str) -> Option<(Self, &'static str)> {
        match secret_type {
            "kubernetes.io/dockerconfigjson" => Some((Self::DockerConfigJson, ".dockerconfigjson")),
            "kubernetes.io/dockercfg" => Some((Self::Dockercfg, ".dockercfg")),
            _ => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config<'json> {
    #[serde(borrow)]
    auths: Written<'json>,
}

/// Entries as they came, by their keys.
#[derive(Default)]
struct Written<'json>(BTreeMap<String, &'json RawValue>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenEntry {
    username: String,
    password: String,
    auth: String,
}

/// Reads the entries of a pull secret; `None` if it is not JSON of that form.
pub(super) fn read(form: Form, json: &[u8]) -> Option<Vec<Entry>> {
    let all = match form {
        Form::DockerConfigJson => serde_json::from_slice::<Config<'_>>(json).ok()?.auths,
        Form::Dockercfg => serde_json::from_slice(json).ok()?,
    };
    let entries = all.0.into_iter().filter_map(|(key, value)| {
        let credential = Credential::of(serde_json::from_str(value.get()).ok()?)?;
        Some(Entry { key: Key::parse(&key)?, credential })
    });
    Some(entries.collect())
}

impl<'de: 'json, 'json> Deserialize<'de> for Written<'json> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Written<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("entries of a pull secret")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(key) = map.next_key()? {
                    if all.len() < MAX_ENTRIES {
                        all.insert(key, map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Written(all))
            }
        }

        deserializer.deserialize_map(All)
    }
}

impl Credential {
    fn of(written: WrittenEntry) -> Option<Self> {
        let WrittenEntry { username, password, auth } = written;
        let (username, password) = if auth.is_empty() {
            (username, password)
        } else {
            let text = String::from_utf8(BASE64.decode(auth.trim()).ok()?).ok()?;
            let (username, password) = text.split_once(':')?;
            (username.to_owned(), password.to_owned())
        };
        (!username.is_empty() || !password.is_empty()).then_some(Self { username, password })
    }
}

impl Entry {
    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        let Key { whole, labels, port, path } = &self.key;
        let Credential { username, password } = &self.credential;
        let labels: usize = labels.iter().map(|label| label.len() + size_of::<String>()).sum();
        let texts = [whole, port, path, username, password].map(String::len);
        size_of::<Self>() + labels + texts.iter().sum::<usize>()
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.unwrap_or(text);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path = match path {
            // Docker writes `https://index.docker.io/v1/` for a whole registry.
            "/v1" | "/v2" => "",
            _ if path.starts_with("/v1/") || path.starts_with("/v2/") => path.get(3..)?,
            _ => path,
        };
        let path = if path == "/" { "" } else { path };
        let host = host.to_ascii_lowercase();
        let host = if HUB_ALIASES.contains(&host.as_str()) { HUB.to_owned() } else { host };
        if host.is_empty() {
            return None;
        }
        let (labels, port) = split_host(&host);
        Some(Self { whole: format!("{host}{path}"), labels, port, path: path.to_owned() })
    }

    fn matches(&self, target: &Self) -> bool {
        self.port == target.port
            && self.labels.len() == target.labels.len()
            && target.path.starts_with(&self.path)
            && self.labels.iter().zip(&target.labels).all(|(glob, label)| is_match(glob, label))
    }
}

impl Keychain {
    /// What pull secrets of these types hold, each with the JSON of its data.
    #[must_use]
    pub fn read(secrets: &[(&str, &[u8])]) -> Self {
        let read = |(secret_type, json): &(&str, &[u8])| read(Form::of(secret_type)?.0, json);
        Self::of(secrets.iter().filter_map(read))
    }

    /// What several pull secrets hold, in the order in which the pod names them.
    pub(super) fn of(secrets: impl IntoIterator<Item = Vec<Entry>>) -> Self {
        let mut entries: Vec<_> = secrets.into_iter().flatten().collect();
        // Reversed, a longer path comes before its beginning, and a name before a star.
        entries.sort_by(|one, another| another.key.whole.cmp(&one.key.whole));
        Self { entries }
    }

    /// All credentials for an image, in the order in which they are tried.
    pub(super) fn matching(&self, name: &Name) -> Vec<Credential> {
        self.matching_place(&name.registry, &name.repository)
    }

    /// All credentials for a repository of a host.
    pub(super) fn matching_place(&self, host: &str, repository: &str) -> Vec<Credential> {
        let Some(target) = Key::parse(&format!("{host}/{repository}")) else { return Vec::new() };
        // A path `v1/x` of an image is a path.
        let target = Key { path: format!("/{repository}"), ..target };
        let mut found = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.key.matches(&target)) {
            if found.len() < MAX_TRIED && !found.contains(&entry.credential) {
                found.push(entry.credential.clone());
            }
        }
        found
    }
}

impl Fingerprint {
    /// Of credentials in the order in which they are tried, at one endpoint after the other.
    pub(super) fn of<'all>(endpoints: impl IntoIterator<Item = &'all [Credential]>) -> Self {
        let mut hash = Sha256::new();
        for credentials in endpoints {
            hash.update((credentials.len() as u64).to_le_bytes());
            for Credential { username, password } in credentials {
                for text in [username, password] {
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text);
                }
            }
        }
        Self(hash.finalize().into())
    }
}

/// The words of a host, and its port.
fn split_host(host: &str) -> (Vec<String>, String) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    (name.split('.').map(str::to_owned).collect(), port.to_owned())
}

/// Whether a word matches a glob of `*`, `?`, `[a-z]`, `[^a-z]` and `\`: Go's `filepath.Match`.
fn is_match(glob: &str, word: &str) -> bool {
    let (glob, word) = (glob.as_bytes(), word.as_bytes());
    let (mut at, mut in_word) = (0, 0);
    // Where the last star is, and how much it has taken.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if glob.get(at) == Some(&b'*') {
            star = Some((at, in_word));
            at += 1;
            continue;
        }
        if at == glob.len() && in_word == word.len() {
            return true;
        }
        match word.get(in_word).and_then(|&byte| one(glob, at, byte)) {
            Some(next) => (at, in_word) = (next, in_word + 1),
            None => match star {
                Some((place, taken)) if taken < word.len() => {
                    star = Some((place, taken + 1));
                    (at, in_word) = (place + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Where a glob goes on if its next part takes this byte.
fn one(glob: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *glob.get(at)? {
        b'?' => Some(at + 1),
        b'\\' => (glob.get(at + 1) == Some(&byte)).then_some(at + 2),
        b'[' => class(glob, at + 1, byte),
        letter => (letter == byte).then_some(at + 1),
    }
}

/// The same of a class, whose content starts at `at`.
fn class(glob: &[u8], at: usize, byte: u8) -> Option<usize> {
    let is_negated = glob.get(at) == Some(&b'^');
    let begin = at + usize::from(is_negated);
    let length = glob.get(begin..)?.iter().position(|&byte| byte == b']')?;
    let mut content = glob.get(begin..begin + length)?;
    if content.is_empty() {
        return None;
    }
    let mut is_in = false;
    while let [first, rest @ ..] = content {
        (is_in, content) = match rest {
            [b'-', last, rest @ ..] => (is_in || (first..=last).contains(&&byte), rest),
            _ => (is_in || *first == byte, rest),
        };
    }
    (is_in != is_negated).then_some(begin + length + 1)
}

#[cfg(test)]
mod tests;
