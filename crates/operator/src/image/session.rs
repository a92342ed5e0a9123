//! Questions to one endpoint with one credential: from a challenge to an authorisation.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use http_auth::{ChallengeRef, parse_challenges};
use oci_client::token_cache::RegistryToken;
use reqwest::{
    Method, StatusCode, Url,
    header::{HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    digest::Digest,
    endpoint::{Answer, Ask, By, Endpoint, Net},
    keychain::Credential,
    manifest::{ACCEPT, Content, Manifest, read_config, read_manifest},
    name::At,
    why::Why,
};

/// What may come as a manifest.
static ACCEPT_ALL: LazyLock<String> = LazyLock::new(|| ACCEPT.join(", "));
/// Longest manifest or index, in bytes: what registries themselves take at most.
const MAX_MANIFEST: usize = 4 << 20;
/// Longest configuration.
const MAX_CONFIG: usize = 8 << 20;
/// Longest answer of a token server, and whatever comes with a failure.
const MAX_TOKEN: usize = 256 << 10;

/// Questions about one repository.
pub(super) struct Session<'net> {
    net: &'net Net,
    endpoint: &'net Endpoint,
    /// Who waits for the answers.
    namespace: &'net str,
    repository: &'net str,
    credential: Option<&'net Credential>,
    authorization: Option<HeaderValue>,
}

/// What an endpoint wants to know first.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl<'net> Session<'net> {
    pub(super) fn new(
        net: &'net Net,
        endpoint: &'net Endpoint,
        namespace: &'net str,
        repository: &'net str,
        credential: Option<&'net Credential>,
    ) -> Self {
        Self { net, endpoint, namespace, repository, credential, authorization: None }
    }

    /// What a tag or digest stands for now: that the registry answers also says that whoever asks may have it.
    ///
    /// # Errors
    ///
    /// If the registry does not say, or there is no such image, or not for this credential.
    pub(super) async fn digest(&mut self, at: &At) -> Result<Digest, Why> {
        let head = self.get(Method::HEAD, "manifests", at.as_str(), MAX_MANIFEST).await?;
        let said = head.header("docker-content-digest").and_then(Digest::parse);
        match (said, at) {
            (_, At::Digest(digest)) => Ok(digest.clone()),
            (Some(digest), At::Tag(_)) => Ok(digest),
            // Some registries do not say: then the content does.
            (None, At::Tag(tag)) => {
                let answer = self.get(Method::GET, "manifests", tag, MAX_MANIFEST).await?;
                Ok(Digest::of(&answer.body))
            }
        }
    }

    /// An index, or an image with what it runs.
    ///
    /// # Errors
    ///
    /// If it cannot be had, or is not what its digest says, or no image.
    pub(super) async fn content(&mut self, digest: &Digest) -> Result<Content, Why> {
        let config = match self.manifest(digest).await? {
            Manifest::Index(entries) => return Ok(Content::Index(entries)),
            Manifest::Image(config) => config,
        };
        let answer = self.get(Method::GET, "blobs", config.as_str(), MAX_CONFIG).await?;
        self.verify(&config, &answer.body)?;
        let image = read_config(&answer.body).map_err(|because| self.wrong(because))?;
        Ok(Content::Image(image))
    }

    /// A manifest, of which no bytes are kept while the configuration is waited for.
    async fn manifest(&mut self, digest: &Digest) -> Result<Manifest, Why> {
        let answer = self.get(Method::GET, "manifests", digest.as_str(), MAX_MANIFEST).await?;
        self.verify(digest, &answer.body)?;
        let manifest = read_manifest(&answer.body, answer.media_type());
        manifest.map_err(|because| self.wrong(because))
    }

    /// One question, which must succeed.
    async fn get(
        &mut self,
        method: Method,
        kind: &str,
        at: &str,
        limit: usize,
    ) -> Result<Answer, Why> {
        let url = self.endpoint.url(self.repository, kind, at);
        let accept = if kind == "manifests" { ACCEPT_ALL.as_str() } else { "" };
        let ask = |authorization| Ask {
            method: method.clone(),
            url: url.clone(),
            accept,
            authorization,
            limit,
            namespace: self.namespace,
        };
        let mut answer = self.net.ask(self.endpoint, ask(self.authorization.clone())).await?;
        // What somebody else demands, whom the registry redirects to, is no reason to show a credential.
        if answer.status == StatusCode::UNAUTHORIZED
            && answer.by == By::Asked
            && self.authorization.is_none()
            && let Some(authorization) = self.authorize(&answer).await?
        {
            self.authorization = Some(authorization);
            answer = self.net.ask(self.endpoint, ask(self.authorization.clone())).await?;
        }
        match answer.status {
            StatusCode::OK => Ok(answer),
            _ => Err(answer.failure(&self.endpoint.host())),
        }
    }

    /// Answers a challenge; `None` if there is nothing to answer it with.
    async fn authorize(&self, refusal: &Answer) -> Result<Option<HeaderValue>, Why> {
        let headers = refusal.headers.get_all(WWW_AUTHENTICATE);
        let texts = headers.iter().filter_map(|header| header.to_str().ok());
        match challenge(texts) {
            Some(Challenge::Bearer { realm, service }) => {
                self.token(&realm, service.as_deref()).await.map(Some)
            }
            Some(Challenge::Basic) => Ok(self.credential.and_then(basic)),
            None => Ok(None),
        }
    }

    /// Gets a token for reading the repository.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, Why> {
        let realm = Url::parse(realm).map_err(|_| self.wrong("a token server that is nowhere"))?;
        let mut url = realm;
        let scope = format!("repository:{}{}:pull", self.endpoint.prefix, self.repository);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let authorization = self.credential.and_then(basic);
        let (method, limit, namespace) = (Method::GET, MAX_TOKEN, self.namespace);
        let ask = Ask { method, url, accept: "", authorization, limit, namespace };
        let answer = self.net.ask(self.endpoint, ask).await?;
        if answer.status != StatusCode::OK {
            return Err(match answer.failure(&host) {
                // It knows credentials, not images.
                Why::Missing { registry } => Why::Failing { registry, status: 404 },
                other => other,
            });
        }
        let token: Option<RegistryToken> = serde_json::from_slice(&answer.body).ok();
        let token = token.filter(|token| !token.token().is_empty());
        let header = token.and_then(|token| HeaderValue::from_str(&token.bearer_token()).ok());
        let mut header = header.ok_or_else(|| self.wrong("its token server gives no token"))?;
        header.set_sensitive(true);
        Ok(header)
    }

    fn verify(&self, digest: &Digest, content: &[u8]) -> Result<(), Why> {
        let differs = || self.wrong(format!("something else than {digest}"));
        digest.names(content).then_some(()).ok_or_else(differs)
    }

    fn wrong(&self, because: impl Into<String>) -> Why {
        Why::Wrong { registry: self.endpoint.host(), because: because.into() }
    }
}

fn basic(credential: &Credential) -> Option<HeaderValue> {
    let Credential { username, password } = credential;
    let text = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The best of what a registry asks for: a token rather than a password.
fn challenge<'all>(headers: impl Iterator<Item = &'all str>) -> Option<Challenge> {
    let mut found = None;
    for header in headers {
        for challenge in parse_challenges(header).unwrap_or_default() {
            let ChallengeRef { scheme, params } = challenge;
            let get = |name: &str| {
                let mut all = params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                all.next().map(|(_, value)| value.to_unescaped())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer { realm, service: get("service") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Challenge, challenge};
    use proptest::prelude::*;

    #[test]
    fn a_token_is_asked_for_where_there_is_a_choice() {
        let bearer = |realm: &str, service: Option<&str>| {
            let service = service.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service })
        };
        let read = |headers: &[&str]| challenge(headers.iter().copied());
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        let realm = "https://auth.docker.io/token";
        assert_eq!(read(&[hub]), bearer(realm, Some("registry.docker.io")));
        assert_eq!(read(&[r#"Basic realm="x""#, hub]), bearer(realm, Some("registry.docker.io")));
        assert_eq!(read(&[r#"bearer REALM="x\"y""#]), bearer("x\"y", None));
        assert_eq!(read(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(read(&[r#"Negotiate, Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(read(&["Bearer service=\"x\""]), None);
        assert_eq!(read(&["", "=", "Negotiate abc==", "Digest realm=\"x\""]), None);
    }

    proptest! {
        #[test]
        fn no_challenge_is_too_odd_to_be_read(text in "\\PC{0,100}", like in "(Bearer|Basic)( [a-z\",=\\\\]{0,40}){0,3}") {
            drop(challenge([text.as_str(), like.as_str()].into_iter()));
        }
    }
}
