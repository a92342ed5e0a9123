//! The HTTP interface.

pub mod error;
pub mod list;
pub mod read;

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::{auth::Authorizer, hub::Hub};

/// What every handler may use; the state of the router is `Arc<App>`.
#[derive(Debug)]
pub struct App {
    /// The streams.
    pub hub: Arc<Hub>,
    /// Who may do what.
    pub auth: Arc<dyn Authorizer>,
    /// Cancelled when the service stops: followers then end their answers.
    pub stopping: CancellationToken,
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new().merge(list::router()).merge(read::router()).with_state(app)
}
