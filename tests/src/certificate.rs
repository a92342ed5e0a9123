//! Certificates for servers under test.

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

/// A certificate for 127.0.0.1 that signs itself, and its key: paths of two PEM files in `folder`.
///
/// # Panics
///
/// Without the program openssl.
#[must_use]
pub fn self_signed(folder: &Path) -> (String, String) {
    let name = |name: &str| folder.join(name).display().to_string();
    let (cert, key) = (name("cert.pem"), name("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=relay"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", &key, "-out", &cert])
        .output();
    assert!(made.expect("the program openssl is installed").status.success());
    (cert, key)
}

/// An authority that issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    ///
    /// If no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::of(named(name))
    }

    /// One that was made at this time, and is valid for a year.
    ///
    /// # Panics
    ///
    /// If no key can be made.
    #[must_use]
    pub fn made_at(name: &str, made: SystemTime) -> Self {
        let since = made.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut params = named(name);
        params.not_before = date_time_ymd(1970, 1, 1) + since;
        params.not_after = params.not_before + Duration::from_hours(365 * 24);
        Self::of(params)
    }

    fn of(mut params: CertificateParams) -> Self {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can sign itself");
        Self { issuer }
    }

    /// Its own certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its key, as PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a server of this name or address.
    ///
    /// # Panics
    ///
    /// If that is none.
    #[must_use]
    pub fn issue(&self, server: &str) -> Issued {
        let params = CertificateParams::new(vec![server.to_owned()]);
        self.sign(&params.expect("a server's name"))
    }

    /// A certificate for a user of a cluster.
    #[must_use]
    pub fn issue_user(&self, user: &str, group: &str) -> Issued {
        let mut params = named(user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A request (PEM) for the certificate of a user, and its key.
///
/// # Panics
///
/// If no key can be made.
#[must_use]
pub fn request_user(user: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key can be made");
    let request = named(user).serialize_request(&key).expect("it can be signed");
    (request.pem().expect("it has a form as PEM"), key.serialize_pem())
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
