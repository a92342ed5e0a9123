//! A server that answers as a test says, and writes down what it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use relay_tests::registry::Content;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::lab::config_of;

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

type Answer = dyn Fn(&Asked) -> Response + Send + Sync;

/// A server on loopback. It ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Arc<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Asked {
    /// Who asks, by a password or a token.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap())
    }
}

impl Server {
    pub(crate) async fn new(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Answer> = Arc::new(answer);
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answering, asking) = (Arc::clone(&answer), Arc::clone(&asked));
        let router = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path_and_query().unwrap().to_string();
            let (method, headers) = (request.method().clone(), request.headers().clone());
            let one = Asked { method, path, headers };
            asking.lock().unwrap_or_else(PoisonError::into_inner).push(one.clone());
            let answer = Arc::clone(&answering.lock().unwrap_or_else(PoisonError::into_inner));
            answer(&one)
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, answer, asked, task }
    }

    /// From now on it answers like this.
    pub(crate) fn answer(&self, answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    /// What it was asked since this was called last.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Its host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers of a registry that has this content, and these tags.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    contents: HashMap<String, Content>,
    tags: HashMap<String, String>,
}

impl Shelf {
    pub(crate) fn with(mut self, content: &Content) -> Self {
        self.contents.insert(content.digest.clone(), content.clone());
        self
    }

    pub(crate) fn tag(mut self, tag: &str, content: &Content) -> Self {
        self.tags.insert(tag.to_owned(), content.digest.clone());
        self.with(content)
    }

    /// One image with this entrypoint, as the tag `1`.
    pub(crate) fn of_one(word: &str) -> Self {
        let config = config_of(word, "amd64");
        Self::default().with(&config).tag("1", &Content::manifest(&config))
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Response {
        let last = asked.path.rsplit('/').next().unwrap();
        let digest = self.tags.get(last).map_or(last, String::as_str);
        let Some(content) = self.contents.get(digest) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let headers = [
            (header::CONTENT_TYPE.as_str(), content.media_type),
            ("docker-content-digest", &content.digest),
        ];
        (headers, content.bytes.clone()).into_response()
    }
}

pub(crate) fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

/// An answer that sends whoever asks somewhere else.
pub(crate) fn redirect(to: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
}

/// A refusal that says how to be let in.
pub(crate) fn challenge(text: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, text)]).into_response()
}

/// An answer whose body is one piece again and again, each after a pause.
pub(crate) fn endless(piece: Vec<u8>, pause: std::time::Duration) -> Response {
    let pieces = futures_util::stream::unfold(piece, move |piece| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::convert::Infallible>(piece.clone()), piece))
    });
    Body::from_stream(pieces).into_response()
}
