//! Addresses below that of the log service.

use relay_protocol::service_url::{Endpoint, ServiceUrl};
use reqwest::Url;

/// Address of a resource of the service.
///
/// # Panics
///
/// Never: what a [`ServiceUrl`] was made of is a URL.
pub(crate) fn resource(service: &ServiceUrl, segments: &[&str]) -> Url {
    let scheme = if service.is_remote() { "https" } else { "http" };
    let base = format!("{scheme}://{}{}", service.authority(), service.base());
    let mut url = Url::parse(&base).expect("a service's address is a URL");
    url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(segments);
    url
}

/// The socket to connect to instead of the host.
pub(crate) fn socket(service: &ServiceUrl) -> Option<&std::path::Path> {
    match service.endpoint() {
        Endpoint::Unix(path) => Some(path),
        Endpoint::Plain(_) | Endpoint::Tls(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::resource;

    #[test]
    fn resources_lie_below_the_base_and_cannot_leave_it() {
        let url = |text: &str| resource(&text.parse().unwrap(), &["api", "a/b"]).to_string();
        assert_eq!(url("https://a"), "https://a/api/a%2Fb");
        assert_eq!(url("https://a/relay/"), "https://a/relay/api/a%2Fb");
        assert_eq!(url("http://[::1]:9/x"), "http://[::1]:9/x/api/a%2Fb");
        assert_eq!(url("unix:/run/relay"), "http://localhost/api/a%2Fb");
    }
}
