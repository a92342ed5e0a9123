//! The one table from errors to HTTP statuses.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use relay_protocol::{
    header::PROBLEM,
    name::{NameError, Namespace, WorkflowName},
    problem::Problem,
};

use crate::{
    auth::AuthError,
    hub::SegmentError,
    store::{Failure, StoreError},
};

/// An answer that is not a success. Becomes `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 400: the request cannot be understood. Says what is wrong and what to send instead.
    #[error("{0}")]
    BadRequest(String),
    /// 401: an access token is needed.
    #[error("send an access token as \"Authorization: Bearer …\"")]
    Unauthorized,
    /// 403: the caller is known, and cannot do this as who it is. Says what would help.
    #[error("{0}")]
    Forbidden(String),
    /// 404: one constant answer, so that it says nothing about what exists.
    #[error("there is nothing here, or it is not yours to see")]
    NotFound,
    /// 405: the resource is there, the method is not.
    #[error("this resource does not have this method")]
    MethodNotAllowed,
    /// 406: none of the media types that the caller takes.
    #[error("{0}")]
    NotAcceptable(String),
    /// 408: the body came too slowly.
    #[error("the body did not arrive in time")]
    Timeout,
    /// 409: in contradiction to what is stored.
    #[error("{0}")]
    Conflict(String),
    /// 409: the name of a workflow is in several namespaces, of which the caller may read these.
    #[error(
        "there is a workflow {0} in several namespaces: add namespace= with one of {names}",
        names = listed(.1)
    )]
    Ambiguous(WorkflowName, Vec<Namespace>),
    /// 413: more bytes than one request may carry.
    #[error("{0}")]
    TooLarge(String),
    /// 415: a media type or an encoding that is not understood.
    #[error("{0}")]
    UnsupportedMedia(String),
    /// 416: a range that cannot be.
    #[error("{0}")]
    RangeNotSatisfiable(String),
    /// 422: well-formed, and its content is wrong.
    #[error("{0}")]
    Unprocessable(String),
    /// 429: too much at once.
    #[error("too much at once: try again")]
    TooManyRequests(RetryAfter),
    /// 503: the store did not answer, or the service is stopping.
    #[error("the log cannot be reached: try again")]
    Unavailable(RetryAfter),
    /// 503: nobody can be asked for the caller's rights.
    #[error(
        "who you are cannot be checked, as the API server of the cluster does not answer: try again"
    )]
    Unchecked(RetryAfter),
    /// 503: all connections are used.
    #[error("too many connections are open: try again")]
    Crowded(RetryAfter),
    /// 507: no space is left.
    #[error("the store is full; reading still works")]
    Full(RetryAfter),
    /// 500: what is stored is not what was written, or cannot be understood.
    #[error("{0}")]
    Internal(String),
}

/// When to try again, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub u32);

impl RetryAfter {
    /// For what passes as soon as held bytes are stored.
    pub const SOON: Self = Self(1);
    /// For what needs someone to act, or a store to come back.
    pub const LATER: Self = Self(5);

    /// At least `delay`.
    #[must_use]
    pub fn at_least(delay: Duration) -> Self {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        Self(u32::try_from(seconds).unwrap_or(u32::MAX).max(1))
    }
}

impl ApiError {
    /// Status, stable name and title of each kind.
    fn row(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request", "Malformed request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Token required"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not as this caller"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Self::NotAcceptable(_) => {
                (StatusCode::NOT_ACCEPTABLE, "not-acceptable", "No such representation")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "Request timed out"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::Ambiguous(..) => (StatusCode::CONFLICT, "ambiguous", "Several namespaces"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Self::UnsupportedMedia(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media", "Unsupported media")
            }
            Self::RangeNotSatisfiable(_) => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "range", "Impossible range")
            }
            Self::Unprocessable(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "Wrong content")
            }
            Self::TooManyRequests(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Unavailable"),
            Self::Unchecked(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unchecked", "Rights cannot be checked")
            }
            Self::Crowded(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "crowded", "Too many connections")
            }
            Self::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full", "Store is full"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    fn candidates(&self) -> Vec<Namespace> {
        match self {
            Self::Ambiguous(_, namespaces) => namespaces.clone(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<RetryAfter> {
        match self {
            Self::TooManyRequests(after)
            | Self::Unavailable(after)
            | Self::Unchecked(after)
            | Self::Crowded(after)
            | Self::Full(after) => Some(*after),
            _ => None,
        }
    }
}

fn listed(namespaces: &[Namespace]) -> String {
    namespaces.iter().map(Namespace::as_str).collect::<Vec<_>>().join(", ")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.row();
        let problem = Problem {
            kind: format!("/problems/{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: Some(self.to_string()),
            candidates: self.candidates(),
        };
        let body = serde_json::to_vec(&problem).expect("a problem is made of text and a number");
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
        if let Some(RetryAfter(seconds)) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self == Self::Unauthorized {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// Whether an answer is an [`ApiError`].
pub(super) fn is_problem(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM)
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => Self::Unauthorized,
            AuthError::Denied => Self::NotFound,
            AuthError::NoPod => Self::Forbidden(error.to_string()),
            AuthError::Unchecked => Self::Unchecked(RetryAfter::LATER),
        }
    }
}

/// Logged here, once, with its causes: the caller learns only the kind.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let kind = error.kind();
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        match kind {
            Failure::Full => Self::Full(RetryAfter::LATER),
            Failure::Denied | Failure::Unavailable => Self::Unavailable(RetryAfter::LATER),
        }
    }
}

impl From<SegmentError> for ApiError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Store { source, .. } => source.into(),
            SegmentError::Corrupt { start, .. } => {
                Self::Internal(format!("the bytes stored at {start} fail their checksum"))
            }
        }
    }
}
