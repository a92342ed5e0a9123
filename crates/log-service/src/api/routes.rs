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
use http::Method;

use super::{
    App, append, create, end, head, health, list, markers, metrics,
    openapi::{self, Form, Operation},
    read, workflows,
};

/// A resource.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) operations: Vec<(Method, Operation)>,
    serve: MethodRouter<Arc<App>>,
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
        let filter =
            MethodFilter::try_from(method.clone()).expect("it is a method that routes know");
        self.operations.push((method, operation));
        self.serve = self.serve.on(filter, handler);
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
        Route::at("/logs").on(Method::POST, create::create, operations::create()),
        Route::at("/logs/{id}/data")
            .on(Method::POST, append::append, operations::append("appendBytes"))
            .on(Method::PATCH, append::patch, operations::append("storeBytes"))
            .on(Method::HEAD, head::head, operations::head()),
        Route::at("/logs/{id}/markers").on(Method::POST, markers::mark, operations::mark()),
        Route::at("/logs/{id}/end").on(Method::POST, end::end, operations::end()),
    ]
}

fn reading() -> Vec<Route> {
    vec![
        Route::at("/api/namespaces/{namespace}/pods").on(
            Method::GET,
            list::pods,
            operations::pods(),
        ),
        Route::at("/api/namespaces/{namespace}/pods/{pod}").on(
            Method::GET,
            list::pod,
            operations::pod(),
        ),
        Route::at("/api/namespaces/{namespace}/pods/{pod}/logs").on(
            Method::GET,
            read::logs,
            operations::pod_logs(),
        ),
    ]
}

fn workflows() -> Vec<Route> {
    vec![
        Route::at("/api/workflows/{workflow}/triggers").on(
            Method::GET,
            workflows::triggers,
            operations::triggers(),
        ),
        Route::at("/api/workflows/{workflow}/triggers/{trigger}").on(
            Method::GET,
            workflows::trigger,
            operations::trigger(),
        ),
        Route::at("/api/workflows/{workflow}/triggers/{trigger}/logs").on(
            Method::GET,
            workflows::trigger_logs,
            operations::trigger_logs(),
        ),
        Route::at("/api/workflows/{workflow}/runs/{run}/steps/{step}").on(
            Method::GET,
            workflows::step,
            operations::step(),
        ),
        Route::at("/api/workflows/{workflow}/runs/{run}/steps/{step}/logs").on(
            Method::GET,
            workflows::step_logs,
            operations::step_logs(),
        ),
    ]
}

/// What is answered on connections beyond the most that are served, too.
pub(super) fn operating() -> Vec<Route> {
    let text = || Form::text("text/plain");
    let metrics_text = || Form::text("application/openmetrics-text");
    let (live, ready) = (
        operations::operating("isLive", "Whether the process answers.", text(), &[]),
        operations::operating(
            "isReady",
            "Whether the store can be read, and unless it is full written.",
            text(),
            &[503],
        ),
    );
    let counters = "Counters, as Prometheus reads them.";
    let counters = operations::operating("getMetrics", counters, metrics_text(), &[]);
    vec![
        Route::at("/livez").on(Method::GET, health::livez, live),
        Route::at("/readyz").on(Method::GET, health::readyz, ready),
        Route::at("/metrics").on(Method::GET, metrics::metrics, counters),
        Route::at("/openapi.json").on(Method::GET, openapi::serve, operations::document()),
    ]
}
