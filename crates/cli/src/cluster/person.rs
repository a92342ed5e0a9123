//! Who asks: the credentials of a kubeconfig.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use kube::{
    Client, Config,
    client::{Body, ConfigExt, middleware::AuthLayer},
};
use rustls::client::ResolvesClientCert;
use tower::{BoxError, Layer, ServiceExt, service_fn};

use super::ClusterError;

/// The person of a kubeconfig.
pub(super) struct Person {
    config: Config,
    /// What puts the person's token into a request. It runs the plugin for credentials only when the
    /// token that it got is about to end.
    tokens: Option<AuthLayer>,
}

/// How a person proves to the service who they are.
pub(super) enum Proof {
    /// With the private key, which stays here.
    Certificate(Arc<dyn ResolvesClientCert>),
    /// `Bearer …`.
    Token(HeaderValue),
}

impl Person {
    pub(super) fn new(config: Config) -> Result<Self, ClusterError> {
        let who = &config.auth_info;
        if who.impersonate.is_some() || who.impersonate_groups.is_some() {
            return Err(ClusterError::Impersonation);
        }
        let tokens = config.auth_layer().map_err(ClusterError::credentials)?;
        Ok(Self { config, tokens })
    }

    /// A certificate, if there is one: unlike a token, it is of no use to who sees it.
    pub(super) async fn proof(&self) -> Result<Proof, ClusterError> {
        let who = &self.config.auth_info;
        let has_file = who.client_certificate.is_some() || who.client_certificate_data.is_some();
        if !has_file && let Some(token) = self.token().await? {
            return Ok(Proof::Token(token));
        }
        let tls = self.config.rustls_client_config().map_err(ClusterError::credentials)?;
        let certificate = tls.client_auth_cert_resolver;
        if certificate.has_certs() {
            return Ok(Proof::Certificate(certificate));
        }
        Err(ClusterError::NoCredentials)
    }

    /// A client of the API server, with a token that is good now.
    pub(super) async fn client(&self) -> Result<Client, ClusterError> {
        let mut config = self.config.clone();
        if let Some(token) = self.token().await? {
            let token = token.to_str().map_err(ClusterError::credentials)?;
            config.auth_info.exec = None;
            config.auth_info.auth_provider = None;
            config.auth_info.token_file = None;
            config.auth_info.token = token.strip_prefix("Bearer ").map(Into::into);
        }
        Client::try_from(config).map_err(ClusterError::credentials)
    }

    async fn token(&self) -> Result<Option<HeaderValue>, ClusterError> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let read = service_fn(|request: Request<Body>| async move {
            let header = request.headers().get(AUTHORIZATION).cloned();
            Ok::<_, BoxError>(Response::new(header))
        });
        let header = tokens.layer(read).oneshot(Request::new(Body::empty())).await;
        let header = header.map_err(ClusterError::credentials)?.into_body();
        Ok(header.filter(|header| header.as_bytes().starts_with(b"Bearer ")))
    }
}
