//! What an image says about its command, and for which platforms it is made. Pure.

use std::{collections::BTreeMap, fmt};

/// What an image runs, as its configuration says: nothing is computed from it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `Entrypoint`; `None` if it is absent or null.
    pub entrypoint: Option<Vec<String>>,
    /// `Cmd`; `None` if it is absent or null.
    pub cmd: Option<Vec<String>>,
}

/// What a program is compiled for, in the normal form of containerd: `arm64/v8` is `arm64`, and 32-bit `arm` is
/// `arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`; empty if there is none to tell.
    pub variant: String,
}

/// What was found out about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The same wherever the pod may run.
    One(ImageConfig),
    /// Different between the platforms on which the pod may run. Never fewer than two, nor all equal.
    PerPlatform(BTreeMap<Platform, ImageConfig>),
}

impl Platform {
    /// The normal form of three words as images and nodes write them.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0" | "") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("i386", _) => ("386", ""),
            other => other,
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { os, architecture, variant } = self;
        write!(formatter, "{os}/{architecture}")?;
        if variant.is_empty() { Ok(()) } else { write!(formatter, "/{variant}") }
    }
}
