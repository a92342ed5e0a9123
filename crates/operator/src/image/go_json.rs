//! What Go's JSON makes of names, by which containerd reads images. Pure.
//!
//! Go takes names in any case, and of two the last. What a reader that does not would understand differently is refused: it
//! would run something else than what was looked up.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Whether Go takes what is written for this name, of ASCII: two letters outside of ASCII are letters of it to Go.
pub(super) fn is_name(written: &str, name: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    written.chars().map(fold).eq(name.chars().map(fold))
}

/// An object, or a list of such objects: the names that count, and what they lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape(pub(super) &'static [(&'static str, Option<&'static Self>)]);

impl Shape {
    /// Whether everybody takes the same names for those that count. What is not JSON nobody reads.
    pub(super) fn is_plain(&self, json: &[u8]) -> bool {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        self.deserialize(&mut deserializer).is_ok()
    }
}

impl<'de> DeserializeSeed<'de> for &Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Shape {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(written) = map.next_key::<String>()? {
            match self.0.iter().find(|(name, _)| is_name(&written, name)) {
                Some((name, _)) if *name != written => {
                    return Err(A::Error::custom("a name in another case"));
                }
                Some((_, Some(deeper))) => map.next_value_seed(*deeper)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, is_name};

    #[test]
    fn names_are_those_that_go_takes_for_them() {
        for written in ["digest", "Digest", "DIGEST", "dige\u{17f}t"] {
            assert!(is_name(written, "digest"), "{written}");
        }
        assert!(is_name("\u{212a}ind", "kind"));
        for written in ["digest ", "diges", "dígest", "digest\u{0}"] {
            assert!(!is_name(written, "digest"), "{written}");
        }
    }

    #[test]
    fn only_names_that_count_must_be_plain() {
        const DEEPER: Shape = Shape(&[("digest", None)]);
        const SHAPE: Shape = Shape(&[("config", Some(&DEEPER)), ("list", Some(&DEEPER))]);
        for plain in [
            r#"{"config":{"digest":"x","Size":1},"labels":{"a":1,"A":2},"Other":[]}"#,
            r#"{"list":[{"digest":1.5},{"digest":-1},[true,null]],"config":null}"#,
            "[]",
            "7",
        ] {
            assert!(SHAPE.is_plain(plain.as_bytes()), "{plain}");
        }
        for odd in [
            r#"{"Config":{}}"#,
            r#"{"config":{"digest":"x","Digest":"y"}}"#,
            r#"{"list":[{"digest":"x"},{"DIGEST":"y"}]}"#,
            r#"{"list":[[{"dige\u017ft":"y"}]]}"#,
        ] {
            assert!(!SHAPE.is_plain(odd.as_bytes()), "{odd}");
        }
    }
}
