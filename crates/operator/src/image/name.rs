//! Names of images, as containerd reads them. Pure.

use std::{fmt, net::Ipv6Addr};

use oci_client::Reference;

use super::digest::Digest;

/// Docker Hub as references name it.
pub(super) const HUB: &str = "docker.io";
/// What else means Docker Hub: the first in references and credentials, both in credentials.
pub(super) const HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Stands for a host while a name is read.
const PLACEHOLDER: &str = "host.invalid";

/// Longest name that is read, in bytes: a host, 255 of a repository, a tag of 128 and a digest fit.
const MAX_BYTES: usize = 1024;

/// An image by its full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// Host, and port if one was written. Docker Hub is `docker.io`.
    pub(super) registry: String,
    /// Path on that host.
    pub(super) repository: String,
    /// Which of its images.
    pub(super) at: At,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// What has this tag now.
    Tag(String),
    /// This one.
    Digest(Digest),
}

impl Name {
    /// Reads what a pod says by the rules of containerd: `nginx` is `docker.io/library/nginx:latest`, and a tag beside a
    /// digest does not count.
    pub(super) fn parse(image: &str) -> Option<Self> {
        let is_identifier = image.len() == 64 && image.bytes().all(|byte| byte.is_ascii_hexdigit());
        // `Reference` takes letters and digits of all scripts in a tag.
        if image.len() > MAX_BYTES || is_identifier || !image.is_ascii() {
            return None;
        }
        if let Some((host, rest)) = split_ipv6(image) {
            // `Reference` takes names and addresses of the older kind alone.
            let name = Self::parse(&format!("{PLACEHOLDER}/{rest}"))?;
            return (name.registry == PLACEHOLDER)
                .then(|| Self { registry: host.to_owned(), ..name });
        }
        let reference = Reference::try_from(image).ok()?;
        let at = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => At::Digest(Digest::parse(digest)?),
            (None, tag) => At::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let (registry, repository) = match reference.repository().split_once('/') {
            // A first word with capitals is a host; `Reference` has it as a part of the path.
            Some((first, rest)) if first.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                (first, rest)
            }
            _ => (reference.registry(), reference.repository()),
        };
        Some(Self { registry: registry.to_owned(), repository: repository.to_owned(), at })
    }

    /// The repository, with its host in front.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// The host and the rest of a name that begins with an address of IPv6 in brackets, and a port or none.
fn split_ipv6(image: &str) -> Option<(&str, &str)> {
    let (host, rest) = image.split_once('/')?;
    let (address, port) = host.strip_prefix('[')?.split_once(']')?;
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_host && address.parse::<Ipv6Addr>().is_ok()).then_some((host, rest))
}

impl At {
    /// How it stands in an address.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag,
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, at } = self;
        let sign = if matches!(at, At::Tag(_)) { ':' } else { '@' };
        write!(formatter, "{registry}/{repository}{sign}{}", at.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Name;
    use proptest::{prelude::*, string::string_regex};

    #[test]
    fn short_names_are_those_of_docker_hub() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1", "docker.io/library/nginx:1"),
            ("acme/app", "docker.io/acme/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/acme/app", "docker.io/acme/app:latest"),
            ("registry-1.docker.io/library/nginx", "registry-1.docker.io/library/nginx:latest"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080"),
            ("test:5000/repo", "test:5000/repo:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
            ("Acme/app", "Acme/app:latest"),
            ("ghcr.io/a--b/c__d:T_1.2-x", "ghcr.io/a--b/c__d:T_1.2-x"),
            ("10.0.0.1/app", "10.0.0.1/app:latest"),
            ("[fd00::7]:5000/acme/app:1", "[fd00::7]:5000/acme/app:1"),
            ("[::1]/app", "[::1]/app:latest"),
        ] {
            let name = Name::parse(image).unwrap_or_else(|| panic!("{image}"));
            assert_eq!(name.to_string(), full, "{image}");
            let exact = Name::parse(&format!("{image}@{digest}"));
            let exact = exact.unwrap_or_else(|| panic!("{image} with a digest"));
            assert_eq!(exact.to_string(), format!("{}@{digest}", name.place()), "{image}");
        }
    }

    #[test]
    fn what_containerd_does_not_read_is_no_name() {
        let hexadecimal = "ab".repeat(32);
        let long = format!("ghcr.io/{}", "a".repeat(256));
        for image in [
            "",
            " nginx",
            "nginx ",
            "nginx:",
            "nginx@",
            ":tag",
            "NGINX",
            "ghcr.io/Acme/app",
            "ghcr.io//app",
            "ghcr.io/app/",
            "https://ghcr.io/app",
            "ghcr.io/app?x=1",
            "ghcr.io/app#x",
            "user@ghcr.io/app",
            "ghcr.io/../app",
            "ghcr.io/a/..",
            "nginx@sha256:abc",
            "nginx@md5:ababababababababababababababababab",
            &format!("nginx@sha256:{}", hexadecimal.to_uppercase()),
            "nginx:1\n",
            "[fd00::7]",
            "[fd00::7]:/app",
            "[fd00::7]5000/app",
            "[fd00::x]/app",
            "[10.0.0.1]/app",
            "[fd00::7/app",
            "[fe80::1%eth0]/app",
            "nginx:\u{1e130}",
            &hexadecimal,
            &long,
            &"a/".repeat(4096),
        ] {
            assert_eq!(Name::parse(image), None, "{image}");
        }
    }

    proptest! {
        #[test]
        fn a_full_name_is_read_as_itself(
            registry in "[a-z0-9]{1,8}(\\.[a-z]{2,3})(:[0-9]{1,4})?",
            path in string_regex("[a-z0-9]{1,6}(([._]|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}").unwrap(),
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        ) {
            let image = format!("{registry}/{path}:{tag}");
            let name = Name::parse(&image).unwrap();
            prop_assert_eq!(name.to_string(), image.clone());
            prop_assert_eq!(Name::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn whatever_is_written_only_words_without_signs_get_into_an_address(image in "\\PC{0,80}") {
            if let Some(name) = Name::parse(&image) {
                let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
                prop_assert!(name.to_string().bytes().all(|byte| safe(byte) || byte == b'@'));
                prop_assert!(name.repository.split('/').all(|part| !part.is_empty() && part != ".."));
            }
        }
    }
}
