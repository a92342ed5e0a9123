//! Address of the log service.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use reqwest::Url;

/// `https://HOST[:PORT][/BASE]`, `http://` on loopback only, or `unix:/PATH/SOCKET`.
///
/// # Guarantees
///
/// Neither a token nor a log ever crosses a network in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceUrl {
    text: String,
    base: Url,
    socket: Option<PathBuf>,
}

/// A text that is not the address of a log service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("write https://HOST[:PORT], http://127.0.0.1:PORT or unix:/PATH/SOCKET")]
    Malformed,
    #[error(
        "http:// would send the token and the log in the clear: use https://, or a host of loopback"
    )]
    NotLoopback,
    #[error("it holds a user or a password: use a token file")]
    Credentials,
}

impl ServiceUrl {
    /// Address of a resource below the service's.
    pub(crate) fn resource(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(segments);
        url
    }

    /// The socket to connect to instead of the host.
    pub(crate) fn socket(&self) -> Option<&PathBuf> {
        self.socket.as_ref()
    }

    /// Whether TLS is spoken.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }
}

/// As the user wrote it.
impl std::fmt::Display for ServiceUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for ServiceUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let base = Url::parse("http://localhost").expect("a constant that is a URL");
            let socket = PathBuf::from(path);
            return socket
                .is_absolute()
                .then_some(Self { text: text.to_owned(), base, socket: Some(socket) })
                .ok_or(UrlError::Malformed);
        }
        let base = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(UrlError::Credentials);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(UrlError::Malformed);
        }
        match base.scheme() {
            "https" => {}
            "http" if is_loopback(&base) => {}
            "http" => return Err(UrlError::NotLoopback),
            _ => return Err(UrlError::Malformed),
        }
        Ok(Self { text: text.to_owned(), base, socket: None })
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{ServiceUrl, UrlError};

    #[test]
    fn nothing_goes_over_a_network_in_the_clear() {
        for text in [
            "https://logs.example/relay/",
            "http://127.0.0.1:8080",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(text.parse::<ServiceUrl>().is_ok(), "{text}");
        }
        for text in
            ["http://logs.example", "http://10.0.0.1", "http://localhost.example", "http://0.0.0.0"]
        {
            assert_eq!(text.parse::<ServiceUrl>(), Err(UrlError::NotLoopback), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_service_is_refused() {
        for text in
            ["", "127.0.0.1:8080", "ftp://localhost", "unix:socket", "https://a/?x", "https://a/#x"]
        {
            assert_eq!(text.parse::<ServiceUrl>(), Err(UrlError::Malformed), "{text}");
        }
        assert_eq!("https://me:secret@a".parse::<ServiceUrl>(), Err(UrlError::Credentials));
    }

    #[test]
    fn resources_lie_below_the_base_and_cannot_leave_it() {
        let url =
            |text: &str| text.parse::<ServiceUrl>().unwrap().resource(&["api", "a/b"]).to_string();
        assert_eq!(url("https://a"), "https://a/api/a%2Fb");
        assert_eq!(url("https://a/relay/"), "https://a/relay/api/a%2Fb");
        assert_eq!(url("unix:/run/relay"), "http://localhost/api/a%2Fb");
    }
}
