//! What `kubectl relay` needs of a cluster: an API server that lists what a test says, and forwards a
//! port of the one pod there is, as a kubelet does.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use axum::{
    Router,
    body::Bytes,
    extract::{
        FromRequestParts, Request, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::broadcast,
};

/// The port of the pod.
const PORT: u16 = 8443;
/// More requests than any test makes.
const MAX_REQUESTS: usize = 256;

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: String,
}

/// What the cluster holds; a test changes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// Namespaces with a Service that says it is a log service.
    pub(crate) installed: Vec<&'static str>,
    /// Whether its pod is ready.
    pub(crate) ready: bool,
    /// The authority of `ConfigMap` `relay-ca`.
    pub(crate) ca: Option<String>,
    /// What nobody may do: the last part of a path.
    pub(crate) forbidden: Option<&'static str>,
}

/// The API server.
pub(crate) struct Cluster {
    pub(crate) url: String,
    shared: Arc<Shared>,
    asked: Receiver<Asked>,
}

struct Shared {
    contents: Mutex<Contents>,
    /// Where the port of the pod leads to.
    service: String,
    asked: SyncSender<Asked>,
    /// Ends what is forwarded.
    cut: broadcast::Sender<()>,
}

impl Cluster {
    /// With a log service at `service`, in front of which stands the pod.
    pub(crate) fn start(service: &str, contents: Contents) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (sender, asked) = sync_channel(MAX_REQUESTS);
        let shared = Arc::new(Shared {
            contents: Mutex::new(contents),
            service: service.trim_start_matches("https://").to_owned(),
            asked: sender,
            cut: broadcast::channel(1).0,
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { url: format!("http://{address}"), shared, asked }
    }

    pub(crate) fn contents(&self) -> Contents {
        self.shared.contents.lock().unwrap().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.shared.contents.lock().unwrap());
    }

    /// The requests since it was last asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }

    /// Breaks every connection to the pod.
    pub(crate) fn cut(&self) {
        drop(self.shared.cut.send(()));
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let authorization = parts.headers.get(header::AUTHORIZATION);
    let authorization = authorization.map_or("", |value| value.to_str().unwrap()).to_owned();
    shared.asked.send(Asked { path: path.clone(), authorization }).unwrap();
    let contents = shared.contents.lock().unwrap().clone();
    if contents.forbidden.is_some_and(|forbidden| path.ends_with(forbidden)) {
        return status(StatusCode::FORBIDDEN, "Forbidden");
    }
    if path.ends_with("/portforward") {
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.unwrap();
        let upgrade = upgrade.protocols(["v4.channel.k8s.io"]);
        return upgrade.on_upgrade(|socket| async move { forward(socket, &shared).await });
    }
    match object(&path, &contents) {
        Some(object) => {
            ([(header::CONTENT_TYPE, "application/json")], object.to_string()).into_response()
        }
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16(),
    });
    (code, [(header::CONTENT_TYPE, "application/json")], status.to_string()).into_response()
}

fn object(path: &str, contents: &Contents) -> Option<Value> {
    let within = path.strip_prefix("/api/v1/namespaces/").and_then(|rest| rest.split_once('/'));
    let installed = |namespace: &str| contents.installed.contains(&namespace);
    match within {
        None if path == "/api/v1/services" => {
            Some(list("Service", contents.installed.iter().map(|namespace| service(namespace))))
        }
        Some((namespace, "services")) => {
            let there = installed(namespace).then(|| service(namespace));
            Some(list("Service", there.into_iter()))
        }
        Some((namespace, "pods")) => {
            let there = installed(namespace).then(|| pod(namespace, if contents.ready { "True" } else { "False" }));
            Some(list("Pod", there.into_iter()))
        }
        Some((_, "configmaps/relay-ca")) => contents.ca.as_ref().map(|ca| {
            json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "relay-ca" }, "data": { "ca.crt": ca } })
        }),
        _ => None,
    }
}

fn list(kind: &str, items: impl Iterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.collect();
    json!({ "kind": format!("{kind}List"), "apiVersion": "v1", "metadata": {}, "items": items })
}

fn service(namespace: &str) -> Value {
    json!({
        "metadata": { "name": "relay-log-service", "namespace": namespace },
        "spec": {
            "selector": { "app.kubernetes.io/component": "log-service" },
            "ports": [{ "port": 443, "targetPort": "https" }],
        },
    })
}

fn pod(namespace: &str, ready: &str) -> Value {
    json!({
        "metadata": { "name": "relay-log-service-0", "namespace": namespace },
        "spec": { "containers": [{ "name": "main", "ports": [{ "name": "https", "containerPort": PORT }] }] },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] },
    })
}

/// Channel 0 carries the bytes, channel 1 errors; each begins with the number of the port.
async fn forward(mut socket: WebSocket, shared: &Shared) {
    let mut cut = shared.cut.subscribe();
    let port = PORT.to_le_bytes();
    for channel in [0, 1] {
        let begin = Bytes::from(vec![channel, port[0], port[1]]);
        socket.send(Message::Binary(begin)).await.unwrap();
    }
    let Ok(mut stream) = TcpStream::connect(&shared.service).await else {
        let refused = Bytes::from_static(b"\x01connection refused in the pod");
        drop(socket.send(Message::Binary(refused)).await);
        drop(socket.send(Message::Close(None)).await);
        while let Some(Ok(_)) = socket.recv().await {}
        return;
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            _ = cut.recv() => return,
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&0) => {
                    if stream.write_all(&bytes[1..]).await.is_err() { return }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            read = stream.read(&mut buffer) => {
                let Ok(length @ 1..) = read else { return };
                let framed = [&[0], &buffer[..length]].concat();
                if socket.send(Message::Binary(framed.into())).await.is_err() { return }
            }
        }
    }
}
