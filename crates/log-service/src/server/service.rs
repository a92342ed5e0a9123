//! Answers the requests of one connection, and says when there are none.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;

use super::{
    Client,
    places::{Busy, Place},
    stall::Piece,
};
use crate::auth::ClientCertificate;

/// The service of one connection.
#[derive(Clone)]
pub(super) struct Answers {
    router: TowerToHyperService<Router>,
    place: Arc<Place>,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Answers {
    pub(super) fn new(router: Router, place: Arc<Place>, client: Client) -> Self {
        let Client(certificate) = client;
        Self { router: TowerToHyperService::new(router), place, certificate }
    }
}

/// A body; its request is being answered until it is gone. What was handed out and is not sent yet
/// is counted by the place.
pub(super) struct Answer {
    body: Body,
    busy: Busy,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(Arc::clone(certificate));
        }
        let busy = self.place.begin();
        let answering = self.router.call(request);
        Box::pin(async move {
            let response = answering.await?;
            Ok(response.map(|body| Answer { body, busy }))
        })
    }
}

impl HttpBody for Answer {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let Self { body, busy } = &mut *self;
        let frame = ready!(Pin::new(body).poll_frame(context));
        let piece = |bytes| Piece::new(bytes, busy.unsent());
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
