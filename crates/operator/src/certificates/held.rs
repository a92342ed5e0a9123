//! What was issued, and how a Secret holds it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{CA_KEY, Moment, Paths};

/// The authorities' keys, in the order of their certificates.
const AUTHORITY_KEYS: &str = "ca.key";
/// Where reviews are sent.
const PATHS: &str = "webhook.paths";

/// What was issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The oldest first.
    pub authorities: Vec<Authority>,
    /// One for each use, at most.
    pub leaves: BTreeMap<Use, Leaf>,
    /// Where the API server sends reviews.
    pub paths: Paths,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// The API server calls the webhook.
    Webhook,
    /// Entrypoints call the log service.
    LogService,
}

/// What signs certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// Its own name, which no other has.
    pub name: String,
    /// From when on it is valid.
    pub begins: Moment,
    /// Until when.
    pub ends: Moment,
}

/// What a server shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// The name of the authority that signed it.
    pub signed_by: String,
    /// Whom it is for.
    pub names: Vec<String>,
    /// From when on it is valid.
    pub begins: Moment,
    /// Until when.
    pub ends: Moment,
}

/// A Secret does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A key is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Not PEM.
    #[error("{0} is not PEM")]
    NotPem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// Not a certificate.
    #[error("{0} is not a certificate")]
    NotACertificate(&'static str, #[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// Not as many keys as certificates.
    #[error("{keys} keys belong to {certificates} authorities")]
    KeysMissing {
        /// In the Secret.
        keys: usize,
        /// In the Secret.
        certificates: usize,
    },
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::LogService];

    /// The keys of the Secret with its certificate and key.
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Webhook => ("webhook.crt", "webhook.key"),
            Self::LogService => ("log-service.crt", "log-service.key"),
        }
    }
}

impl Held {
    /// What whoever connects has to trust.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// As the data of a Secret.
    #[must_use]
    pub fn to_data(&self) -> BTreeMap<String, ByteString> {
        let keys: String =
            self.authorities.iter().map(|authority| authority.key.as_str()).collect();
        let paths = self.paths.to_text();
        let authorities = [(CA_KEY, self.bundle()), (AUTHORITY_KEYS, keys), (PATHS, paths)];
        let leaves = self.leaves.iter().flat_map(|(which, leaf)| {
            let (certificate, key) = which.files();
            [(certificate, leaf.certificate.clone()), (key, leaf.key.clone())]
        });
        let all = authorities.into_iter().chain(leaves);
        all.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).collect()
    }

    /// From the data of a Secret.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if somebody wrote something else there. Certificates of servers are not missed: they
    /// can be issued again.
    pub fn from_data(data: &BTreeMap<String, ByteString>) -> Result<Self, Unreadable> {
        let get =
            |name| data.get(name).map(|bytes| bytes.0.as_slice()).ok_or(Unreadable::Missing(name));
        let certificates = certificates(CA_KEY, get(CA_KEY)?)?;
        let keys: Vec<_> = PrivateKeyDer::pem_slice_iter(get(AUTHORITY_KEYS)?)
            .collect::<Result<_, _>>()
            .map_err(|source| Unreadable::NotPem(AUTHORITY_KEYS, source))?;
        if keys.len() != certificates.len() {
            let (keys, certificates) = (keys.len(), certificates.len());
            return Err(Unreadable::KeysMissing { keys, certificates });
        }
        let authorities = certificates.iter().zip(&keys).map(|(certificate, key)| {
            let facts = Facts::of(CA_KEY, certificate)?;
            let (certificate, key) = (certificate_pem(certificate), key_pem(key));
            let Facts { subject: name, begins, ends, .. } = facts;
            Ok(Authority { certificate, key, name, begins, ends })
        });
        let authorities = authorities.collect::<Result<_, _>>()?;
        let leaves = Use::ALL.into_iter().filter_map(|which| {
            let (certificate, key) = which.files();
            let leaf = Leaf::read(certificate, get(certificate).ok()?, get(key).ok()?);
            leaf.ok().map(|leaf| (which, leaf))
        });
        let paths = get(PATHS).ok().map(String::from_utf8_lossy);
        let paths = paths.map_or_else(Paths::of_before, |text| Paths::read(&text));
        Ok(Self { authorities, leaves: leaves.collect(), paths })
    }
}

impl Leaf {
    fn read(name: &'static str, certificate: &[u8], key: &[u8]) -> Result<Self, Unreadable> {
        let chain = certificates(name, certificate)?;
        let first = chain.first().ok_or(Unreadable::Missing(name))?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|source| Unreadable::NotPem(name, source))?;
        let Facts { issuer: signed_by, names, begins, ends, .. } = Facts::of(name, first)?;
        let (certificate, key) = (certificate_pem(first), key_pem(&key));
        Ok(Self { certificate, key, signed_by, names, begins, ends })
    }
}

/// What a certificate says.
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: Vec<String>,
    pub(super) begins: Moment,
    pub(super) ends: Moment,
}

impl Facts {
    pub(super) fn of(name: &'static str, der: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let parsed = X509Certificate::from_der(der);
        let (_, certificate) =
            parsed.map_err(|source| Unreadable::NotACertificate(name, source))?;
        let validity = certificate.validity();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter().filter_map(text).collect());
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.unwrap_or_default(),
            begins: Moment(validity.not_before.timestamp()),
            ends: Moment(validity.not_after.timestamp()),
        })
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            _ => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

fn certificates(
    name: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Unreadable> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
    all.map_err(|source| Unreadable::NotPem(name, source))
}

fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

/// All of Relay's keys are PKCS#8.
fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    pem("PRIVATE KEY", key.secret_der())
}

/// Written anew rather than copied: what stands around it in a Secret is not carried along.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines =
        text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

/// Keys stay out of messages.
impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, begins, ends, certificate: _, key: _ } = self;
        write!(formatter, "Authority({name}, {begins:?} to {ends:?})")
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { signed_by, names, begins, ends, certificate: _, key: _ } = self;
        write!(formatter, "Leaf({names:?} by {signed_by}, {begins:?} to {ends:?})")
    }
}
