//! A server that answers as a test says, and writes down what it was asked: what no real registry does on demand.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::Content;

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How.
    pub method: Method,
    /// With its query.
    pub path: String,
    /// By whom, among other things.
    pub headers: HeaderMap,
}

type Answer = dyn Fn(&Asked) -> Response + Send + Sync;

/// A server on loopback. It ends when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<Arc<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

/// Marks an answer that never comes.
#[derive(Clone, Copy, Debug)]
struct Never;

impl Asked {
    /// Who asks, by a password or a token.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()
    }
}

impl Server {
    /// Starts one that answers like this.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub async fn new(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let answer: Arc<Answer> = Arc::new(answer);
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answering, asking) = (Arc::clone(&answer), Arc::clone(&asked));
        let router = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let (method, headers) = (request.method().clone(), request.headers().clone());
            let one = Asked { method, path, headers };
            asking.lock().unwrap_or_else(PoisonError::into_inner).push(one.clone());
            let answer = Arc::clone(&answering.lock().unwrap_or_else(PoisonError::into_inner));
            let response = answer(&one);
            if response.extensions().get::<Never>().is_some() {
                pending::<()>().await;
            }
            response
        });
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("it runs") });
        Self { address, answer, asked, task }
    }

    /// From now on it answers like this.
    pub fn answer(&self, answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answer);
    }

    /// What it was asked since this was called last.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its host and port.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers of a registry that has this content, and these tags.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    contents: HashMap<String, Content>,
    tags: HashMap<String, String>,
}

impl Shelf {
    /// The same with more content.
    #[must_use]
    pub fn with(mut self, content: &Content) -> Self {
        self.contents.insert(content.digest.clone(), content.clone());
        self
    }

    /// The same with content that has a tag.
    #[must_use]
    pub fn tag(mut self, tag: &str, content: &Content) -> Self {
        self.tags.insert(tag.to_owned(), content.digest.clone());
        self.with(content)
    }

    /// One image with this configuration, by these tags.
    #[must_use]
    pub fn of_image(config: &Content, tags: &[&str]) -> Self {
        let image = Content::manifest(config);
        let empty = Self::default().with(config);
        tags.iter().fold(empty, |shelf, tag| shelf.tag(tag, &image))
    }

    /// What it answers.
    #[must_use]
    pub fn answer(&self, asked: &Asked) -> Response {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
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

/// An answer with this status, and nothing else.
///
/// # Panics
///
/// If it is none.
#[must_use]
pub fn status(code: u16) -> Response {
    StatusCode::from_u16(code).expect("a status").into_response()
}

/// An answer that sends whoever asks somewhere else.
#[must_use]
pub fn redirect(to: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
}

/// A refusal that says how to be let in.
#[must_use]
pub fn challenge(text: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, text)]).into_response()
}

/// An answer whose body is one piece again and again, each after a pause.
#[must_use]
pub fn endless(piece: Vec<u8>, pause: Duration) -> Response {
    let pieces = futures_util::stream::unfold(piece, move |piece| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Infallible>(piece.clone()), piece))
    });
    Body::from_stream(pieces).into_response()
}

/// No answer at all, not even its head.
#[must_use]
pub fn never() -> Response {
    let mut response = status(200);
    response.extensions_mut().insert(Never);
    response
}
