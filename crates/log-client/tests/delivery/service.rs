//! A service that fails on request. The real one is tested with the real entrypoint elsewhere.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    rt::{Read as Receive, Write as Send_},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_protocol::{
    range::ByteRange,
    range_set::RangeSet,
    write::{CreateStream, EndStream, MarkRange, StreamCreated, StreamEnded},
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Notify,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

/// What happens to the next request that carries bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is done, and the connection is closed without an answer.
    LoseTheAnswer,
    /// The connection is closed before the body is read.
    CloseEarly,
    /// This status, with `Retry-After` in seconds.
    Answer(u16, Option<u64>),
    /// It is done and answered only when the stream has ended, as a service that holds bytes does.
    HoldUntilTheEnd,
    /// All streams vanish, and this request is not known.
    ForgetEverything,
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) bytes: BTreeMap<u64, Bytes>,
    pub(crate) marks: Vec<MarkRange>,
    pub(crate) end: Option<EndStream>,
}

/// One request for bytes as it came.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) streams: BTreeMap<String, Kept>,
    pub(crate) faults: VecDeque<Fault>,
    /// So many answers to creations are lost from the time on when all streams vanished.
    pub(crate) lost_creations: usize,
    /// The token that is asked for.
    pub(crate) token: Option<String>,
    /// Whether all streams vanished once.
    vanished: bool,
    pub(crate) seen: Vec<Seen>,
    pub(crate) requests: usize,
    pub(crate) refused: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Service {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

type Reply = Result<Response<Full<Bytes>>, io::Error>;

impl Service {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until the state is as wished, at most 30 s.
    pub(crate) async fn until(&self, wish: impl Fn(&State) -> bool) {
        let wished = async {
            loop {
                let changed = self.changed.notified();
                if wish(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wished).await.expect("it comes in time");
    }

    /// Serves plain HTTP and returns the port.
    pub(crate) async fn listen(&self) -> u16 {
        self.listen_at("127.0.0.1:0").await
    }

    pub(crate) async fn listen_at(&self, address: &str) -> u16 {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve(TokioIo::new(stream)));
            }
        });
        port
    }

    pub(crate) fn listen_on_socket(&self, path: &std::path::Path) {
        let listener = UnixListener::bind(path).unwrap();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve(TokioIo::new(stream)));
            }
        });
    }

    /// Serves HTTP over TLS and returns the port.
    pub(crate) async fn listen_tls(&self, acceptor: TlsAcceptor) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve_tls(acceptor.clone(), stream));
            }
        });
        port
    }

    async fn serve_tls(self, acceptor: TlsAcceptor, stream: tokio::net::TcpStream) {
        let Ok(stream) = acceptor.accept(stream).await else {
            self.state().refused += 1;
            return self.changed.notify_waiters();
        };
        let multiplexed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if multiplexed {
            let answer = service_fn(|request| self.answer(request));
            let builder = http2::Builder::new(TokioExecutor::new());
            drop(builder.serve_connection(stream, answer).await);
        } else {
            self.serve(stream).await;
        }
    }

    async fn serve(self, stream: impl Receive + Send_ + Unpin) {
        let answer = service_fn(|request| self.answer(request));
        drop(http1::Builder::new().serve_connection(stream, answer).await);
    }

    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Reply> + Send + 'static {
        let service = self.clone();
        async move {
            let reply = service.handle(request).await;
            service.changed.notify_waiters();
            reply
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Reply {
        self.state().requests += 1;
        let token = self.state().token.as_ref().map(|token| format!("Bearer {token}"));
        let given = request.headers().get("authorization").map(|value| value.as_bytes().to_vec());
        if token.is_some_and(|token| Some(token.into_bytes()) != given) {
            return Ok(status(401, ""));
        }
        let path = request.uri().path().trim_start_matches("/base").to_owned();
        match path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
            ["logs"] => {
                let create: CreateStream = body(request).await?;
                let answer = self.create(&create);
                let mut state = self.state();
                if state.vanished && state.lost_creations > 0 {
                    state.lost_creations -= 1;
                    return Err(io::Error::other("fault"));
                }
                Ok(answer)
            }
            ["logs", id, "data"] => self.data(id, request).await,
            ["logs", id, "markers"] => {
                let mark = body(request).await?;
                Ok(self.change(id, |kept| kept.marks.push(mark)))
            }
            ["logs", id, "end"] => {
                let end: EndStream = body(request).await?;
                let length = end.length;
                let mut answer = self.change(id, |kept| kept.end = Some(end));
                if let Some(kept) = self.state().streams.get(*id) {
                    let ended = StreamEnded { gaps: kept.gaps(length) };
                    *answer.body_mut() = serde_json::to_vec(&ended).unwrap().into();
                }
                Ok(answer)
            }
            _ => panic!("{path}"),
        }
    }

    fn create(&self, create: &CreateStream) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let name = create.name.to_string();
        let created = !state.streams.contains_key(&name);
        state.streams.entry(name.clone()).or_default();
        let answer = StreamCreated {
            id: name,
            name: create.name.clone(),
            instance: create.instance.clone().unwrap(),
            expires: 0,
            created,
        };
        status(200, &serde_json::to_string(&answer).unwrap())
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Kept)) -> Response<Full<Bytes>> {
        match self.state().streams.get_mut(id) {
            Some(kept) => change(kept),
            None => return status(404, ""),
        }
        status(202, "{\"gaps\":[]}")
    }

    async fn data(&self, id: &str, request: Request<Incoming>) -> Reply {
        let fault = {
            let mut state = self.state();
            let (version, headers) = (request.version(), request.headers().clone());
            state.seen.push(Seen { at: Instant::now(), version, headers });
            state.faults.pop_front()
        };
        match fault {
            Some(Fault::CloseEarly) => return Err(io::Error::other("fault")),
            Some(Fault::Answer(code, retry_after)) => {
                // Read first: a connection that closes amid a body may lose the answer.
                request.into_body().collect().await.map_err(io::Error::other)?;
                let mut reply = status(code, "");
                if let Some(seconds) = retry_after {
                    reply.headers_mut().insert("retry-after", seconds.into());
                }
                return Ok(reply);
            }
            Some(Fault::ForgetEverything) => {
                let mut state = self.state();
                state.vanished = true;
                state.streams.clear();
                return Ok(status(404, ""));
            }
            Some(Fault::LoseTheAnswer | Fault::HoldUntilTheEnd) | None => {}
        }
        let range = request.headers()["content-range"].to_str().unwrap();
        let range: ByteRange = range.parse().unwrap();
        let gzip = request.headers().contains_key("content-encoding");
        let mut bytes = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        if gzip {
            let mut plain = Vec::new();
            GzDecoder::new(bytes.as_ref()).read_to_end(&mut plain)?;
            bytes = plain.into();
        }
        assert_eq!(bytes.len() as u64, range.length());
        let reply = self.change(id, |kept| drop(kept.bytes.insert(range.start(), bytes)));
        match fault {
            Some(Fault::LoseTheAnswer) => return Err(io::Error::other("fault")),
            Some(Fault::HoldUntilTheEnd) => {
                self.changed.notify_waiters();
                self.until(|state| state.streams[id].end.is_some()).await;
            }
            _ => {}
        }
        Ok(reply)
    }
}

impl Kept {
    /// All bytes in order, with what no chunk covers left out.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.bytes.values().flatten().copied().collect()
    }

    fn gaps(&self, length: u64) -> Vec<ByteRange> {
        let mut known = self.stored();
        self.marks.iter().for_each(|mark| known.insert(mark.range));
        known.gaps(ByteRange::new(0, length).unwrap()).collect()
    }

    pub(crate) fn stored(&self) -> RangeSet {
        let range = |(start, bytes): (&u64, &Bytes)| ByteRange::from_length(*start, bytes.len());
        self.bytes.iter().filter_map(range).collect()
    }
}

async fn body<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> io::Result<T> {
    let bytes = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

fn status(code: u16, body: &str) -> Response<Full<Bytes>> {
    let reply = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    let (mut parts, body) = reply.into_parts();
    parts.status = code.try_into().unwrap();
    Response::from_parts(parts, body)
}
