//! Where a registry is asked, and requests to it.
//!
//! # Guarantees
//!
//! - Credentials go to the endpoint itself, and to the token server that it names: to nobody whom it redirects to.
//! - Whoever is not named in the operator's configuration is asked by HTTPS only, and not if it is local ([`super::address`]).
//! - No answer is read beyond its bound.

use std::time::Duration;

use bytes::BytesMut;
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    address::{Forbidden, check_url},
    turns::{Turn, Turns},
    why::Why,
};

/// How often an answer may be that another should be asked.
const MAX_REDIRECTS: usize = 3;
/// What is read of any answer at once, in bytes. Manifests and configurations are rarely larger.
const SMALL: usize = 128 << 10;
/// Answers beyond that which are read at the same time, so that they take 24 MiB at most while they come, and of one namespace.
const LARGE_ONES: usize = 3;
const LARGE_ONES_EACH: usize = 1;
/// How long an answer waits for its turn to be read on.
const LARGE_WAIT: Duration = Duration::from_secs(2);

/// What all requests share.
#[derive(Debug)]
pub(super) struct Net {
    /// Asks whoever the configuration does not name.
    pub(super) strangers: Client,
    /// The operator's own namespace.
    pub(super) own: String,
    large: Turns,
}

/// Where a registry is asked.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Scheme, host and port.
    pub(super) base: Url,
    /// What comes before a repository: empty, or with a slash at its end.
    pub(super) prefix: String,
    /// Whose credentials are used.
    pub(super) credentials: Whose,
    /// Origins of token servers that may be asked like the endpoint.
    pub(super) token_servers: Vec<Url>,
    /// Asks the endpoint, if the configuration names it.
    pub(super) client: Option<Client>,
}

/// Whose credentials are used at an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Whose {
    /// Those for the endpoint's own host.
    #[default]
    Endpoint,
    /// Those for the registry that images name.
    Registry,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask<'who> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: &'static str,
    pub(super) authorization: Option<HeaderValue>,
    /// Longest answer, in bytes.
    pub(super) limit: usize,
    /// Who waits for it.
    pub(super) namespace: &'who str,
}

/// Its answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) by: By,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Whoever was asked.
    Asked,
    /// Somebody whom that redirected to.
    Other,
}

impl Net {
    pub(super) fn new(strangers: Client, own: String) -> Self {
        Self { strangers, own, large: Turns::new(LARGE_ONES, LARGE_ONES_EACH) }
    }

    /// Asks, goes where the answer sends it, and reads the answer of the last.
    pub(super) async fn ask(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Result<Answer, Why> {
        let registry = endpoint.host();
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let by = if url.origin() == ask.url.origin() { By::Asked } else { By::Other };
            let client = self.client(endpoint, &url)?;
            let mut request = client.request(ask.method.clone(), url.clone());
            if !ask.accept.is_empty() {
                request = request.header(ACCEPT, ask.accept);
            }
            if let Some(authorization) = ask.authorization.as_ref().filter(|_| by == By::Asked) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|error| unreachable(&url, &error))?;
            let Some(next) = redirect(&response, &url, &registry)? else {
                return self.read(response, by, &ask, &registry).await;
            };
            url = next;
        }
        Err(Why::Wrong { registry, because: format!("more than {MAX_REDIRECTS} redirects") })
    }

    /// Who may ask an address.
    fn client<'net>(&'net self, endpoint: &'net Endpoint, url: &Url) -> Result<&'net Client, Why> {
        if let Some(client) = &endpoint.client
            && endpoint.trusts(url)
        {
            return Ok(client);
        }
        let host = || url.host_str().unwrap_or_default().to_owned();
        check_url(url, &self.own)
            .map_err(|Forbidden(because)| Why::Forbidden { host: host(), because })?;
        Ok(&self.strangers)
    }

    async fn read(
        &self,
        mut response: Response,
        by: By,
        ask: &Ask<'_>,
        registry: &str,
    ) -> Result<Answer, Why> {
        let too_long = || Why::Wrong {
            registry: registry.to_owned(),
            because: format!("an answer of more than {} KiB", ask.limit >> 10),
        };
        let is_head = ask.method == Method::HEAD;
        let said = response.content_length().and_then(|length| usize::try_from(length).ok());
        if !is_head && said.is_some_and(|length| length > ask.limit) {
            return Err(too_long());
        }
        let mut body = BytesMut::new();
        let mut turn = None;
        let broken = |error: reqwest::Error| unreachable(&ask.url, &error);
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > ask.limit {
                return Err(too_long());
            }
            if body.len() + chunk.len() > SMALL && turn.is_none() {
                turn = Some(self.turn(ask.namespace).await?);
            }
            body.extend_from_slice(&chunk);
        }
        drop(turn);
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        Ok(Answer { status, headers, body: body.into(), by })
    }

    /// Waits for a turn to read a large answer. No registry is to blame if there is none.
    async fn turn(&self, namespace: &str) -> Result<[Turn; 2], Why> {
        let both = async { [self.large.of(namespace).await, self.large.any().await] };
        timeout(LARGE_WAIT, both).await.map_err(|_| Why::Crowded)
    }
}

/// Where an answer sends whoever asks.
fn redirect(response: &Response, url: &Url, registry: &str) -> Result<Option<Url>, Why> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if !is_redirect {
        return Ok(None);
    }
    let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
    let next = place.and_then(|place| url.join(place).ok());
    let wrong = || Why::Wrong {
        registry: registry.to_owned(),
        because: "a redirect to nowhere".to_owned(),
    };
    next.map(Some).ok_or_else(wrong)
}

impl Endpoint {
    /// The registry itself, which the configuration does not name.
    pub(super) fn of_registry(host: &str) -> Option<Self> {
        let base = Url::parse(&format!("https://{host}/")).ok()?;
        // A host cannot bring a path or a name along.
        let is_plain = base.path() == "/" && base.username().is_empty() && base.query().is_none();
        is_plain.then_some(Self {
            base,
            prefix: String::new(),
            credentials: Whose::Registry,
            token_servers: Vec::new(),
            client: None,
        })
    }

    /// Host and port, for people.
    pub(super) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Whether the configuration speaks of an address.
    pub(super) fn trusts(&self, url: &Url) -> bool {
        let servers = self.token_servers.iter().chain([&self.base]);
        servers.map(Url::origin).any(|origin| origin == url.origin())
    }

    /// An address of the registry's API.
    pub(super) fn url(&self, repository: &str, kind: &str, at: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}{repository}/{kind}/{at}", self.prefix));
        url
    }
}

impl Answer {
    /// One of its headers, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What the type of its body is said to be.
    pub(super) fn media_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
    }

    /// What a status means that is not success.
    pub(super) fn failure(&self, registry: &str) -> Why {
        let registry = registry.to_owned();
        match self.status.as_u16() {
            401 | 403 => Why::Refused { registry, credentials: 0 },
            404 => Why::Missing { registry },
            429 => {
                let seconds = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let seconds = seconds.and_then(|text| text.trim().parse().ok());
                Why::Busy { registry, retry_after: seconds.map(Duration::from_secs) }
            }
            status => Why::Failing { registry, status },
        }
    }
}

/// What is wrong with a connection.
fn unreachable(url: &Url, error: &reqwest::Error) -> Why {
    let host = url.host_str().unwrap_or_default().to_owned();
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(Forbidden(because)) = cause.downcast_ref() {
            return Why::Forbidden { host, because };
        }
        match cause.source() {
            Some(source) => cause = source,
            // The last says what it is: "connection refused", or what is wrong with a certificate.
            None => return Why::Unreachable { registry: host, cause: cause.to_string() },
        }
    }
}
