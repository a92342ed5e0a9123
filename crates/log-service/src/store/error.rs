//! What can go wrong with a store.

use std::{error::Error, io, path::Path};

/// A store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {subject:?}{}", hint(*.kind))]
pub struct StoreError {
    action: &'static str,
    subject: String,
    kind: Failure,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No space is left; reading works.
    Full,
    /// The store refuses this process: permissions, or a read-only file system.
    Denied,
    /// It did not answer, or not sensibly. It may later.
    Unavailable,
}

impl StoreError {
    pub(super) fn new(action: &'static str, subject: &str, source: object_store::Error) -> Self {
        let denied = matches!(
            source,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        );
        let kind = if denied { Failure::Denied } else { kind_of(&source) };
        Self { action, subject: subject.to_owned(), kind, source: source.into() }
    }

    pub(super) fn local(action: &'static str, path: &Path, source: io::Error) -> Self {
        let kind = kind_of(&source);
        Self { action, subject: path.display().to_string(), kind, source: source.into() }
    }

    /// A record in the store that cannot be read as what it should be.
    pub(crate) fn malformed(key: &object_store::path::Path, source: serde_json::Error) -> Self {
        let subject = key.to_string();
        Self { action: "understand", subject, kind: Failure::Unavailable, source: source.into() }
    }

    /// A segment in the store that is not what was written.
    pub(crate) fn corrupt(key: &object_store::path::Path, source: crate::segment::Corrupt) -> Self {
        let subject = key.to_string();
        Self { action: "compare with", subject, kind: Failure::Unavailable, source: source.into() }
    }

    /// A creation that was refused because of an object that is not there.
    pub(crate) fn collision(key: &object_store::path::Path) -> Self {
        let source = "the store says that it exists and has nothing".into();
        Self { action: "store", subject: key.to_string(), kind: Failure::Unavailable, source }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Failure {
        self.kind
    }

    /// Whether no space is left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == Failure::Full
    }

    /// Whether the same may work later: everything but a refusal.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind != Failure::Denied
    }
}

fn hint(kind: Failure) -> &'static str {
    match kind {
        Failure::Full => ": no space is left",
        Failure::Denied => ": access is denied",
        Failure::Unavailable => "",
    }
}

/// Looks for the operating system's error below those of the store.
fn kind_of(error: &(dyn Error + 'static)) -> Failure {
    let mut system = None;
    let mut link = Some(error);
    while let Some(error) = link {
        system = error.downcast_ref::<io::Error>().or(system);
        link = error.source();
    }
    match system.map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Failure::Full,
        Some(
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory,
        ) => Failure::Denied,
        _ => Failure::Unavailable,
    }
}
