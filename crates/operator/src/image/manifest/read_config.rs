//! The configuration of an image, read as containerd reads it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{ImageConfig, Platform};
use crate::image::go_json::is_name;

/// What the words of an entrypoint or a command may take in memory, in bytes, so that an image of millions of empty ones
/// takes nobody's place. A pod with as many would be larger than what the API server stores.
const MAX_WORDS: usize = 128 << 10;

/// Reads the configuration of an image: names as Go takes them, and nothing that two readers might understand differently.
///
/// # Errors
///
/// A clause that says what is wrong.
pub(in super::super) fn read_config(json: &[u8]) -> Result<super::Image, String> {
    let mut read = Read::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let done = deserializer.deserialize_map(Whole(&mut read)).and_then(|()| deserializer.end());
    let Read { os, architecture, variant, entrypoint, cmd, because } = read;
    let because = because.unwrap_or("its configuration is not that of an image");
    done.map_err(|_| because.to_owned())?;
    let config = ImageConfig { entrypoint: entrypoint.flatten(), cmd: cmd.flatten() };
    Ok(super::Image { config, platform: Platform::new(&os, &architecture, &variant) })
}

/// Words, or null.
type Words = Option<Vec<String>>;

#[derive(Default)]
struct Read {
    os: String,
    architecture: String,
    variant: String,
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    /// Why it is refused, if that is known better than by the error.
    because: Option<&'static str>,
}

/// The whole document.
struct Whole<'read>(&'read mut Read);

/// Its `config`, which may be null.
struct Config<'read>(&'read mut Read);

/// A list of words, or null. Null among the words is an empty one.
struct List;

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration of an image")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(read) = self;
        while let Some(name) = map.next_key::<String>()? {
            let text = if is_name(&name, "os") {
                &mut read.os
            } else if is_name(&name, "architecture") {
                &mut read.architecture
            } else if is_name(&name, "variant") {
                &mut read.variant
            } else {
                if is_name(&name, "config") {
                    map.next_value_seed(Config(read))?;
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
                continue;
            };
            // Null leaves what was there.
            if let Some(value) = map.next_value::<Option<String>>()? {
                *text = value;
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Config<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Config<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("what an image runs, or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(read) = self;
        while let Some(name) = map.next_key::<String>()? {
            let words = if is_name(&name, "entrypoint") {
                &mut read.entrypoint
            } else if is_name(&name, "cmd") {
                &mut read.cmd
            } else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // Go mixes the second with what the first has left.
            if words.is_some() {
                read.because = Some("its configuration says twice what it runs");
                return Err(A::Error::custom("twice"));
            }
            let list = map.next_value_seed(List)?;
            if list.as_ref().is_some_and(|list| weight(list) > MAX_WORDS) {
                read.because = Some("its command is too long");
                return Err(A::Error::custom("too long"));
            }
            *words = Some(list);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for List {
    type Value = Words;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Words, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Words;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of words, or null")
    }

    fn visit_unit<E>(self) -> Result<Words, E> {
        Ok(None)
    }

    /// Gives one word more than may be, and passes over the others.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let (mut words, mut bytes) = (Vec::new(), 0);
        while bytes <= MAX_WORDS {
            let Some(word) = list.next_element::<Option<String>>()? else { return Ok(Some(words)) };
            words.push(word.unwrap_or_default());
            bytes += words.last().map_or(0, |word| weight_of(word));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(words))
    }
}

fn weight(words: &[String]) -> usize {
    words.iter().map(|word| weight_of(word)).sum()
}

fn weight_of(word: &str) -> usize {
    size_of::<String>() + word.len()
}
