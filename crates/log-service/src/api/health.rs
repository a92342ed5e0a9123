//! `GET /livez` and `GET /readyz`: for whoever runs the service.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use tokio::{sync::Mutex, time::Instant};

use super::{
    App,
    error::{ApiError, RetryAfter},
};
use crate::store::Failure;

/// How long an answer about the store holds: a probe writes and syncs.
const HOLDS: Duration = Duration::from_secs(5);

/// What was last found out about the store.
#[derive(Debug, Default)]
pub struct Readiness {
    last: Mutex<Option<(Instant, Health)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Ready,
    Full,
    Unreachable,
}

/// The process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// The store can be read, and unless it is full written.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::Unavailable(RetryAfter::LATER));
    }
    match app.readiness.health(&app).await {
        Health::Ready => Ok("ok\n"),
        // Reading goes on, so readers must still be sent here.
        Health::Full => Ok("ok: the store is full, reading only\n"),
        Health::Unreachable => Err(ApiError::Unavailable(RetryAfter::LATER)),
    }
}

impl Readiness {
    async fn health(&self, app: &App) -> Health {
        let mut last = self.last.lock().await;
        if let Some((at, health)) = *last
            && at.elapsed() < HOLDS
        {
            return health;
        }
        let health = match app.hub.store().probe().await {
            Ok(()) => Health::Ready,
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::warn!(error = cause, "the store is not ready");
                if error.kind() == Failure::Full { Health::Full } else { Health::Unreachable }
            }
        };
        *last = Some((Instant::now(), health));
        health
    }
}
