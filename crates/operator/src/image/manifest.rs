//! What a registry holds of an image: indexes, manifests and configurations. Pure.
//!
//! Nothing but what decides about the command is kept: what comes in has megabytes, and anyone may have written it.

mod bounded;
mod read_config;

use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;

use super::{
    config::{ImageConfig, Platform},
    digest::Digest,
    go_json::Shape,
};
use bounded::{AtMost, IsAny};

pub(super) use read_config::read_config;

/// What is asked for.
pub(super) const ACCEPT: [&str; 4] = [
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
];

/// Entries of an index that are looked at: the largest known have some forty.
const MAX_ENTRIES: usize = 1024;

/// The names in manifests and indexes that count.
const WRITTEN: Shape = Shape(&[
    ("schemaVersion", None),
    ("mediaType", None),
    ("config", Some(&ENTRY)),
    ("manifests", Some(&ENTRY)),
    ("layers", None),
    ("fsLayers", None),
]);
const ENTRY: Shape = Shape(&[("mediaType", None), ("digest", None), ("platform", Some(&PLATFORM))]);
const PLATFORM: Shape = Shape(&[
    ("os", None),
    ("architecture", None),
    ("variant", None),
    ("os.features", None),
    ("os.version", None),
]);

/// Something by the digest of its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Images for several platforms.
    Index(Vec<Entry>),
    /// An image for one platform.
    Image(Image),
}

impl Content {
    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        let content: usize = match self {
            Self::Index(entries) => entries.iter().map(Entry::weight).sum(),
            Self::Image(Image { config: ImageConfig { entrypoint, cmd }, .. }) => {
                let words = entrypoint.iter().chain(cmd).flatten();
                words.map(|word| word.len() + size_of::<String>()).sum()
            }
        };
        size_of::<Self>() + content
    }
}

impl Entry {
    fn weight(&self) -> usize {
        let platform = self.platform.as_ref().map_or(0, |platform| {
            let Platform { os, architecture, variant } = platform;
            os.len() + architecture.len() + variant.len()
        });
        size_of::<Self>() + self.digest.as_str().len() + platform
    }
}

/// An image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Of a manifest, or of another index.
    pub(super) digest: Digest,
    /// What it is for; `None` if the index does not say.
    pub(super) platform: Option<Platform>,
    /// Whether it is for systems with some feature.
    pub(super) has_features: bool,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// What it runs.
    pub(super) config: ImageConfig,
    /// What it says itself that it is for.
    pub(super) platform: Platform,
}

/// A manifest as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// Of several platforms.
    Index(Vec<Entry>),
    /// Of one: its configuration is this.
    Image(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    manifests: Option<AtMost<MAX_ENTRIES, WrittenEntry>>,
    // Their content does not matter, only whether there are any.
    layers: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
}

#[derive(Deserialize)]
struct WrittenEntry {
    digest: String,
    platform: Option<WrittenPlatform>,
}

#[derive(Deserialize)]
struct WrittenPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, rename = "os.features")]
    features: IsAny,
}

/// Reads a manifest, whose type the answer's header says too.
///
/// # Errors
///
/// A clause that says what is wrong: it is not JSON, or what it is is not clear.
pub(super) fn read_manifest(json: &[u8], media_type: Option<&str>) -> Result<Manifest, String> {
    let written: Written =
        serde_json::from_slice(json).map_err(|_| "its manifest is not that of an image")?;
    if !WRITTEN.is_plain(json) {
        return Err("its manifest can be read in two ways".to_owned());
    }
    if written.schema_version == Some(1) || written.fs_layers.is_some() {
        return Err("its manifest is of version 1, which nothing runs any more".to_owned());
    }
    let says = [written.media_type.as_deref(), media_type].into_iter().flatten();
    let says_index: Vec<_> = says.filter_map(is_index).collect();
    // What one program takes for an index and another for an image would run something else than was looked up.
    match (written.manifests, written.config) {
        (Some(entries), None)
            if written.layers.is_none() && says_index.iter().all(|index| *index) =>
        {
            entries_of(entries).map(Manifest::Index)
        }
        (None, Some(config)) if says_index.iter().all(|index| !index) => {
            config_of(&config).map(Manifest::Image)
        }
        _ => Err("its manifest contradicts itself".to_owned()),
    }
}

/// Whether a type is that of an index; `None` if it says nothing about that.
fn is_index(media_type: &str) -> Option<bool> {
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE => Some(true),
        OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE => Some(false),
        _ => None,
    }
}

fn entries_of(written: AtMost<MAX_ENTRIES, WrittenEntry>) -> Result<Vec<Entry>, String> {
    let Some(written) = written.0 else {
        return Err(format!("its index has more than {MAX_ENTRIES} entries"));
    };
    let read = |entry: WrittenEntry| {
        let has_features = entry.platform.as_ref().is_some_and(|platform| platform.features.0);
        let platform = entry.platform.map(|platform| {
            let WrittenPlatform { os, architecture, variant, .. } = platform;
            Platform::new(&os, &architecture, variant.as_deref().unwrap_or_default())
        });
        let digest =
            Digest::parse(&entry.digest).ok_or("its index has an entry without a digest")?;
        Ok(Entry { digest, platform, has_features })
    };
    written.into_iter().map(read).collect()
}

fn config_of(config: &Descriptor) -> Result<Digest, String> {
    let media_type = config.media_type.as_deref().unwrap_or_default();
    if ![IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&media_type) {
        return Err("it is an artifact, not an image".to_owned());
    }
    Digest::parse(&config.digest).ok_or_else(|| "its configuration has no digest".to_owned())
}

/// Which nodes choose: containerd passes over entries for systems with some feature from 2.2 on, and did not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    Younger,
    Older,
}

/// What of an index runs on a platform, the best first: the order of containerd.
pub(super) fn choose<'index>(
    entries: &'index [Entry],
    on: &Platform,
    nodes: Nodes,
) -> Option<&'index Entry> {
    let runs = on.runs();
    let counts = |entry: &&Entry| nodes == Nodes::Older || !entry.has_features;
    let mut entries = entries.iter().filter(counts);
    let named = entries.clone().filter_map(|entry| {
        let platform = entry.platform.as_ref()?;
        Some((runs.iter().position(|candidate| candidate == platform)?, entry))
    });
    // The first of equals, as a stable sort would leave it.
    let best = named.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
    best.or_else(|| entries.find(|entry| entry.platform.is_none()))
}

impl Platform {
    /// What a machine of this platform runs, the best first.
    pub(super) fn runs(&self) -> Vec<Self> {
        let other = |architecture: &str, variant: &str| Self {
            os: self.os.clone(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        let level = |variant: &str| variant.strip_prefix('v').and_then(|text| text.parse().ok());
        let arm =
            |from: u8| (5..=from).rev().map(move |version| other("arm", &format!("v{version}")));
        let mut all = vec![self.clone()];
        match (self.architecture.as_str(), level(&self.variant)) {
            ("amd64", version) => {
                let below = 2..version.unwrap_or(0).min(16);
                all.extend(below.rev().map(|version: u8| other("amd64", &format!("v{version}"))));
                if !self.variant.is_empty() {
                    all.push(other("amd64", ""));
                }
                all.push(other("386", ""));
            }
            ("arm64", _) => {
                if !self.variant.is_empty() {
                    all.push(other("arm64", ""));
                }
                all.extend(arm(8));
            }
            ("arm", Some(version)) => all.extend(arm(version.saturating_sub(1).min(8))),
            _ => {}
        }
        all
    }
}

#[cfg(test)]
mod tests;
