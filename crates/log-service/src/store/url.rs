//! Address of a store, as the `--store` flag gives it.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///DIR`: a directory of this machine.
    File(PathBuf),
    /// `memory:`: gone with the process. For tests.
    Memory,
    /// `gs://BUCKET/PREFIX`: Google Cloud Storage.
    Gcs {
        /// Name of the bucket.
        bucket: String,
        /// Folder in it; may be empty.
        prefix: String,
    },
}

/// A text that is not the address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a store: use file:///DIR, memory: or gs://BUCKET/PREFIX")]
pub struct StoreUrlError(String);

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let error = || StoreUrlError(text.to_owned());
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file://") {
            let plain = path.starts_with('/') && !path.contains(['%', '?', '#', '\0']);
            return plain.then(|| Self::File(path.into())).ok_or_else(error);
        }
        let rest = text.strip_prefix("gs://").ok_or_else(error)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/').to_owned();
        if bucket.is_empty() {
            return Err(error());
        }
        Ok(Self::Gcs { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file://{}", path.display()),
            Self::Memory => formatter.write_str("memory:"),
            Self::Gcs { bucket, prefix } => write!(formatter, "gs://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StoreUrl;

    #[test]
    fn every_kind_of_store_has_an_address() {
        for (text, url) in [
            ("memory:", StoreUrl::Memory),
            ("file:///var/relay", StoreUrl::File("/var/relay".into())),
            ("gs://b", StoreUrl::Gcs { bucket: "b".to_owned(), prefix: String::new() }),
            ("gs://b/p/q/", StoreUrl::Gcs { bucket: "b".to_owned(), prefix: "p/q".to_owned() }),
        ] {
            assert_eq!(text.parse(), Ok(url), "{text}");
        }
        for text in
            ["", "memory", "/var/relay", "file://relative", "file:///a%20b", "s3://b", "gs://"]
        {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains("use file:///DIR"), "{error}");
        }
    }
}
