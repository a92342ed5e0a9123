//! Address of the log service.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

use http::Uri;

/// Longest path of a Unix socket on Linux, in bytes: `sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Where the log service is: `https://HOST[:PORT][/BASE]`, `http://` the same on loopback only,
/// or `unix:/PATH/SOCKET`.
///
/// # Guarantees
///
/// Captured output never crosses a network in the clear: plain HTTP exists for loopback only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    endpoint: Endpoint,
    /// Path before `/logs`; empty, or begins with a slash and does not end with one.
    base: String,
}

/// How the service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// HTTP/1.1 over TCP on loopback.
    Plain(Host),
    /// HTTP/2 or HTTP/1.1 over TLS.
    Tls(Host),
    /// HTTP/1.1 over a Unix socket.
    Unix(PathBuf),
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name, or an address without brackets.
    pub name: String,
    /// Never 0.
    pub port: u16,
}

/// A text that is not the address of a log service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL of a known form.
    #[error(
        "{0:?} is not the URL of a log service: write https://HOST[:PORT][/BASE], http://localhost:PORT or unix:/PATH/SOCKET"
    )]
    Malformed(String),
    /// Plain HTTP to another machine.
    #[error(
        "{0:?} would send the log in the clear: use https://, or http:// with localhost, 127.0.0.1 or [::1]"
    )]
    NotLoopback(String),
    /// User and password in the URL. It is not shown, for it holds a secret.
    #[error("the URL of the log service holds a user or password: remove it and use a token file")]
    Credentials,
    /// A query or a fragment.
    #[error("{0:?} holds a query or fragment: remove what follows the path")]
    Query(String),
    /// The path of the socket is not absolute, or too long.
    #[error(
        "{0:?} is not the address of a socket: write unix:/PATH/SOCKET with at most {MAX_SOCKET_PATH} bytes of path"
    )]
    Socket(String),
}

impl ServiceUrl {
    /// How the service is reached.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether it crosses a network: over TLS, with HTTP/2 if the service has it.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tls(_))
    }

    /// Whether it has the name of a Service of Kubernetes, which only the cluster's own pods know.
    #[must_use]
    pub fn is_in_cluster(&self) -> bool {
        let Endpoint::Tls(host) = &self.endpoint else { return false };
        host.name.split('.').nth(2) == Some("svc")
    }

    /// Path before `/logs` and `/api`; empty, or begins with a slash and does not end with one.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What the `Host` header and the `:authority` field say.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.endpoint {
            Endpoint::Plain(host) => host.authority(80),
            Endpoint::Tls(host) => host.authority(443),
            Endpoint::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl Host {
    fn authority(&self, default_port: u16) -> String {
        let brackets = self.name.contains(':');
        let name = if brackets { format!("[{}]", self.name) } else { self.name.clone() };
        if self.port == default_port { name } else { format!("{name}:{}", self.port) }
    }

    fn is_loopback(&self) -> bool {
        self.name == "localhost"
            || self.name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Plain(_) => write!(formatter, "http://{}{}", self.authority(), self.base),
            Endpoint::Tls(_) => write!(formatter, "https://{}{}", self.authority(), self.base),
            Endpoint::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ServiceUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        match text.strip_prefix("unix:") {
            Some(path) => parse_socket(text, path),
            None => parse_http(text),
        }
    }
}

/// `unix:/path`, and `unix:///path` as other programs write it.
fn parse_socket(text: &str, path: &str) -> Result<ServiceUrl, UrlError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    let valid = Path::new(path).is_absolute()
        && path.len() <= MAX_SOCKET_PATH
        && !path.ends_with('/')
        && !path.contains('\0');
    if !valid {
        return Err(UrlError::Socket(shown(text)));
    }
    Ok(ServiceUrl { endpoint: Endpoint::Unix(PathBuf::from(path)), base: String::new() })
}

fn parse_http(text: &str) -> Result<ServiceUrl, UrlError> {
    if text.contains('@') {
        return Err(UrlError::Credentials);
    }
    if text.contains(['?', '#']) {
        return Err(UrlError::Query(shown(text)));
    }
    let malformed = || UrlError::Malformed(shown(text));
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    let host = |default_port| {
        let authority = uri.authority().ok_or_else(malformed)?;
        let name = host_name(authority.host()).ok_or_else(malformed)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("") => default_port,
            Some(_) => authority.port_u16().filter(|port| *port > 0).ok_or_else(malformed)?,
        };
        Ok(Host { name, port })
    };
    let endpoint = match uri.scheme_str() {
        Some("https") => Endpoint::Tls(host(443)?),
        Some("http") => {
            let host = host(80)?;
            if !host.is_loopback() {
                return Err(UrlError::NotLoopback(shown(text)));
            }
            Endpoint::Plain(host)
        }
        _ => return Err(malformed()),
    };
    Ok(ServiceUrl { endpoint, base: uri.path().trim_end_matches('/').to_owned() })
}

/// A name, an address of IPv4, or one of IPv6 in brackets, which are left out.
fn host_name(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok().then(|| address.to_ascii_lowercase());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!host.is_empty() && host.bytes().all(plain)).then(|| host.to_ascii_lowercase())
}

/// The input as an error shows it: bounded.
fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::{ServiceUrl, UrlError};
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ServiceUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn addresses_of_a_service_are_understood() {
        for (text, authority, base) in [
            ("https://logs.example", "logs.example", ""),
            ("https://logs.example:443/", "logs.example", ""),
            ("https://10.0.0.1:8443/relay/", "10.0.0.1:8443", "/relay"),
            ("http://127.0.0.1:80/prefix", "127.0.0.1", "/prefix"),
            ("http://127.9.9.9:8080", "127.9.9.9:8080", ""),
            ("http://LocalHost:1", "localhost:1", ""),
            ("http://[::1]:9/a/b", "[::1]:9", "/a/b"),
            ("unix:/run/relay.sock", "localhost", ""),
            ("unix:///run/relay.sock", "localhost", ""),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.authority().as_str(), url.base()), (authority, base), "{text}");
            assert_eq!(parse(&url.to_string()), Ok(url), "{text}");
        }
    }

    #[test]
    fn services_of_kubernetes_are_told_by_their_names() {
        for (text, is_in_cluster) in [
            ("https://relay-log-service.relay-system.svc:8443", true),
            ("https://relay-log-service.relay-system.svc.cluster.local", true),
            ("https://logs.example", false),
            ("https://svc.example.com", false),
            ("https://10.0.0.1", false),
            ("http://localhost:8080", false),
            ("unix:/a.b.svc", false),
        ] {
            assert_eq!(parse(text).unwrap().is_in_cluster(), is_in_cluster, "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for text in
            ["http://example.com", "http://10.0.0.1:80", "http://localhost.example", "http://[::2]"]
        {
            assert_eq!(parse(text), Err(UrlError::NotLoopback(text.to_owned())));
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_remedy() {
        for text in [
            "",
            "logs.example",
            "ftp://x",
            "http://",
            "https://:1",
            "https://x:0",
            "https://x:99999",
            "https://0[a]",
            "https://[a]",
            "https://[::1",
        ] {
            assert_eq!(parse(text), Err(UrlError::Malformed(text.to_owned())), "{text}");
        }
        for text in ["unix:", "unix:run/x", "unix:/run/", "unix://run/x"] {
            assert_eq!(parse(text), Err(UrlError::Socket(text.to_owned())), "{text}");
        }
        assert!(parse(&format!("unix:/{}", "x".repeat(200))).is_err());
        assert_eq!(parse("https://x/?a=b"), Err(UrlError::Query("https://x/?a=b".to_owned())));
        let error = parse("https://me:hunter22@x").unwrap_err();
        assert_eq!(error, UrlError::Credentials);
        assert!(!error.to_string().contains("hunter22"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_takes_survives_a_round_trip(
            text in "(https?://|unix:)?[a-z0-9:/@.\\[\\]?#]{0,30}"
        ) {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()), Ok(url));
            }
        }
    }
}
