//! What the operator's configuration says about registries and images: the file of `--images-config`.
//!
//! ```yaml
//! # PEM of authorities that all registries may use, besides the public ones.
//! authorities: /etc/relay/images/authorities.pem
//! # Ask, the default, or Never: then only the images below are known.
//! lookup: Ask
//! registries:
//!   # As images name it. `docker.io` is Docker Hub.
//!   - host: docker.io
//!     # Where it is asked instead, one after the other. A path is put before the repository.
//!     endpoints:
//!       - url: https://mirror.example.com/hub
//!         # Endpoint, the default: the pull secrets for mirror.example.com. Registry: those for docker.io.
//!         credentials: Registry
//!   - host: registry.example.com:5000
//!     endpoints:
//!       # Without TLS only where it is written so.
//!       - url: http://registry.example.com:5000
//!   - host: localhost:5000
//!     endpoints:
//!       - url: http://127.0.0.1:5000
//!         # It is on the operator's own machine, and means to be asked.
//!         local: true
//!         # Token servers that are asked like the endpoint itself.
//!         tokenServers: [http://127.0.0.1:5001]
//! images:
//!   # Known without asking, by all tags, one tag or one digest. A star stands for any end.
//!   - name: dev.local/*
//!     entrypoint: [/app]
//!     cmd: [--serve]
//! ```

use std::{path::PathBuf, time::Duration};

use reqwest::{Certificate, Client, Url, redirect::Policy};
use serde::Deserialize;
use url::Host;

use super::{
    address::{Resolver, check},
    config::ImageConfig,
    endpoint::{Endpoint, Whose},
    name::{HUB, HUB_ALIASES, Name},
};

/// How long a connection may take to be made: what is left after that is enough for another.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a connection stays for the next question.
const IDLE: Duration = Duration::from_secs(30);
/// Connections that stay open to one host.
const MAX_IDLE: usize = 4;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// PEM of authorities that all registries may use.
    authorities: Option<PathBuf>,
    lookup: Mode,
    registries: Vec<FileRegistry>,
    images: Vec<FileImage>,
}

/// Whether registries are asked at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Mode {
    #[default]
    Ask,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileRegistry {
    host: String,
    endpoints: Vec<FileEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileEndpoint {
    url: String,
    #[serde(default)]
    authorities: Option<PathBuf>,
    #[serde(default)]
    local: bool,
    #[serde(default)]
    credentials: Whose,
    #[serde(default)]
    token_servers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileImage {
    name: String,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
}

/// The same, ready for use.
#[derive(Clone, Debug)]
pub struct Registries {
    pub(super) mode: Mode,
    /// Asks whoever is not named.
    pub(super) strangers: Client,
    named: Vec<(String, Vec<Endpoint>)>,
    images: Vec<(Pattern, ImageConfig)>,
}

/// Which images an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// All whose repository starts so.
    Beginning(String),
    /// All of a repository.
    Repository(String),
    /// This one.
    Exact(Name),
}

/// What is wrong with the configuration of images.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It is not YAML, or not of this form.
    #[error("not the configuration of images")]
    Form(#[source] serde_saphyr::Error),
    /// An entry says something that cannot be.
    #[error("{place}: {because}")]
    Entry {
        /// Which entry.
        place: String,
        /// What is wrong with it.
        because: String,
    },
    /// A file that it names.
    #[error("{place}: failed to read {}", path.display())]
    Authorities {
        /// Which entry.
        place: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A client cannot be made, for lack of authorities or for bad ones.
    #[error("{place}: failed to prepare for TLS")]
    Tls {
        /// Which entry.
        place: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
}

/// Everything of this file is wrong at this place.
fn entry(place: &str, because: impl Into<String>) -> BadFile {
    BadFile::Entry { place: place.to_owned(), because: because.into() }
}

impl File {
    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// If it is not of this form.
    pub fn read(text: &str) -> Result<Self, BadFile> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(BadFile::Form)
    }
}

impl Registries {
    /// Checks what a file says, and reads the authorities that it names.
    ///
    /// # Errors
    ///
    /// If an entry says something that cannot be, or an authority cannot be read.
    pub fn new(file: File) -> Result<Self, BadFile> {
        let File { authorities, lookup, registries, images } = file;
        let common = match &authorities {
            Some(path) => read_authorities("authorities", path)?,
            None => Vec::new(),
        };
        let mut named: Vec<(String, Vec<Endpoint>)> = Vec::new();
        for (at, registry) in registries.into_iter().enumerate() {
            let place = format!("registries[{at}]");
            let (host, endpoints) = registry.resolve(&place, &common)?;
            if named.iter().any(|(known, _)| *known == host) {
                return Err(entry(&format!("{place}.host"), format!("{host} is there twice")));
            }
            named.push((host, endpoints));
        }
        let image = |(at, image): (usize, FileImage)| image.resolve(&format!("images[{at}]"));
        let images = images.into_iter().enumerate().map(image).collect::<Result<_, _>>()?;
        let strangers = client(Resolver::Strangers, common, "authorities")?;
        Ok(Self { mode: lookup, strangers, named, images })
    }

    /// What is known about an image without asking.
    pub(super) fn image(&self, name: &Name) -> Option<&ImageConfig> {
        let mut matching = self.images.iter().filter(|(pattern, _)| pattern.matches(name));
        matching.next().map(|(_, config)| config)
    }

    /// Where a registry is asked, one after the other; empty if its name is no address.
    pub(super) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let key = canonical(registry);
        if let Some((_, endpoints)) = self.named.iter().find(|(known, _)| *known == key) {
            return endpoints.clone();
        }
        let host = if key == HUB { "registry-1.docker.io" } else { &key };
        Endpoint::of_registry(host).into_iter().collect()
    }
}

impl FileRegistry {
    fn resolve(
        self,
        place: &str,
        common: &[Certificate],
    ) -> Result<(String, Vec<Endpoint>), BadFile> {
        let Self { host, endpoints } = self;
        if Name::parse(&format!("{host}/x"))
            .is_none_or(|name| canonical(&name.registry) != canonical(&host))
        {
            let because =
                format!("{host:?} is not what images name a registry by, such as ghcr.io");
            return Err(entry(&format!("{place}.host"), because));
        }
        if endpoints.is_empty() {
            return Err(entry(&format!("{place}.endpoints"), "nobody is left to ask"));
        }
        let resolve = |(at, endpoint): (usize, FileEndpoint)| {
            endpoint.resolve(&format!("{place}.endpoints[{at}]"), common)
        };
        let endpoints = endpoints.into_iter().enumerate().map(resolve).collect::<Result<_, _>>()?;
        Ok((canonical(&host), endpoints))
    }
}

impl FileEndpoint {
    fn resolve(self, place: &str, common: &[Certificate]) -> Result<Endpoint, BadFile> {
        let Self { url, authorities, local, credentials, token_servers } = self;
        let reach = if local { Resolver::Local } else { Resolver::Configured };
        let url = address(&url, reach, &format!("{place}.url"))?;
        let server = |(at, text): (usize, &String)| {
            address(text, reach, &format!("{place}.tokenServers[{at}]"))
        };
        let token_servers =
            token_servers.iter().enumerate().map(server).collect::<Result<_, _>>()?;
        let mut trusted = common.to_vec();
        if let Some(path) = &authorities {
            trusted.extend(read_authorities(&format!("{place}.authorities"), path)?);
        }
        let prefix = url.path().trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let mut base = url.clone();
        base.set_path("/");
        let client = Some(client(reach, trusted, place)?);
        Ok(Endpoint { base, prefix, credentials, token_servers, client })
    }
}

impl FileImage {
    fn resolve(self, place: &str) -> Result<(Pattern, ImageConfig), BadFile> {
        let Self { name, entrypoint, cmd } = self;
        let config = ImageConfig { entrypoint, cmd };
        let is_empty = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
        if is_empty(&config.entrypoint) && is_empty(&config.cmd) {
            return Err(entry(place, "it has neither an entrypoint nor a cmd"));
        }
        let pattern = Pattern::parse(&name).ok_or_else(|| {
            let because =
                format!("{name:?} is no image, nor the beginning of one with a * at its end");
            entry(&format!("{place}.name"), because)
        })?;
        Ok((pattern, config))
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if let Some(beginning) = text.strip_suffix('*') {
            let probe = Name::parse(&format!("{}x", beginning.trim_end_matches(['.', '_', '-'])))?;
            // What was written stays; the registry is what it means.
            let place = probe.place();
            let kept = beginning.rsplit('/').next().unwrap_or_default();
            let folder = place.rsplit_once('/').map(|(folder, _)| folder)?;
            return Some(Self::Beginning(format!("{folder}/{kept}")));
        }
        let name = Name::parse(text)?;
        let last = text.rsplit('/').next().unwrap_or_default();
        let is_exact = last.contains([':', '@']);
        Some(if is_exact { Self::Exact(name) } else { Self::Repository(name.place()) })
    }

    fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Beginning(beginning) => name.place().starts_with(beginning),
            Self::Repository(place) => *place == name.place(),
            Self::Exact(exact) => exact == name,
        }
    }
}

/// One word for a registry, of several.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if HUB_ALIASES.contains(&host.as_str()) { HUB.to_owned() } else { host }
}

fn address(text: &str, reach: Resolver, place: &str) -> Result<Url, BadFile> {
    let url = Url::parse(text).map_err(|error| entry(place, format!("{text:?}: {error}")))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(entry(place, "only http and https are spoken"));
    }
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !is_plain || url.fragment().is_some() {
        return Err(entry(place, "only a host, a port and a path belong there"));
    }
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => Some(ip.into()),
        Some(Host::Ipv6(ip)) => Some(ip.into()),
        _ => None,
    };
    if reach != Resolver::Local && ip.is_some_and(|ip| check(ip).is_err()) {
        let because = "it is the operator's own machine, or one next to it: if that is meant, set local: true";
        return Err(entry(place, because));
    }
    Ok(url)
}

fn read_authorities(place: &str, path: &PathBuf) -> Result<Vec<Certificate>, BadFile> {
    let pem = std::fs::read(path).map_err(|source| {
        let (place, path) = (place.to_owned(), path.clone());
        BadFile::Authorities { place, path, source }
    })?;
    let certificates = Certificate::from_pem_bundle(&pem);
    let certificates =
        certificates.map_err(|source| BadFile::Tls { place: place.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(entry(place, format!("{} holds no certificate", path.display())));
    }
    Ok(certificates)
}

/// A client that goes nowhere by itself.
fn client(
    resolver: Resolver,
    authorities: Vec<Certificate>,
    place: &str,
) -> Result<Client, BadFile> {
    let client = Client::builder()
        .user_agent(concat!("relay-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .dns_resolver(resolver)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .tls_certs_merge(authorities);
    client.build().map_err(|source| BadFile::Tls { place: place.to_owned(), source })
}

#[cfg(test)]
mod tests;
