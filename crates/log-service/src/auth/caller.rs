//! Who sent a request, as far as its headers and its connection tell.

use std::{convert::Infallible, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

/// Who sent a request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The headers of the request.
    pub headers: HeaderMap,
    /// What the client proved to hold the key of, in the handshake of its connection.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A certificate that a trusted authority issued to a user of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its common name: the user.
    pub user: String,
    /// Its organisations: the groups of the user.
    pub groups: Vec<String>,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// SHA-256 of its bytes.
    pub fingerprint: [u8; 32],
}

impl ClientCertificate {
    /// What the API server would read from a certificate that was verified; `None` if it names no user.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(ToOwned::to_owned).ok()
        };
        // Of several common names the API server takes the last, and so does this.
        let user = text(subject.iter_common_name().last()?)?;
        // An organisation that cannot be read could only widen or narrow the rights unseen.
        let groups = subject.iter_organization().map(text).collect::<Option<_>>()?;
        let expires = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let fingerprint = Sha256::digest(der).into();
        (!user.is_empty()).then_some(Self { user, groups, expires, fingerprint })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let certificate = parts.extensions.get::<Arc<ClientCertificate>>().cloned();
        Ok(Self { headers: parts.headers.clone(), certificate })
    }
}

/// The token of `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::{ClientCertificate, bearer};
    use http::{HeaderMap, header::AUTHORIZATION};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn certificate(names: &[(DnType, &str)]) -> Option<ClientCertificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in names {
            params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*text).to_owned()));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(certificate.der())
    }

    #[test]
    fn a_certificate_names_a_user_and_its_groups() {
        let names = [(DnType::OrganizationName, "team"), (DnType::CommonName, "jane")];
        let found = certificate(&names).unwrap();
        assert_eq!((found.user.as_str(), found.groups), ("jane", vec!["team".to_owned()]));
        assert!(found.expires > 4_000_000_000, "{}", found.expires);
        assert_eq!(certificate(&names[1..]).unwrap().groups, Vec::<String>::new());
    }

    #[test]
    fn a_certificate_without_a_user_is_nobodys() {
        assert_eq!(certificate(&[(DnType::OrganizationName, "team")]), None);
        assert_eq!(certificate(&[(DnType::CommonName, "")]), None);
        assert_eq!(ClientCertificate::read(b"no certificate"), None);
    }

    #[test]
    fn a_token_follows_its_scheme() {
        let read = |value: &str| {
            let headers: HeaderMap =
                [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(read("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(read("bearer  abc "), Some("abc".to_owned()));
        for other in ["Basic abc", "abc", ""] {
            assert_eq!(read(other), None);
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
