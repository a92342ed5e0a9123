//! Names of content that only that content has.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Such as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest(String);

impl Digest {
    /// Reads one, of the algorithms that registries know.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (algorithm, digits) = text.split_once(':')?;
        let count = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return None,
        };
        let is_hexadecimal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits.len() == count && is_hexadecimal).then(|| Self(text.to_owned()))
    }

    /// The one that registries give to content by themselves.
    pub(super) fn of(content: &[u8]) -> Self {
        Self(format!("sha256:{}", hexadecimal(&Sha256::digest(content))))
    }

    /// Whether it is the name of this content.
    pub(super) fn names(&self, content: &[u8]) -> bool {
        let (algorithm, digits) = self.0.split_once(':').unwrap_or_default();
        let found = match algorithm {
            "sha384" => hexadecimal(&Sha384::digest(content)),
            "sha512" => hexadecimal(&Sha512::digest(content)),
            _ => hexadecimal(&Sha256::digest(content)),
        };
        found == digits
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Bytes as hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn content_has_the_digest_that_others_compute_of_it() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        let long = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                    47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let middle = "sha384:38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da\
                      274edebfe76f65fbd51ad2f14898b95b";
        for known in [empty, long, middle] {
            let digest = Digest::parse(known).unwrap();
            assert!(digest.names(b"") && !digest.names(b"x"), "{known}");
        }
    }

    #[test]
    fn only_whole_lower_case_digests_are_read() {
        let digits = "ab".repeat(32);
        assert!(Digest::parse(&format!("sha256:{digits}")).is_some());
        for wrong in [
            String::new(),
            digits.clone(),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha256:{digits}a"),
            format!("sha512:{digits}"),
            format!("md5:{digits}"),
            format!("sha256:../{}", "a".repeat(61)),
        ] {
            assert_eq!(Digest::parse(&wrong), None, "{wrong}");
        }
    }
}
