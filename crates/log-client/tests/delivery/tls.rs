//! Whom a client trusts over TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use relay_log_client::{Settings, StartError, start};
use relay_protocol::time::UnixMillis;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    ENOUGH, assert_delivered, begin, sample, service::Service, settings, success, within,
    write_file,
};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server for `localhost` that speaks these protocols, most wanted first.
fn acceptor(authority: &CertifiedIssuer<'static, KeyPair>, protocols: &[&str]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Delivers to a service of these protocols, and returns the HTTP version that it saw.
async fn version_with(protocols: &[&str]) -> http::Version {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let service = Service::default();
    let port = service.listen_tls(acceptor(&authority, protocols)).await;
    let ca_file = Some(write_file(&folder, "ca.pem", &authority.pem()));
    let url = format!("https://localhost:{port}/base");
    let (client, mut stdout, _stderr) = begin(Settings { ca_file, ..settings(&url) });
    let bytes = sample(2 << 20);
    stdout.write(&bytes, UnixMillis(1)).await;
    let report = client.finish(success(), within(ENOUGH)).await;
    assert_delivered(&report, [2 << 20, 0]);
    let state = service.state();
    assert!(state.streams["stdout"].content() == bytes, "the bytes differ");
    assert_eq!(state.seen[0].headers["content-encoding"], "gzip");
    state.seen[0].version
}

#[tokio::test]
async fn a_service_with_the_right_authority_is_served_over_http_2() {
    assert_eq!(version_with(&["h2", "http/1.1"]).await, http::Version::HTTP_2);
}

#[tokio::test]
async fn a_service_without_http_2_is_served_over_http_1() {
    assert_eq!(version_with(&["http/1.1"]).await, http::Version::HTTP_11);
    assert_eq!(version_with(&[]).await, http::Version::HTTP_11);
}

#[tokio::test]
async fn nothing_is_sent_to_a_stranger_until_the_file_of_authorities_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (authority(), authority());
    let service = Service::default();
    let port = service.listen_tls(acceptor(&right, &["h2"])).await;
    let ca_file = Some(write_file(&folder, "ca.pem", &wrong.pem()));
    let url = format!("https://localhost:{port}");
    let (client, mut stdout, _stderr) = begin(Settings { ca_file, ..settings(&url) });
    stdout.write(b"hello", UnixMillis(1)).await;
    service.until(|state| state.refused >= 3).await;
    assert_eq!(service.state().requests, 0);
    write_file(&folder, "ca.pem", &right.pem());
    let report = client.finish(success(), within(ENOUGH)).await;
    assert_delivered(&report, [5, 0]);
}

#[tokio::test]
async fn a_missing_or_broken_file_of_authorities_is_waited_for() {
    for content in [None, Some(""), Some("not a certificate")] {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority();
        let service = Service::default();
        let port = service.listen_tls(acceptor(&authority, &["h2"])).await;
        let ca_file = folder.path().join("ca.pem");
        if let Some(content) = content {
            write_file(&folder, "ca.pem", content);
        }
        let url = format!("https://localhost:{port}");
        let (client, mut stdout, _stderr) =
            begin(Settings { ca_file: Some(ca_file), ..settings(&url) });
        stdout.write(b"hello", UnixMillis(1)).await;
        let finished = tokio::spawn(client.finish(success(), within(ENOUGH)));
        tokio::task::yield_now().await;
        assert_eq!(service.state().requests, 0);
        write_file(&folder, "ca.pem", &authority.pem());
        assert_delivered(&finished.await.unwrap(), [5, 0]);
    }
}

#[tokio::test]
async fn https_without_a_file_of_authorities_is_refused_at_the_start() {
    let settings = settings("https://localhost");
    assert!(matches!(start(settings, &[]), Err(StartError::NoCa { .. })));
}
