//! Access tokens of the `hmac` mode: made by `relay token mint`, checked by the log service.

use super::{Invalid, KeyRing, keys::Purpose};
use crate::name::{Namespace, PodName, PodUid};

/// What every token begins with, so that a scanner for leaked secrets knows one when it sees it.
pub const TOKEN_PREFIX: &str = "relay_";

/// What the bearer of a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read the logs of this pod, or of all pods of the namespace.
    Read(Option<PodName>),
    /// Write the logs of this pod.
    Write(PodName, Option<PodUid>),
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaim {
    /// The namespace that it is good for.
    pub namespace: Namespace,
    /// What it allows there.
    pub access: Access,
    /// End of life, in seconds since the Unix epoch.
    pub expires: u64,
}

impl TokenClaim {
    /// The token: `relay_` and `base64url(version, key id, expiry, access, names, tag)`.
    #[must_use]
    pub fn sign(&self, keys: &KeyRing) -> String {
        let (action, pod, uid) = match &self.access {
            Access::Read(pod) => (b'r', pod.as_ref(), None),
            Access::Write(pod, uid) => (b'w', Some(pod), uid.as_ref()),
        };
        let pod = pod.map_or("", PodName::as_str);
        let uid = uid.map_or("", PodUid::as_str);
        let mut body = self.expires.to_be_bytes().to_vec();
        body.push(action);
        // No name holds a slash.
        body.extend_from_slice(format!("{}/{pod}/{uid}", self.namespace).as_bytes());
        format!("{TOKEN_PREFIX}{}", keys.sign(Purpose::Token, &body))
    }

    /// Reads a token that is valid at `now` (seconds since the Unix epoch).
    ///
    /// # Errors
    ///
    /// [`Invalid`], whatever is wrong.
    pub fn verify(token: &str, keys: &KeyRing, now: u64) -> Result<Self, Invalid> {
        let signed = token.strip_prefix(TOKEN_PREFIX).ok_or(Invalid)?;
        let body = keys.open(Purpose::Token, signed)?;
        let claim = Self::parse(&body).ok_or(Invalid)?;
        if claim.expires > now { Ok(claim) } else { Err(Invalid) }
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let (expires, rest) = body.split_first_chunk::<8>()?;
        let (action, names) = rest.split_first()?;
        let mut names = std::str::from_utf8(names).ok()?.splitn(3, '/');
        let namespace = names.next()?.parse().ok()?;
        let pod = names.next().filter(|pod| !pod.is_empty()).map(str::parse).transpose().ok()?;
        let uid = names.next().filter(|uid| !uid.is_empty()).map(str::parse).transpose().ok()?;
        let access = match action {
            b'r' => Access::Read(pod),
            b'w' => Access::Write(pod?, uid),
            _ => return None,
        };
        Some(Self { namespace, access, expires: u64::from_be_bytes(*expires) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, TokenClaim};
    use crate::capability::{KeyId, KeyRing};

    #[test]
    fn every_scope_survives_its_token_until_it_expires() {
        let keys = KeyRing::new(KeyId(0), vec![1; 32]).unwrap();
        let pod = || "web-0".parse().unwrap();
        for access in [
            Access::Read(None),
            Access::Read(Some(pod())),
            Access::Write(pod(), None),
            Access::Write(pod(), Some("u-1".parse().unwrap())),
        ] {
            let claim = TokenClaim { namespace: "team-a".parse().unwrap(), access, expires: 50 };
            let token = claim.sign(&keys);
            assert!(token.starts_with("relay_"), "{token}");
            assert_eq!(TokenClaim::verify(&token, &keys, 49), Ok(claim));
            assert!(TokenClaim::verify(&token, &keys, 50).is_err());
            assert!(TokenClaim::verify(token.trim_start_matches("relay_"), &keys, 49).is_err());
        }
    }
}
