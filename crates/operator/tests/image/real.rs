//! Images in a real registry.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use relay_operator::image::{Found, Platforms};
use relay_tests::{certificate::Authority, program::tool, registry::Registry};
use reqwest::{Certificate, Client, IntoUrl, Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::lab::{Asker, Content, Lab, REGISTRY, config, platform, runs};

/// Puts content into a registry.
struct Pusher {
    http: Client,
    base: String,
    /// Whether it shows the password.
    password: Option<&'static str>,
}

impl Pusher {
    fn to(registry: &Registry) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder().no_proxy().build().unwrap();
        Self { http, base: format!("http://{}/v2", registry.host()), password: None }
    }

    fn with_password(registry: &Guarded, authority: &Authority) -> Self {
        let authority = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        let http = Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
        Self { http, base: format!("https://{}/v2", registry.host), password: Some("secret") }
    }

    fn request(&self, method: Method, place: impl IntoUrl) -> RequestBuilder {
        let request = self.http.request(method, place);
        match self.password {
            Some(password) => request.basic_auth("me", Some(password)),
            None => request,
        }
    }

    async fn blob(&self, repository: &str, content: &Content) {
        let uploads = format!("{}/{repository}/blobs/uploads/", self.base);
        let begun = self.request(Method::POST, uploads).send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::ACCEPTED);
        let place = begun.headers()["location"].to_str().unwrap();
        let mut place = begun.url().join(place).unwrap();
        place.query_pairs_mut().append_pair("digest", &content.digest);
        let put = self.request(Method::PUT, place).body(content.bytes.clone());
        let put = put.send().await.unwrap();
        assert_eq!(put.status(), StatusCode::CREATED);
    }

    async fn manifest(&self, repository: &str, at: &str, content: &Content) {
        let place = format!("{}/{repository}/manifests/{at}", self.base);
        let put = self.request(Method::PUT, place);
        let put = put.header("content-type", content.media_type).body(content.bytes.clone());
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    }

    /// An image for one platform.
    async fn image(&self, repository: &str, at: Option<&str>, config: &Content) -> Content {
        let manifest = Content::manifest(config);
        self.blob(repository, config).await;
        self.manifest(repository, at.unwrap_or(&manifest.digest), &manifest).await;
        manifest
    }
}

/// An index as builders make them: images, what proves how they were made, and one for another system.
async fn pushed_index(pusher: &Pusher, repository: &str, words: [&str; 2]) -> Content {
    let [amd64, arm64] = words;
    let amd64 = pusher.image(repository, None, &Content::config(amd64, "amd64")).await;
    let arm64 = pusher.image(repository, None, &Content::config(arm64, "arm64")).await;
    let proof = pusher.image(repository, None, &Content::config("proof", "unknown")).await;
    let index = Content::index(&[
        ("unknown/unknown", &proof),
        ("windows/amd64", &proof),
        ("linux/arm64/v8", &arm64),
        ("linux/amd64", &amd64),
    ]);
    pusher.manifest(repository, "multi", &index).await;
    index
}

#[tokio::test]
async fn images_are_found_by_tag_and_digest_for_the_platforms_of_the_pod() {
    let registry = Registry::new();
    let pusher = Pusher::to(&registry);
    let lab = Lab::asking(&[registry.host()]);
    let one = pusher.image("acme/one", Some("1"), &Content::config("one", "amd64")).await;
    for image in ["acme/one:1".to_owned(), format!("acme/one@{}", one.digest)] {
        assert_eq!(lab.find(&format!("{REGISTRY}/{image}")).await, Ok(runs("one")), "{image}");
    }
    let index = pushed_index(&pusher, "acme/multi", ["a", "b"]).await;
    let both = BTreeMap::from([
        (platform("linux/amd64"), config("a")),
        (platform("linux/arm64"), config("b")),
    ]);
    let both = Found::PerPlatform(both);
    for image in ["acme/multi:multi".to_owned(), format!("acme/multi:x@{}", index.digest)] {
        let image = format!("{REGISTRY}/{image}");
        let find = async |platforms: &[&str]| lab.find_as(&Asker::on(platforms), &image).await;
        assert_eq!(find(&["linux/amd64"]).await, Ok(runs("a")));
        assert_eq!(find(&["linux/arm64/v8"]).await, Ok(runs("b")));
        assert_eq!(find(&["linux/arm64", "linux/amd64"]).await, Ok(both.clone()));
        let anywhere = Asker { platforms: Platforms::Any, ..Asker::anybody() };
        assert_eq!(lab.find_as(&anywhere, &image).await, Ok(both.clone()));
        let clause = find(&["linux/s390x"]).await.unwrap_err();
        assert!(clause.starts_with("its image is not made for linux/s390x; build it"), "{clause}");
    }
    pushed_index(&pusher, "acme/same", ["a", "a"]).await;
    let everywhere = Asker::on(&["linux/amd64", "linux/arm64"]);
    let same = format!("{REGISTRY}/acme/same:multi");
    assert_eq!(lab.find_as(&everywhere, &same).await, Ok(runs("a")));
    let clause = lab.find(&format!("{REGISTRY}/acme/none")).await.unwrap_err();
    assert!(
        clause.starts_with(&format!("{} does not have its image; push it", registry.host())),
        "{clause}"
    );
}

#[tokio::test]
async fn a_registry_with_passwords_and_its_own_authority_is_asked_by_https() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("registries");
    let registry = Guarded::new(&authority, folder.path());
    let pem = folder.path().join("authority.pem");
    std::fs::write(&pem, authority.pem()).unwrap();
    let yaml = |authorities: &str| {
        format!(
            "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'https://{}', local: true, credentials: Registry{authorities}}}]}}]",
            registry.host
        )
    };
    let trusting = Lab::with(&yaml(&format!(", authorities: '{}'", pem.display())));
    let pusher = Pusher::with_password(&registry, &authority);
    pusher.image("acme/app", Some("1"), &Content::config("a", "amd64")).await;
    let image = format!("{REGISTRY}/acme/app:1");
    let asker = Asker::named(&["nobody", "me"]);
    assert_eq!(trusting.find_as(&asker, &image).await, Ok(runs("a")));
    let clause = trusting.find(&image).await.unwrap_err();
    assert!(clause.contains("refuses its image, anonymously;"), "{clause}");
    let clause = Lab::with(&yaml("")).find_as(&asker, &image).await.unwrap_err();
    assert!(clause.contains("cannot be reached") && clause.contains("certificate"), "{clause}");
}

/// A registry that wants a password and speaks TLS. It is killed when dropped.
struct Guarded {
    child: Child,
    host: String,
}

/// `me:secret` as htpasswd writes it.
const PASSWORDS: &str = "me:$2a$04$C380P6aWAEbKWQaf8zxsfeyMQkwEX4PF4jEYzWkKRGCd1i7W9mVFS\n";

impl Guarded {
    fn new(authority: &Authority, folder: &Path) -> Self {
        let issued = authority.issue("127.0.0.1");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let passwords = write("htpasswd", PASSWORDS);
        let certificate = write("cert.pem", &issued.certificate);
        let key = write("key.pem", &issued.key);
        let settings = json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "json"},
            "storage": {"inmemory": {}},
            "auth": {"htpasswd": {"realm": "test", "path": passwords}},
            "http": {"addr": "127.0.0.1:0", "tls": {"certificate": certificate, "key": key}},
        });
        let settings = write("config.yaml", &settings.to_string());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(tool("distribution"));
        command.args(["serve", &settings]).env("OTEL_TRACES_EXPORTER", "none");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut lines = said.lines().map_while(Result::ok);
        let host = lines.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split([',', '"']).next()?.to_owned())
        });
        // It goes on to tell of each request, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, host: host.unwrap() }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
