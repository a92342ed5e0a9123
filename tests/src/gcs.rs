//! A bucket of Google Cloud Storage on this machine: `fake-gcs-server` behind a translator.
//!
//! The log service speaks the XML interface of Google, and the emulator knows only the JSON one
//! fully: there it checks preconditions, and lists page by page. So this process translates.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::{program::tool, wait::eventually};

/// Keys of one page of a list: Google's own is 1,000, and paging shall not be rare.
const PAGE_KEYS: usize = 300;
/// Longest object: a segment is at most 1 MiB, and a test may store larger ones.
const MAX_OBJECT_BYTES: usize = 64 << 20;
/// What the emulator says nothing about and a client asks for.
const ETAG: HeaderValue = HeaderValue::from_static("\"1\"");

/// Where the translator of this process is: it and the emulator live as long as the process.
static ADDRESS: OnceLock<String> = OnceLock::new();
static BUCKETS: AtomicU64 = AtomicU64::new(0);

/// Of each list that was asked for, the key after which it begins.
static LISTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A bucket that nobody else uses.
#[derive(Debug)]
pub struct Bucket {
    name: String,
}

impl Bucket {
    /// An empty bucket.
    ///
    /// # Panics
    ///
    /// If the emulator cannot be started: `scripts/install test` installs it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a program")]
    pub fn new() -> Self {
        let number = BUCKETS.fetch_add(1, Ordering::Relaxed);
        let bucket = Self { name: format!("relay-{number}") };
        let created = bucket.request("POST", "").expect("the emulator answers");
        assert_eq!(created, 200, "a bucket is created");
        bucket
    }

    /// Its address as the flag `--store` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("gs://{}/logs", self.name)
    }

    /// Environment in which a program finds the emulator in place of Google.
    #[must_use]
    pub fn environment() -> [(&'static str, String); 2] {
        let account = json!({
            "gcs_base_url": address(), "disable_oauth": true,
            "client_email": "", "private_key": "", "private_key_id": "",
        });
        [
            ("GOOGLE_SERVICE_ACCOUNT_KEY", account.to_string()),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// A request about the bucket itself, which only the translator understands.
    fn request(&self, method: &str, path: &str) -> reqwest::Result<u16> {
        let method = method.parse().expect("a method's name");
        // The second test of a process finds it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::blocking::Client::new();
        let request = client.request(method, format!("{}/{}{path}", address(), self.name));
        Ok(request.send()?.status().as_u16())
    }
}

/// The keys after which lists began that this process asked for, of any bucket.
///
/// # Panics
///
/// Never: no code panics while they are noted.
#[must_use]
pub fn lists() -> Vec<String> {
    LISTS.lock().expect("no code panics while it is locked").clone()
}

fn address() -> &'static str {
    ADDRESS.get_or_init(|| {
        let (sender, receiver) = sync_channel(1);
        // The emulator dies with the thread that started it: so this one lives on.
        thread::spawn(move || run(&sender));
        receiver.recv().expect("the emulator starts")
    })
}

fn run(ready: &SyncSender<String>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let (_emulator, port) = start_emulator();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served: std::io::Result<()> = runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        ready.send(format!("http://{}", listener.local_addr()?)).expect("somebody waits");
        let translator =
            Translator { client: Client::new(), base: format!("http://127.0.0.1:{port}") };
        axum::serve(listener, axum::Router::new().fallback(answer).with_state(translator)).await
    });
    served.expect("loopback can be served");
}

/// Starts the emulator on a free port, and waits until it listens.
fn start_emulator() -> (Child, u16) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it has an address").port();
        drop(listener);
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(tool("fake-gcs-server"))
            .args(["-scheme", "http", "-host", "127.0.0.1", "-backend", "memory"])
            .args(["-log-level", "error", "-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program setpriv is installed");
        let mut ended = false;
        eventually(Duration::from_secs(30), "fake-gcs-server listens", || {
            ended = child.try_wait().expect("it is a child of this process").is_some();
            ended || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        // It ends at once if somebody took the port meanwhile.
        if !ended {
            return (child, port);
        }
    }
}

/// Turns requests of the XML interface into those of the JSON one.
#[derive(Clone)]
struct Translator {
    client: Client,
    base: String,
}

async fn answer(State(translator): State<Translator>, request: Request) -> Response {
    let answered = translator.translate(request).await;
    answered.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

impl Translator {
    async fn translate(&self, request: Request) -> anyhow::Result<Response> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_OBJECT_BYTES).await?;
        let path = head.uri.path().trim_start_matches('/');
        // Keys come encoded, and go on as they are.
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let objects = format!("storage/v1/b/{bucket}/o");
        let request = match (&head.method, key) {
            (&Method::POST, "") => {
                let url = format!("{}/storage/v1/b?project=relay", self.base);
                self.client.post(url).body(json!({ "name": bucket }).to_string())
            }
            (&Method::GET, "") => return self.list(&objects, &head.uri).await,
            (&Method::PUT, key) => {
                let only = head.headers.get("x-goog-if-generation-match");
                let only = only.map_or("", |_| "&ifGenerationMatch=0");
                let query = format!("uploadType=media&name={key}{only}");
                self.client.post(format!("{}/upload/{objects}?{query}", self.base)).body(body)
            }
            (method, key) => {
                let url = format!("{}/{objects}/{key}?alt=media", self.base);
                self.client.request(method.clone(), url).headers(kept(&head.headers, &["range"]))
            }
        };
        let answer = request.send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers = kept(&headers, &["content-range", "last-modified", "content-type"]);
        headers.insert("etag", ETAG);
        headers.insert("x-goog-generation", HeaderValue::from_static("1"));
        Ok((status, headers, Body::from(answer.bytes().await?)).into_response())
    }

    async fn list(&self, objects: &str, uri: &Uri) -> anyhow::Result<Response> {
        let asked = Url::parse(&format!("http://x{uri}"))?;
        let parameter = |name: &str| {
            asked.query_pairs().find(|pair| pair.0 == name).map(|pair| pair.1.into_owned())
        };
        let after = parameter("start-after").unwrap_or_default();
        LISTS.lock().expect("no code panics while it is locked").push(after.clone());
        let mut url = Url::parse(&format!("{}/{objects}", self.base))?;
        url.query_pairs_mut()
            .append_pair("maxResults", &PAGE_KEYS.to_string())
            .append_pair("startOffset", &after);
        for (theirs, ours) in
            [("prefix", "prefix"), ("delimiter", "delimiter"), ("continuation-token", "pageToken")]
        {
            if let Some(value) = parameter(theirs) {
                url.query_pairs_mut().append_pair(ours, &value);
            }
        }
        let answer = self.client.get(url).send().await?;
        let status = answer.status();
        let found: Value = serde_json::from_slice(&answer.bytes().await?)?;
        Ok((status, xml(&found, &after)).into_response())
    }
}

/// A page of a list. `after` itself is not in it: JSON says where to begin, XML behind what.
fn xml(found: &Value, after: &str) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let objects = list(&found["items"]).into_iter().filter(|object| object["name"] != after);
    let objects = objects.map(|object| {
        let text = |name: &str| escape(object[name].as_str().unwrap_or_default());
        let (key, size, updated) = (text("name"), text("size"), text("updated"));
        let about = format!("<Size>{size}</Size><LastModified>{updated}</LastModified>");
        format!("<Contents><Key>{key}</Key>{about}</Contents>")
    });
    let folders = list(&found["prefixes"]).into_iter().map(|prefix| {
        let prefix = escape(prefix.as_str().unwrap_or_default());
        format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>")
    });
    let next = found["nextPageToken"].as_str().filter(|token| !token.is_empty());
    let next = next
        .map(|token| format!("<NextContinuationToken>{}</NextContinuationToken>", escape(token)));
    let all: String = objects.chain(folders).chain(next).collect();
    format!("<ListBucketResult>{all}</ListBucketResult>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn kept(headers: &HeaderMap, names: &[&'static str]) -> HeaderMap {
    let value = |name: &&'static str| Some((name.parse().ok()?, headers.get(*name)?.clone()));
    names.iter().filter_map(value).collect()
}
