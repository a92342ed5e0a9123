//! One request over one port of a pod, forwarded by the API server, with TLS inside.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Uri, header::HOST};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use rustls::{
    ClientConfig, RootCertStore,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{io::DuplexStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ClusterError, find::Target};

/// How long the kubelet's reason for a broken stream is waited for.
const REASON: Duration = Duration::from_millis(500);

type Certificate = Arc<dyn ResolvesClientCert>;

/// Sends a request to `target`, over a connection of its own.
pub(super) async fn send(
    client: Client,
    target: Target,
    certificate: Option<Certificate>,
    mut request: Request<reqwest::Body>,
) -> Result<Response<Incoming>, ClusterError> {
    let stream = connect(client, &target, certificate).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ClusterError::Exchange)?;
    // Ends with the answer; how, is told to whoever reads that.
    tokio::spawn(async { drop(connection.await) });
    let host = HeaderValue::try_from(target.server_name).map_err(ClusterError::credentials)?;
    request.headers_mut().insert(HOST, host);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    sender.send_request(request).await.map_err(ClusterError::Exchange)
}

async fn connect(
    client: Client,
    target: &Target,
    certificate: Option<Certificate>,
) -> Result<TlsStream<DuplexStream>, ClusterError> {
    let Target { namespace, pod, port, server_name, ca } = target;
    let config = config(ca, certificate).map_err(|()| ClusterError::NoCa(namespace.clone()))?;
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut forwarded = pods.portforward(pod, &[*port]).await.map_err(|error| {
        // From Kubernetes 1.35 on it is also `create`.
        ClusterError::asking("get", "pods --subresource=portforward", namespace, error)
    })?;
    let failed = |source| ClusterError::Forward { pod: pod.clone(), source };
    let stream = forwarded.take_stream(*port).ok_or_else(|| failed("no stream came".into()))?;
    let reason = forwarded.take_error(*port);
    let name = ServerName::try_from(server_name.clone()).map_err(ClusterError::credentials)?;
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => Ok(stream),
        Err(error) => {
            let reason = async { reason?.await };
            let reason = timeout(REASON, reason).await.ok().flatten();
            Err(match reason {
                Some(reason) => failed(reason.into()),
                None => ClusterError::Tls { pod: pod.clone(), source: error.into() },
            })
        }
    }
}

/// TLS that trusts these authorities and no others.
fn config(ca: &str, certificate: Option<Certificate>) -> Result<ClientConfig, ()> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(authority.map_err(drop)?).map_err(drop)?;
    }
    if roots.is_empty() {
        return Err(());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(drop)?
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
