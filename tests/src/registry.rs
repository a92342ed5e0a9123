//! Real registries of images, and images in them.

pub mod scripted;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{certificate::Authority, program::tool};

/// How long a server may take to say where it listens, on a machine that does much else.
const START: Duration = Duration::from_mins(1);

/// Whom a registry that wants a password lets in, and their password.
pub const USER: (&str, &str) = ("me", "secret");
/// The same as htpasswd writes it.
pub const PASSWORDS: &str = "me:$2a$04$C380P6aWAEbKWQaf8zxsfeyMQkwEX4PF4jEYzWkKRGCd1i7W9mVFS\n";

/// A registry that keeps images in memory. One that was started here listens on a port of loopback, and is killed when
/// dropped.
#[derive(Debug)]
pub struct Registry {
    child: Option<Child>,
    host: String,
    base: String,
    http: Client,
    user: Option<(&'static str, &'static str)>,
}

/// Content by the name that registries give it.
#[derive(Clone, Debug)]
pub struct Content {
    /// `sha256:` and its digits.
    pub digest: String,
    /// The content.
    pub bytes: Vec<u8>,
    /// What it is.
    pub media_type: &'static str,
}

/// Type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Type of the manifest of an image.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Type of the configuration of an image.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Content {
    /// Gives content its name.
    #[must_use]
    pub fn of(bytes: Vec<u8>, media_type: &'static str) -> Self {
        let digits = Sha256::digest(&bytes)
            .iter()
            .fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
        Self { digest: format!("sha256:{digits}"), bytes, media_type }
    }

    /// The same of JSON.
    #[must_use]
    pub fn json(value: &Value, media_type: &'static str) -> Self {
        Self::of(value.to_string().into_bytes(), media_type)
    }

    /// The manifest of an image with this configuration.
    #[must_use]
    pub fn manifest(config: &Self) -> Self {
        Self::json(
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": []}),
            MANIFEST,
        )
    }

    /// How other content names it.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

impl Registry {
    /// Starts one for everybody, without TLS.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a program")]
    pub fn new() -> Self {
        let mut command = Command::new(tool("registry"));
        command.args(["-port", "0"]);
        let (child, port) = start(&command, "serving on port ");
        let host = format!("localhost:{port}");
        let base = format!("http://{host}/v2");
        Self { child: Some(child), host, base, http: client(None), user: None }
    }

    /// Starts one for [`USER`], with TLS by this authority. Its files are in `folder`.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn guarded(authority: &Authority, folder: &Path) -> Self {
        let issued = authority.issue("127.0.0.1");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("the folder can be written to");
            path.display().to_string()
        };
        let passwords = write("htpasswd", PASSWORDS);
        let certificate = write("registry.pem", &issued.certificate);
        let key = write("registry.key", &issued.key);
        let settings = json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "json"},
            "storage": {"inmemory": {}},
            "auth": {"htpasswd": {"realm": "test", "path": passwords}},
            "http": {"addr": "127.0.0.1:0", "tls": {"certificate": certificate, "key": key}},
        });
        let settings = write("registry.yaml", &settings.to_string());
        let mut command = Command::new(tool("distribution"));
        command.args(["serve", &settings]).env("OTEL_TRACES_EXPORTER", "none");
        let (child, host) = start(&command, "listening on ");
        let host = host.split([',', '"']).next().unwrap_or_default().to_owned();
        let base = format!("https://{host}/v2");
        let http = client(Some(&authority.pem()));
        Self { child: Some(child), host, base, http, user: Some(USER) }
    }

    /// One that runs, for everybody and without TLS; or with TLS by an authority (PEM), for [`USER`].
    #[must_use]
    pub fn at(host: &str, authority: Option<&str>) -> Self {
        let scheme = if authority.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{host}/v2");
        let user = authority.map(|_| USER);
        Self { child: None, host: host.to_owned(), base, http: client(authority), user }
    }

    /// Its host and port, as names of images have them.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Puts a configuration or a layer into a repository.
    ///
    /// # Panics
    ///
    /// If it is not taken.
    pub async fn push_blob(&self, repository: &str, content: &Content) {
        let uploads = format!("{}/{repository}/blobs/uploads/", self.base);
        let begun = self.request(Method::POST, &uploads).send().await;
        let begun = begun.expect("the registry answers");
        assert_eq!(begun.status(), StatusCode::ACCEPTED);
        let place = begun.headers().get("location").and_then(|place| place.to_str().ok());
        let mut place = begun.url().join(place.expect("a place")).expect("an address");
        place.query_pairs_mut().append_pair("digest", &content.digest);
        let put = self.request(Method::PUT, place.as_str()).body(content.bytes.clone());
        assert_eq!(put.send().await.expect("it answers").status(), StatusCode::CREATED);
    }

    /// Puts a manifest or an index into a repository, by a tag or its digest.
    ///
    /// # Panics
    ///
    /// If it is not taken.
    pub async fn push_manifest(&self, repository: &str, at: &str, content: &Content) {
        let place = format!("{}/{repository}/manifests/{at}", self.base);
        let put = self.request(Method::PUT, &place).header("content-type", content.media_type);
        let put = put.body(content.bytes.clone()).send().await;
        assert_eq!(put.expect("the registry answers").status(), StatusCode::CREATED);
    }

    /// Puts an image into a repository, by a tag or by its digest alone.
    pub async fn push_image(
        &self,
        repository: &str,
        tag: Option<&str>,
        config: &Content,
    ) -> Content {
        let manifest = Content::manifest(config);
        self.push_blob(repository, config).await;
        self.push_manifest(repository, tag.unwrap_or(&manifest.digest), &manifest).await;
        manifest
    }

    fn request(&self, method: Method, place: &str) -> RequestBuilder {
        let place: Url = place.parse().expect("an address");
        let request = self.http.request(method, place);
        match self.user {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn client(authority: Option<&str>) -> Client {
    // Two libraries of a test choose a provider by what is installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusted = authority.map(|pem| Certificate::from_pem(pem.as_bytes()).expect("PEM"));
    let client = Client::builder().no_proxy().tls_certs_only(trusted);
    client.build().expect("a client can be built")
}

/// Starts a server that dies with the test, and waits until it says on stderr where it listens.
fn start(server: &Command, before: &'static str) -> (Child, String) {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(server.get_program()).args(server.get_args());
    command.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("setpriv can be run");
    let said = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let (sender, place) = sync_channel(1);
    thread::spawn(move || {
        let mut lines = said.lines().map_while(Result::ok);
        let place = lines.find_map(|line| line.split_once(before).map(|(_, rest)| rest.to_owned()));
        drop(sender.send(place));
        // It goes on to tell of each request, and must not wait for a reader.
        lines.for_each(drop);
    });
    let place = place.recv_timeout(START).expect("it says something within a minute");
    (child, place.expect("it says where it listens"))
}
