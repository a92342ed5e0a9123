//! The configuration of an image, read as containerd reads it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{ImageConfig, Platform};

/// Reads the configuration of an image.
///
/// containerd is written in Go, whose JSON takes names in any case, and of two the last. An image that two readers
/// understand differently would run something else than what was looked up.
///
/// # Errors
///
/// A clause that says what is wrong.
pub(in super::super) fn read_config(json: &[u8]) -> Result<super::Image, String> {
    let mut read = Read::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let done = deserializer.deserialize_map(Whole(&mut read)).and_then(|()| deserializer.end());
    done.map_err(|_| "its configuration is not that of an image".to_owned())?;
    let Read { os, architecture, variant, config } = read;
    Ok(super::Image { config, platform: Platform::new(&os, &architecture, &variant) })
}

#[derive(Default)]
struct Read {
    os: String,
    architecture: String,
    variant: String,
    config: ImageConfig,
}

/// The whole document.
struct Whole<'read>(&'read mut Read);

/// Its `config`, which may be null.
struct Config<'read>(&'read mut ImageConfig);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration of an image")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(read) = self;
        while let Some(name) = map.next_key::<String>()? {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let text = if is("os") {
                &mut read.os
            } else if is("architecture") {
                &mut read.architecture
            } else if is("variant") {
                &mut read.variant
            } else {
                if is("config") {
                    map.next_value_seed(Config(&mut read.config))?;
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
        let Self(config) = self;
        while let Some(name) = map.next_key::<String>()? {
            if name.eq_ignore_ascii_case("entrypoint") {
                config.entrypoint = words(&mut map)?;
            } else if name.eq_ignore_ascii_case("cmd") {
                config.cmd = words(&mut map)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A list of words, or null. Null among the words is an empty one.
fn words<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Vec<String>>, A::Error> {
    let words = map.next_value::<Option<Vec<Option<String>>>>()?;
    Ok(words.map(|words| words.into_iter().map(Option::unwrap_or_default).collect()))
}
