//! Ids of streams: whoever holds one may append to that stream, and nothing else.

use std::{fmt, str::FromStr};

use super::{Invalid, KeyRing, keys::Purpose};
use crate::name::Namespace;

/// Storage name of a stream, 128 bits. Public: knowing it gives no right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamUuid(pub [u8; 16]);

/// What a stream id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamClaim {
    /// Namespace of the tenant; with `uuid` it gives the storage key without a look-up.
    pub tenant: Namespace,
    /// The stream.
    pub uuid: StreamUuid,
    /// End of life, in seconds since the Unix epoch.
    pub expires: u64,
}

const FIXED_BYTES: usize = 8 + 16;

impl StreamClaim {
    /// The id: `base64url(version, key id, expiry, uuid, tenant, tag)`.
    #[must_use]
    pub fn sign(&self, keys: &KeyRing) -> String {
        let mut body = Vec::with_capacity(FIXED_BYTES + self.tenant.as_str().len());
        body.extend_from_slice(&self.expires.to_be_bytes());
        body.extend_from_slice(&self.uuid.0);
        body.extend_from_slice(self.tenant.as_str().as_bytes());
        keys.sign(Purpose::StreamId, &body)
    }

    /// Reads an id that is valid at `now` (seconds since the Unix epoch).
    ///
    /// # Errors
    ///
    /// [`Invalid`], whatever is wrong.
    pub fn verify(id: &str, keys: &KeyRing, now: u64) -> Result<Self, Invalid> {
        let body = keys.open(Purpose::StreamId, id)?;
        let (expires, rest) = body.split_first_chunk::<8>().ok_or(Invalid)?;
        let (uuid, tenant) = rest.split_first_chunk::<16>().ok_or(Invalid)?;
        let tenant = std::str::from_utf8(tenant).map_err(|_| Invalid)?;
        let claim = Self {
            tenant: tenant.parse().map_err(|_| Invalid)?,
            uuid: StreamUuid(*uuid),
            expires: u64::from_be_bytes(*expires),
        };
        if claim.expires > now { Ok(claim) } else { Err(Invalid) }
    }
}

impl fmt::Display for StreamUuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for StreamUuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for StreamUuid {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let valid = text.len() == 32
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let number = u128::from_str_radix(text, 16).map_err(|_| Invalid)?;
        valid.then_some(Self(number.to_be_bytes())).ok_or(Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::{StreamClaim, StreamUuid};
    use crate::capability::{KeyId, KeyRing};
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    fn claim() -> StreamClaim {
        StreamClaim { tenant: "local".parse().unwrap(), uuid: StreamUuid([7; 16]), expires: 1_000 }
    }

    fn keys() -> KeyRing {
        KeyRing::new(KeyId(3), vec![9; 32]).unwrap()
    }

    #[test]
    fn every_flipped_bit_makes_an_id_invalid() {
        let id = claim().sign(&keys());
        assert_eq!(StreamClaim::verify(&id, &keys(), 999), Ok(claim()));
        let bytes = URL_SAFE_NO_PAD.decode(&id).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert!(StreamClaim::verify(&forged, &keys(), 999).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_id_ends_with_its_life_and_no_text_is_one() {
        let id = claim().sign(&keys());
        assert!(StreamClaim::verify(&id, &keys(), 1_000).is_err());
        let long = "A".repeat(100_000);
        for text in [
            "",
            "A",
            "AQM",
            id.strip_suffix(|_| true).unwrap(),
            &format!("{id}A"),
            "../..",
            long.as_str(),
        ] {
            assert!(StreamClaim::verify(text, &keys(), 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_uuid_is_thirty_two_small_digits() {
        let uuid = StreamUuid([0xab; 16]);
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        for text in ["", "AB", &"AB".repeat(16), &"0".repeat(33), &format!("+{}", "0".repeat(31))] {
            assert!(text.parse::<StreamUuid>().is_err(), "{text}");
        }
    }
}
