//! Every kind of store that the log service can keep its logs in.

use std::path::Path;

use tempfile::TempDir;

use crate::{gcs::Bucket, service::Service};

/// An empty store. Gone when dropped.
#[derive(Debug)]
pub enum Store {
    /// A folder.
    Files(TempDir),
    /// Memory of the service: each one has its own, and it ends with it.
    Memory,
    /// A bucket of Google Cloud Storage.
    Gcs(Bucket),
}

impl Store {
    /// A new folder.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn files() -> Self {
        Self::Files(tempfile::tempdir().expect("a folder for the test"))
    }

    /// A new bucket.
    #[must_use]
    pub fn gcs() -> Self {
        Self::Gcs(Bucket::new())
    }

    /// An empty store of the same kind.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn another(&self) -> Self {
        match self {
            Self::Files(_) => Self::files(),
            Self::Memory => Self::Memory,
            Self::Gcs(_) => Self::gcs(),
        }
    }

    /// Its address, as the flag `--store` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Files(folder) => format!("file://{}", folder.path().display()),
            Self::Memory => "memory:".to_owned(),
            Self::Gcs(bucket) => bucket.url(),
        }
    }

    /// Starts a service on it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service_with(&[])
    }

    /// As [`service`](Self::service), with more flags.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn service_with(&self, flags: &[&str]) -> Service {
        let url = self.url();
        let flags = [&["--store", &url], flags].concat();
        if !matches!(self, Self::Gcs(_)) {
            return Service::with(&flags);
        }
        let environment = Bucket::environment().map(|(name, value)| format!("{name}={value}"));
        let wrapper: Vec<&str> =
            ["env"].into_iter().chain(environment.iter().map(String::as_str)).collect();
        Service::under(&wrapper, &flags)
    }

    /// Whether it outlives a service, and another may use it at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Its folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Files(folder) => Some(folder.path()),
            Self::Memory | Self::Gcs(_) => None,
        }
    }
}

/// Makes a test of each function, for every store: `fn name(store: &Store)`.
#[macro_export]
macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {
        $crate::on_shared_stores!($($name),+);
        mod memory {
            $(#[test] fn $name() { super::$name(&$crate::store::Store::Memory); })+
        }
    };
}

/// As [`on_every_store!`], for stores that outlive a service.
#[macro_export]
macro_rules! on_shared_stores {
    ($($name:ident),+ $(,)?) => {
        mod files {
            $(#[test] fn $name() { super::$name(&$crate::store::Store::files()); })+
        }
        mod gcs {
            $(#[test] fn $name() { super::$name(&$crate::store::Store::gcs()); })+
        }
    };
}
