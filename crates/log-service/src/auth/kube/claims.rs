//! What a token says of itself. Not to be believed: it only says whom to ask, and until when an
//! answer can hold.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use tokio::time::Instant;

use crate::clock;

/// Far enough for every answer, near enough for every clock.
const FAR: Duration = Duration::from_hours(24);

/// Claims of a JSON Web Token.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    aud: Audiences,
    exp: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Audiences {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// `None` if it is another kind of token.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    pub(super) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Audiences::None => false,
            Audiences::One(one) => one == audience,
            Audiences::Many(many) => many.iter().any(|one| one == audience),
        }
    }

    pub(super) fn ends(self) -> Instant {
        instant(self.exp)
    }
}

/// When the clock will show `seconds` since the Unix epoch; now, if that is over.
pub(super) fn instant(seconds: u64) -> Instant {
    let left = Duration::from_secs(seconds.saturating_sub(clock::unix_seconds()));
    Instant::now() + left.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::Claims;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    #[test]
    fn tokens_of_any_form_are_read_without_believing_them() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let is_for = |claims: &str| Claims::read(&token(claims)).map(|found| found.is_for("relay"));
        assert_eq!(is_for(r#"{"aud":"relay","exp":5}"#), Some(true));
        assert_eq!(is_for(r#"{"aud":["a","relay"],"exp":5,"sub":"x"}"#), Some(true));
        assert_eq!(is_for(r#"{"aud":["a"],"exp":5}"#), Some(false));
        assert_eq!(is_for(r#"{"exp":5}"#), Some(false));
        for odd in [r#"{"aud":5,"exp":5}"#, r#"{"aud":"relay"}"#, r#"{"exp":-1}"#, "[]", ""] {
            assert_eq!(is_for(odd), None, "{odd}");
        }
        for odd in ["", "..", "a.b", "a.b.c.d", "opaque", "ä.ö.ü"] {
            assert!(Claims::read(odd).is_none(), "{odd}");
        }
    }
}
