//! From a request to its answer.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::{
    sync::mpsc,
    time::{Instant, error::Elapsed, timeout_at},
};

use super::{
    Tenants, Wish,
    event::Told,
    limits::Room,
    metrics::{Became, Metrics},
    review::{Answer, Request, Review, Subject},
};
use crate::{
    image::{BUDGET, Lookup},
    injection::{
        Facts, Outcome, Patch, Settings, inject, inject_ephemeral, wanted, wanted_ephemeral,
    },
};

/// What the webhook needs to answer.
#[derive(Clone)]
pub(super) struct Reviewer {
    /// Who wants what.
    pub(super) tenants: Arc<Tenants>,
    /// What holds for the pods of all tenants.
    pub(super) settings: Arc<Settings>,
    /// What images run.
    pub(super) lookup: Arc<Lookup>,
    /// Counters.
    pub(super) metrics: Metrics,
    /// What people are told about pods.
    pub(super) events: mpsc::Sender<Told>,
}

/// Why there is no answer. The API server then does what the configuration says: where injection is
/// required the pod is denied, otherwise it passes.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the request cannot be read")]
    Bad(#[source] super::review::BadReview),
    #[error("the tenant of the namespace is not known, and the API server does not say")]
    Tenant(#[source] kube::Error),
    #[error("the tenant of the namespace is not known, and the API server does not say it in time")]
    Late(#[source] Elapsed),
}

impl Reviewer {
    /// The answer to a review whose request began then. What the answer takes counts as part of `room`.
    pub(super) async fn review(&self, body: Bytes, begun: Instant, room: &mut Room) -> Response {
        let reviewed = self.try_review(&body, begun + BUDGET, room).await;
        let (response, became) = match reviewed {
            Ok((answer, became)) => (Json(answer).into_response(), became),
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                let status = match error {
                    NoAnswer::Bad(_) => StatusCode::BAD_REQUEST,
                    // Of a 503 the API server would not show people the text.
                    NoAnswer::Tenant(_) | NoAnswer::Late(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                // Anyone may send what is no review: that must not fill logs.
                if status == StatusCode::BAD_REQUEST {
                    tracing::debug!(error = cause, "a review has no answer");
                } else {
                    tracing::warn!(error = cause, "a review has no answer");
                }
                ((status, format!("relay: {error}\n")).into_response(), Became::Failed)
            }
        };
        self.metrics.review(became, begun.elapsed());
        response
    }

    /// Whatever has to be asked for is asked for until `deadline`.
    async fn try_review(
        &self,
        body: &[u8],
        deadline: Instant,
        room: &mut Room,
    ) -> Result<(Answer, Became), NoAnswer> {
        let request = Review::read(body).map_err(NoAnswer::Bad)?;
        let wish = timeout_at(deadline, self.tenants.wish(&request.namespace)).await;
        let wish = wish.map_err(NoAnswer::Late)?.map_err(NoAnswer::Tenant)?;
        let Some(wish) = wish else {
            return Ok((request.allow(&Patch::default(), None), Became::NoTenant));
        };
        let Wish { mode, tools } = wish;
        let facts = Facts { mode, tools, settings: Arc::clone(&self.settings) };
        let outcome = self.outcome(&request, &facts, deadline, room).await;
        Ok(match outcome {
            Some(outcome) => self.answer(&request, outcome),
            None => (request.allow(&Patch::default(), None), Became::Unchanged),
        })
    }

    /// What becomes of a pod, once it is known what its images run.
    async fn outcome(
        &self,
        request: &Request,
        facts: &Facts,
        deadline: Instant,
        room: &mut Room,
    ) -> Option<Outcome> {
        let Request { namespace, object: pod, old_object: before, .. } = request;
        let subject = request.subject()?;
        let wanted = match subject {
            Subject::Pod => wanted(pod, facts),
            Subject::EphemeralContainers => wanted_ephemeral(pod, before),
        };
        let asks = room.ask(namespace);
        // What is known without asking is known at once.
        let deadline = if asks.is_some() { deadline } else { Instant::now() };
        let looked = self.lookup.find(pod, namespace, &wanted, deadline).await;
        drop(asks);
        self.tell_stale(request, &looked.stale);
        room.for_patch().await;
        Some(match subject {
            Subject::Pod => inject(pod, facts, &looked.images),
            Subject::EphemeralContainers => inject_ephemeral(pod, before, facts, &looked.images),
        })
    }

    fn answer(&self, request: &Request, outcome: Outcome) -> (Answer, Became) {
        match outcome {
            Outcome::LeftAlone { patch, why } => {
                (request.allow(&patch, None), Became::LeftAlone(why))
            }
            Outcome::Wrapped { patch, skipped: None } => {
                let became = if patch.is_empty() { Became::Unchanged } else { Became::Wrapped };
                (request.allow(&patch, None), became)
            }
            Outcome::Wrapped { patch, skipped: Some(why) } => {
                (self.allow_and_tell(request, &patch, &why.to_string()), Became::Partly)
            }
            Outcome::Skipped { patch, why } => {
                (self.allow_and_tell(request, &patch, &why.to_string()), Became::Skipped)
            }
            Outcome::Denied(why) => (request.deny(format!("relay: {why}")), Became::Denied),
        }
    }

    /// An event is written unless it is nothing new.
    fn allow_and_tell(&self, request: &Request, patch: &Patch, why: &str) -> Answer {
        if !patch.is_empty() {
            let about = Told::not_wrapped(&request.object, &request.namespace, why);
            self.tell(request, about);
        }
        request.allow(patch, Some(format!("relay: not wrapped: {why}")))
    }

    fn tell_stale(&self, request: &Request, images: &[String]) {
        if !images.is_empty() {
            self.tell(request, Told::stale(&request.object, &request.namespace, images));
        }
    }

    /// A dry run has no side effects.
    fn tell(&self, request: &Request, event: Option<Told>) {
        let event = event.filter(|_| !request.dry_run);
        if event.is_some_and(|event| self.events.try_send(event).is_err()) {
            self.metrics.event_dropped();
        }
    }
}
