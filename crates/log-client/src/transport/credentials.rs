//! Files that others replace while the program runs: the access token and the CA certificates.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use rustls_pki_types::pem::{self, PemObject};
use tokio::task::spawn_blocking;

/// A bundle of all public CAs is 200 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Whether the token that was read last will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    Kept,
    Fresh,
}

/// A file that does not hold what it should. Its content is never shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is empty, too long or holds what a header cannot", path.display())]
    Token { path: PathBuf },
    #[error("{} is not a file of PEM certificates", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds certificates that cannot be used", path.display())]
    Certificate { path: PathBuf, source: rustls::Error },
}

/// The access token.
#[derive(Debug)]
pub(super) struct Credentials {
    path: Option<PathBuf>,
    /// The `Authorization` header; `None` until read, and again after a failure.
    kept: Mutex<Option<HeaderValue>>,
}

impl Credentials {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, kept: Mutex::new(None) }
    }

    /// The `Authorization` header; `None` if there is no token file.
    pub(super) async fn token(
        &self,
        freshness: Freshness,
    ) -> Result<Option<HeaderValue>, FileError> {
        let Some(path) = &self.path else { return Ok(None) };
        let kept = self.kept().clone().filter(|_| freshness == Freshness::Kept);
        if kept.is_some() {
            return Ok(kept);
        }
        let token = authorization(path, &read(path).await?)?;
        *self.kept() = Some(token.clone());
        Ok(Some(token))
    }

    /// The next request reads the file anew.
    pub(super) fn expire(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn authorization(path: &Path, content: &[u8]) -> Result<HeaderValue, FileError> {
    let malformed = || FileError::Token { path: path.to_owned() };
    let token = content.trim_ascii();
    if token.is_empty() {
        return Err(malformed());
    }
    let mut value =
        HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| malformed())?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS that trusts the certificates of this file and no others.
pub(super) async fn tls(ca_file: &Path) -> Result<Arc<ClientConfig>, FileError> {
    let path = || ca_file.to_owned();
    let content = read(ca_file).await?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&content) {
        let certificate = certificate.map_err(|source| FileError::Pem { path: path(), source })?;
        roots.add(certificate).map_err(|source| FileError::Certificate { path: path(), source })?;
    }
    if roots.is_empty() {
        return Err(FileError::NoCertificate { path: path() });
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| FileError::Certificate { path: path(), source })?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Reads on a thread of its own: the file may lie on a volume that hangs.
async fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let owned = path.to_owned();
    let content = spawn_blocking(move || {
        let mut content = Vec::new();
        File::open(owned)?.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
        Ok(content)
    });
    let content = content.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    content.map_err(|source| FileError::Read { path: path.to_owned(), source })
}
