//! TLS with the service's own certificate, which may be replaced while it serves.

use std::{fmt, fs, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{
        NoClientAuth, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Client, Peer, Protocol, listener::Stream, stall::Watched};
use crate::{auth::ClientCertificate, config::TlsFiles};

/// How often the files are read again. A kubelet takes a minute to bring a new certificate, and the old
/// one holds for hours beyond.
const RELOAD: Duration = Duration::from_secs(10);

/// Accepts TLS 1.2 and 1.3, HTTP/2 first.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
    files: TlsFiles,
    /// What `config` was made of.
    made_of: Arc<Material>,
}

/// All that a configuration is made of, as PEM.
#[derive(Clone, PartialEq, Eq)]
struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// Who vouches for clients; empty if they are not asked for certificates.
    authorities: String,
}

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{path:?} does not hold what it should")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// They do not fit together.
    #[error("the certificate and its key cannot be used")]
    Unusable(#[from] rustls::Error),
    /// No client could be known by them.
    #[error("the authorities of clients cannot be used")]
    Authorities(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TlsError {
    fn authorities(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Authorities(Box::new(source))
    }
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they cannot be used.
    pub fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let material = Material::read(files, String::new())?;
        let config = material.config(files)?;
        Ok(Self {
            config: Arc::new(ArcSwap::from_pointee(config)),
            files: files.clone(),
            made_of: Arc::new(material),
        })
    }

    /// Takes over what changes in the files and in who vouches for clients, for as long as it is
    /// polled. New connections get it; those that are open stay. What cannot be used changes nothing:
    /// a certificate and its key may be replaced one after the other.
    pub async fn watch(self, mut authorities: watch::Receiver<String>) {
        let Self { config, files, mut made_of } = self;
        let mut ticks = interval(RELOAD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = authorities.changed() => {}
            }
            let (files, trusted) = (files.clone(), authorities.borrow().clone());
            let reading = tokio::task::spawn_blocking(move || {
                let material = Material::read(&files, trusted);
                material.map(|material| (material.config(&files), material))
            });
            let Ok(read) = reading.await else { continue };
            let problem = match read {
                Ok((_, material)) if material == *made_of => None,
                Ok((Ok(new), material)) => {
                    tracing::info!("the certificate or the authorities of clients were replaced");
                    config.store(Arc::new(new));
                    made_of = Arc::new(material);
                    None
                }
                Ok((Err(error), _)) | Err(error) => Some(error),
            };
            tell(problem, &mut failed);
        }
    }

    pub(super) async fn accept(
        &self,
        stream: Watched<Stream>,
    ) -> io::Result<(TlsStream<Watched<Stream>>, Peer)> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let stream = acceptor.accept(stream).await?;
        let connection = stream.get_ref().1;
        let is_http2 = connection.alpn_protocol() == Some(b"h2");
        let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let client = certificate.and_then(|der| ClientCertificate::read(der)).map(Arc::new);
        Ok((stream, Peer { protocol, client: Client(client) }))
    }
}

/// Warns of a problem once, until it is another or none.
fn tell(problem: Option<TlsError>, told: &mut Option<String>) {
    let text = problem.as_ref().map(|error| format!("{error:?}"));
    if let Some(error) = problem.filter(|_| text != *told) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "the certificate did not change: the new one is unusable");
    }
    *told = text;
}

impl Material {
    fn read(files: &TlsFiles, authorities: String) -> Result<Self, TlsError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })
        };
        let TlsFiles { certificate, key } = files;
        Ok(Self { certificate: read(certificate)?, key: read(key)?, authorities })
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let TlsFiles { certificate, key } = files;
        let pem = |path: &PathBuf| {
            let path = path.clone();
            move |source| TlsError::Pem { path, source }
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(pem(certificate))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(pem(key))?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(self.verifier(provider)?)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Clients may show a certificate, and need not.
    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authorities.as_bytes()) {
            let certificate = certificate.map_err(TlsError::authorities)?;
            roots.add(certificate).map_err(TlsError::authorities)?;
        }
        let built = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .allow_unauthenticated()
            .build();
        match built {
            Err(VerifierBuilderError::NoRootAnchors) => Ok(Arc::new(NoClientAuth)),
            built => built.map_err(TlsError::authorities),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}
