//! A finder, and images in a registry.

use std::{collections::BTreeMap, time::Duration};

use prometheus_client::registry::Registry as Counters;
use relay_operator::image::{
    BUDGET, File, Finder, Found, ImageConfig, Keychain, Metrics, Platform, Platforms, Query,
    Registries,
};
use relay_tests::registry::{CONFIG, Content, INDEX, scripted::Shelf};
use serde_json::json;
use tokio::time::Instant;

/// What images name the registry under test by.
pub(crate) const REGISTRY: &str = "registry.test";

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long an answer may take before the API server gives up: the three seconds of a pod, and what a machine with much
/// else to do adds to them.
const API_SERVER_WAITS: Duration = Duration::from_secs(5);

/// A finder with its counters.
pub(crate) struct Lab {
    pub(crate) finder: Finder,
    counters: Counters,
}

/// Who asks, and for where.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) namespace: String,
    pub(crate) keychain: Keychain,
    pub(crate) platforms: Platforms,
}

impl Lab {
    /// A finder with this configuration.
    pub(crate) fn with(yaml: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let registries = Registries::new(File::read(yaml).unwrap()).unwrap();
        let mut counters = Counters::default();
        let finder = Finder::new(registries, "relay-system", Metrics::new(&mut counters));
        Self { finder, counters }
    }

    /// A finder that asks these addresses for the images of [`REGISTRY`].
    pub(crate) fn asking(addresses: &[&str]) -> Self {
        let endpoint =
            |address| format!("{{url: 'http://{address}', local: true, credentials: Registry}}");
        let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
        Self::with(&format!(
            "registries: [{{host: {REGISTRY}, endpoints: [{}]}}]",
            endpoints.join(", ")
        ))
    }

    pub(crate) async fn find(&self, image: &str) -> Result<Found, String> {
        self.find_as(&Asker::anybody(), image).await
    }

    /// What an image runs, however much else the machine has to do.
    pub(crate) async fn find_as(&self, asker: &Asker, image: &str) -> Result<Found, String> {
        self.find_within(PATIENCE, asker, image).await
    }

    /// What an image runs, in the time that a pod waits for it.
    pub(crate) async fn find_in_time(&self, asker: &Asker, image: &str) -> Result<Found, String> {
        let begun = Instant::now();
        let found = self.find_within(BUDGET, asker, image).await;
        assert!(begun.elapsed() < API_SERVER_WAITS, "{:?}", begun.elapsed());
        found
    }

    /// What an image runs, if that is known in this time.
    pub(crate) async fn find_within(
        &self,
        time: Duration,
        asker: &Asker,
        image: &str,
    ) -> Result<Found, String> {
        let Asker { namespace, keychain, platforms } = asker;
        let deadline = Instant::now() + time;
        let query = Query { image, namespace, keychain, unread: &[], platforms, deadline };
        self.finder.find(query).await.result
    }

    /// How many lookups had this result.
    pub(crate) fn count(&self, result: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.counters).unwrap();
        let name = format!("image_lookups_total{{result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

impl Asker {
    /// Without credentials, on amd64.
    pub(crate) fn anybody() -> Self {
        Self {
            namespace: "tenant".to_owned(),
            keychain: Keychain::default(),
            platforms: on(&["linux/amd64"]),
        }
    }

    /// With these names, each with the password `secret`, for [`REGISTRY`].
    pub(crate) fn named(names: &[&str]) -> Self {
        Self { keychain: keychain(&[REGISTRY], names), ..Self::anybody() }
    }

    pub(crate) fn on(platforms: &[&str]) -> Self {
        Self { platforms: on(platforms), ..Self::anybody() }
    }
}

/// Pull secrets for these hosts, one for each name.
pub(crate) fn keychain(hosts: &[&str], names: &[&str]) -> Keychain {
    let secret = |name: &&str| {
        let entry = json!({"username": name, "password": "secret"});
        let entries: BTreeMap<_, _> = hosts.iter().map(|host| (*host, entry.clone())).collect();
        json!({"auths": entries}).to_string()
    };
    let secrets: Vec<_> = names.iter().map(secret).collect();
    let typed = |json| ("kubernetes.io/dockerconfigjson", str::as_bytes(json));
    let secrets: Vec<_> = secrets.iter().map(String::as_str).map(typed).collect();
    Keychain::read(&secrets)
}

pub(crate) fn platform(text: &str) -> Platform {
    let mut words = text.split('/');
    let mut next = || words.next().unwrap_or_default();
    Platform::new(next(), next(), next())
}

pub(crate) fn on(platforms: &[&str]) -> Platforms {
    Platforms::Of(platforms.iter().map(|text| platform(text)).collect())
}

/// What an image runs whose entrypoint is this word.
pub(crate) fn runs(word: &str) -> Found {
    Found::One(config(word))
}

pub(crate) fn config(word: &str) -> ImageConfig {
    ImageConfig { entrypoint: Some(vec![word.to_owned()]), cmd: Some(vec!["--$(x)".to_owned()]) }
}

/// The configuration of an image whose entrypoint is this word, for linux.
pub(crate) fn config_of(word: &str, architecture: &str) -> Content {
    let ImageConfig { entrypoint, cmd } = config(word);
    let runs = json!({"Entrypoint": entrypoint, "Cmd": cmd, "Env": ["A=b"]});
    let json = json!({"os": "linux", "architecture": architecture, "config": runs, "rootfs": {"type": "layers", "diff_ids": []}});
    Content::json(&json, CONFIG)
}

/// What a registry has with one image whose entrypoint is this word, by the tag `1`.
pub(crate) fn one(word: &str) -> Shelf {
    Shelf::of_image(&config_of(word, "amd64"), &["1"])
}

/// An index of content for these platforms.
pub(crate) fn index_of(entries: &[(&str, &Content)]) -> Content {
    let entry = |(on, content): &(&str, &Content)| {
        let mut entry = content.descriptor();
        let Platform { os, architecture, variant } = platform(on);
        entry["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
        entry
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    Content::json(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), INDEX)
}
