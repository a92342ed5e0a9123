//! A finder, and images in a registry.

use std::collections::BTreeMap;

use prometheus_client::registry::Registry as Counters;
use relay_operator::image::{
    BUDGET, File, Finder, Found, ImageConfig, Keychain, Metrics, Platform, Platforms, Query,
    Registries,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// What images name the registry under test by.
pub(crate) const REGISTRY: &str = "registry.test";

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

    /// What an image runs; it must be said in time.
    pub(crate) async fn find_as(&self, asker: &Asker, image: &str) -> Result<Found, String> {
        let Asker { namespace, keychain, platforms } = asker;
        let begun = Instant::now();
        let deadline = begun + BUDGET;
        let query = Query { image, namespace, keychain, unread: &[], platforms, deadline };
        let found = self.finder.find(query).await;
        // The budget, and what a machine with much else to do adds to it.
        assert!(begun.elapsed() < BUDGET * 4, "{:?}", begun.elapsed());
        found
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

/// Content, and the name that registries give it.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: &'static str,
}

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Content {
    pub(crate) fn of(bytes: Vec<u8>, media_type: &'static str) -> Self {
        let digits = Sha256::digest(&bytes)
            .iter()
            .fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
        Self { digest: format!("sha256:{digits}"), bytes, media_type }
    }

    fn json(value: &Value, media_type: &'static str) -> Self {
        Self::of(value.to_string().into_bytes(), media_type)
    }

    /// The configuration of an image whose entrypoint is this word, for linux.
    pub(crate) fn config(word: &str, architecture: &str) -> Self {
        let ImageConfig { entrypoint, cmd } = config(word);
        let runs = json!({"Entrypoint": entrypoint, "Cmd": cmd, "Env": ["A=b"]});
        let json = json!({"os": "linux", "architecture": architecture, "config": runs, "rootfs": {"type": "layers", "diff_ids": []}});
        Self::json(&json, CONFIG)
    }

    /// The manifest of an image with this configuration.
    pub(crate) fn manifest(config: &Self) -> Self {
        Self::json(
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": []}),
            MANIFEST,
        )
    }

    /// An index of content for these platforms.
    pub(crate) fn index(entries: &[(&str, &Self)]) -> Self {
        let entry = |(on, content): &(&str, &Self)| {
            let mut entry = content.descriptor();
            let Platform { os, architecture, variant } = platform(on);
            entry["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
            entry
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        Self::json(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), INDEX)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}
