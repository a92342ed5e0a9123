use super::{BadFile, File, Mode, Name, Registries, Whose};
use crate::image::name::At;

fn read(text: &str) -> Result<Registries, BadFile> {
    drop(rustls::crypto::ring::default_provider().install_default());
    Registries::new(File::read(text)?)
}

fn words(registries: &Registries, image: &str) -> Option<Vec<String>> {
    registries.image(&Name::parse(image).unwrap())?.entrypoint.clone()
}

/// The example of the module's documentation.
fn example() -> String {
    let source = include_str!("../registries.rs");
    let lines = source.lines().skip_while(|line| !line.contains("```yaml")).skip(1);
    let lines = lines.take_while(|line| !line.contains("```"));
    let lines: Vec<_> = lines.map(|line| line.trim_start_matches("//!")).collect();
    lines.join("\n").replace("\n ", "\n")
}

#[test]
fn the_documented_example_says_what_its_comments_say() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("authorities.pem");
    let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    std::fs::write(&pem, made.cert.pem()).unwrap();
    let text = example().replace("/etc/relay/images/authorities.pem", pem.to_str().unwrap());
    let registries = read(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(registries.mode, Mode::Ask);
    for alias in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
        let endpoints = registries.endpoints(alias);
        let [mirror] = endpoints.as_slice() else { panic!("{endpoints:?}") };
        assert_eq!(mirror.credentials, Whose::Registry);
        let url = mirror.url("library/nginx", "manifests", "1");
        assert_eq!(url.as_str(), "https://mirror.example.com/v2/hub/library/nginx/manifests/1");
    }
    let plain = registries.endpoints("Registry.example.com:5000");
    assert_eq!(plain[0].base.as_str(), "http://registry.example.com:5000/");
    assert_eq!(plain[0].credentials, Whose::Endpoint);
    let local = registries.endpoints("localhost:5000");
    assert!(local[0].trusts(&"http://127.0.0.1:5001/token".parse().unwrap()));
    assert!(!local[0].trusts(&"http://127.0.0.1:5002/token".parse().unwrap()));
    assert_eq!(words(&registries, "dev.local/relay-cli:1"), Some(vec!["/app".to_owned()]));
}

#[test]
fn a_registry_that_is_not_named_is_asked_itself_by_https() {
    for text in ["", "\n", "{}", "registries: []"] {
        let registries = read(text).unwrap();
        for (registry, base) in [
            ("docker.io", "https://registry-1.docker.io/"),
            ("index.docker.io", "https://registry-1.docker.io/"),
            ("ghcr.io", "https://ghcr.io/"),
            ("registry:5000", "https://registry:5000/"),
        ] {
            let endpoints = registries.endpoints(registry);
            assert_eq!(endpoints[0].base.as_str(), base);
            assert!(endpoints[0].client.is_none() && endpoints.len() == 1);
        }
        assert!(registries.endpoints("registry:99999").is_empty());
    }
}

#[test]
fn images_are_known_by_repository_tag_digest_and_beginning() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let registries = read(&format!(
        "images:
- {{name: dev.local/app:2, entrypoint: [two]}}
- {{name: 'dev.local/app@{digest}', entrypoint: [digest]}}
- {{name: dev.local/app, entrypoint: [app]}}
- {{name: 'dev.local/tools-*', entrypoint: [tools]}}
- {{name: 'dev.local/*', entrypoint: [any]}}
- {{name: nginx, entrypoint: [nginx]}}
- {{name: 'localhost:5000/*', entrypoint: [local]}}
"
    ))
    .unwrap();
    for (image, expected) in [
        ("dev.local/app:2", Some("two")),
        ("dev.local/app:3", Some("app")),
        ("dev.local/app", Some("app")),
        (&format!("dev.local/app:2@{digest}"), Some("digest")),
        ("dev.local/apps", Some("any")),
        ("dev.local/tools-a/b", Some("tools")),
        ("dev.local/deep/tools-a", Some("any")),
        ("nginx:1.2", Some("nginx")),
        ("index.docker.io/library/nginx", Some("nginx")),
        ("acme/nginx", None),
        ("localhost:5000/a/b", Some("local")),
        ("localhost:5001/a", None),
        ("dev.local.example.com/app", None),
    ] {
        let expected = expected.map(|word| vec![word.to_owned()]);
        assert_eq!(words(&registries, image), expected, "{image}");
    }
    assert!(matches!(Name::parse("nginx").unwrap().at, At::Tag(_)));
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let empty = format!("authorities: {}", empty.display());
    let endpoint =
        |endpoint: &str| format!("registries: [{{host: a.io, endpoints: [{{{endpoint}}}]}}]");
    for (text, place) in [
        (empty, "authorities: "),
        ("authorities: /nowhere".to_owned(), "authorities: failed to read /nowhere"),
        ("registries: [{host: a.io, endpoints: []}]".to_owned(), "registries[0].endpoints: nobody is left"),
        ("registries: [{host: 'https://a.io', endpoints: [{url: 'https://b.io'}]}]".to_owned(), "registries[0].host: "),
        ("registries: [{host: a.io/x, endpoints: [{url: 'https://b.io'}]}]".to_owned(), "registries[0].host: "),
        ("registries: [{host: nginx, endpoints: [{url: 'https://b.io'}]}]".to_owned(), "registries[0].host: "),
        (
            "registries: [{host: docker.io, endpoints: [{url: 'https://b.io'}]}, {host: index.docker.io, endpoints: [{url: 'https://b.io'}]}]".to_owned(),
            "registries[1].host: docker.io is there twice",
        ),
        (endpoint("url: b.io"), "registries[0].endpoints[0].url: "),
        (endpoint("url: 'ftp://b.io'"), "registries[0].endpoints[0].url: only http"),
        (endpoint("url: 'https://me:x@b.io'"), "registries[0].endpoints[0].url: only a host"),
        (endpoint("url: 'https://b.io?x=1'"), "registries[0].endpoints[0].url: only a host"),
        (endpoint("url: 'http://127.0.0.1:5000'"), "set local: true"),
        (endpoint("url: 'http://[fe80::1]:5000'"), "set local: true"),
        (endpoint("url: 'https://b.io', tokenServers: ['https://169.254.169.254']"), "registries[0].endpoints[0].tokenServers[0]: "),
        (endpoint("url: 'https://b.io', authorities: /nowhere"), "registries[0].endpoints[0].authorities: "),
        ("images: [{name: nginx}]".to_owned(), "images[0]: it has neither"),
        ("images: [{name: 'NGINX', cmd: [x]}]".to_owned(), "images[0].name: "),
        ("images: [{name: 'a*b', cmd: [x]}]".to_owned(), "images[0].name: "),
        ("registry: []".to_owned(), "not the configuration of images"),
        ("lookup: Sometimes".to_owned(), "not the configuration of images"),
        ("[".to_owned(), "not the configuration of images"),
    ] {
        let error = read(&text).map(drop).unwrap_err().to_string();
        assert!(error.contains(place), "{error}: {text}");
    }
}
