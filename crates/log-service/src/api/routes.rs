//! All resources of the service: what answers, and what the document about the interface says of it.
//!
//! Both come from the same table, so that neither can have what the other has not.

mod operations;

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter},
};

use super::{
    App, append, create, end, head, health, list, markers, metrics,
    openapi::{self, Operation},
    read, workflows,
};

/// A resource.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) operations: Vec<(Method, Operation)>,
    serve: MethodRouter<Arc<App>>,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Patch,
    Post,
}

impl Method {
    /// As the document names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Patch => "patch",
            Self::Post => "post",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Head => MethodFilter::HEAD,
            Self::Patch => MethodFilter::PATCH,
            Self::Post => MethodFilter::POST,
        }
    }
}

impl Route {
    fn at(path: &'static str) -> Self {
        Self { path, operations: Vec::new(), serve: MethodRouter::new() }
    }

    fn on<H, T>(mut self, method: Method, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.operations.push((method, operation));
        self.serve = self.serve.on(method.filter(), handler);
        self
    }
}

/// All resources.
pub(super) fn all() -> Vec<Route> {
    [writing(), reading(), workflows(), operating()].into_iter().flatten().collect()
}

/// What serves them.
pub(super) fn router(routes: Vec<Route>) -> Router<Arc<App>> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.serve))
}

fn writing() -> Vec<Route> {
    vec![
        Route::at("/logs").on(Method::Post, create::create, operations::create()),
        Route::at("/logs/{id}/data")
            .on(Method::Post, append::append, operations::append("appendBytes"))
            .on(Method::Patch, append::patch, operations::append("storeBytes"))
            .on(Method::Head, head::head, operations::head()),
        Route::at("/logs/{id}/markers").on(Method::Post, markers::mark, operations::mark()),
        Route::at("/logs/{id}/end").on(Method::Post, end::end, operations::end()),
    ]
}

fn reading() -> Vec<Route> {
    vec![
        Route::at("/api/namespaces/{namespace}/pods").on(
            Method::Get,
            list::pods,
            operations::pods(),
        ),
        Route::at("/api/namespaces/{namespace}/pods/{pod}").on(
            Method::Get,
            list::pod,
            operations::pod(),
        ),
        Route::at("/api/namespaces/{namespace}/pods/{pod}/logs").on(
            Method::Get,
            read::logs,
            operations::pod_logs(),
        ),
    ]
}

fn workflows() -> Vec<Route> {
    vec![
        Route::at("/api/workflows/{workflow}/triggers").on(
            Method::Get,
            workflows::triggers,
            operations::triggers(),
        ),
        Route::at("/api/workflows/{workflow}/triggers/{trigger}").on(
            Method::Get,
            workflows::trigger,
            operations::trigger(),
        ),
        Route::at("/api/workflows/{workflow}/triggers/{trigger}/logs").on(
            Method::Get,
            workflows::trigger_logs,
            operations::trigger_logs(),
        ),
        Route::at("/api/workflows/{workflow}/runs/{run}/steps/{step}").on(
            Method::Get,
            workflows::step,
            operations::step(),
        ),
        Route::at("/api/workflows/{workflow}/runs/{run}/steps/{step}/logs").on(
            Method::Get,
            workflows::step_logs,
            operations::step_logs(),
        ),
    ]
}

/// What is answered on connections beyond the most that are served, too.
pub(super) fn operating() -> Vec<Route> {
    let text = operations::operating;
    vec![
        Route::at("/livez").on(
            Method::Get,
            health::livez,
            text("isLive", "Whether the process answers."),
        ),
        Route::at("/readyz").on(
            Method::Get,
            health::readyz,
            text("isReady", "Whether the store can be read, and unless it is full written."),
        ),
        Route::at("/metrics").on(
            Method::Get,
            metrics::metrics,
            text("getMetrics", "Counters, as Prometheus reads them."),
        ),
        Route::at("/openapi.json").on(Method::Get, openapi::serve, operations::document()),
    ]
}
