//! `GET /api/workflows/{workflow}/…`: what is kept of workflows, and their logs.
//!
//! Names of workflows are names of a namespace. `?namespace=` says which one is meant; without it,
//! it is the only one that has such a workflow and that the caller may read.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::Uri;
use relay_protocol::{
    context::{Context, Part},
    name::{Namespace, RunName, StepName, TriggerId, WorkflowName},
    read::{WorkflowStepState, WorkflowTriggerState, WorkflowTriggers},
};

use super::{
    App,
    error::ApiError,
    list::{fresh, states},
    read::{self, Request, Subject, part_streams},
};
use crate::{auth::Caller, read::query::Runs};

/// Namespaces of one workflow name of which the caller's rights are looked up. With more, whoever
/// asks without a namespace would cost the API server more than a hundred questions a minute.
const MAX_NAMESPACES: usize = 128;

/// `GET /api/workflows/{workflow}/triggers`
pub(super) async fn triggers(
    State(app): State<Arc<App>>,
    Path(workflow): Path<String>,
    uri: Uri,
    caller: Caller,
) -> Result<Response, ApiError> {
    let workflow: WorkflowName = workflow.parse()?;
    let namespace = only_namespace(&app, &caller, &workflow, &uri).await?;
    let found = app.hub.triggers(&namespace, &workflow).await?;
    if found.is_empty() {
        return Err(ApiError::NotFound);
    }
    let triggers = found.into_iter().map(|(id, entries)| WorkflowTriggerState {
        id,
        namespace: namespace.clone(),
        workflow: workflow.clone(),
        created: entries.created,
        newest: entries.newest,
        streams: None,
    });
    let triggers = triggers.collect();
    Ok(fresh(&WorkflowTriggers {
        namespace: namespace.clone(),
        workflow: workflow.clone(),
        triggers,
    }))
}

/// `GET /api/workflows/{workflow}/triggers/{trigger}`
pub(super) async fn trigger(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    uri: Uri,
    caller: Caller,
) -> Result<Response, ApiError> {
    let (workflow, id) = trigger_names(&names)?;
    let namespace = only_namespace(&app, &caller, &workflow, &uri).await?;
    let context = Context { workflow: workflow.clone(), part: Part::Trigger(id.clone()) };
    let entries = part_streams(&app, &namespace, &context).await?;
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(ApiError::NotFound);
    };
    let (created, newest) = (first.created, last.created);
    let streams = Some(states(&app, &namespace, entries).await?);
    Ok(fresh(&WorkflowTriggerState { id, namespace, workflow, created, newest, streams }))
}

/// `GET /api/workflows/{workflow}/triggers/{trigger}/logs`
pub(super) async fn trigger_logs(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    uri: Uri,
    caller: Caller,
) -> Response {
    let answer = async {
        let (workflow, trigger) = trigger_names(&names)?;
        logs(app, caller, Context { workflow, part: Part::Trigger(trigger) }, &uri).await
    };
    read::harmless(answer.await)
}

/// `GET /api/workflows/{workflow}/runs/{run}/steps/{step}`
pub(super) async fn step(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String, String)>,
    uri: Uri,
    caller: Caller,
) -> Result<Response, ApiError> {
    let (workflow, run, step) = step_names(&names)?;
    let namespace = only_namespace(&app, &caller, &workflow, &uri).await?;
    let part = Part::Step { run: run.clone(), step: step.clone() };
    let context = Context { workflow: workflow.clone(), part };
    let entries = part_streams(&app, &namespace, &context).await?;
    if entries.is_empty() {
        return Err(ApiError::NotFound);
    }
    let streams = states(&app, &namespace, entries).await?;
    Ok(fresh(&WorkflowStepState { namespace, workflow, run, step, streams }))
}

/// `GET /api/workflows/{workflow}/runs/{run}/steps/{step}/logs`
pub(super) async fn step_logs(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String, String)>,
    uri: Uri,
    caller: Caller,
) -> Response {
    let answer = async {
        let (workflow, run, step) = step_names(&names)?;
        logs(app, caller, Context { workflow, part: Part::Step { run, step } }, &uri).await
    };
    read::harmless(answer.await)
}

async fn logs(
    app: Arc<App>,
    caller: Caller,
    context: Context,
    uri: &Uri,
) -> Result<Response, ApiError> {
    let (namespace, parameters) = split(read::parameters(uri)?)?;
    let namespace = find(&app, &caller, &context.workflow, namespace).await?;
    let query = read::parse(&parameters)?;
    if query.runs == Runs::Previous {
        let why = "previous is about the container of one pod: leave it out, or name an instance";
        return Err(ApiError::BadRequest(why.to_owned()));
    }
    read::answer(Request { app, caller, namespace, subject: Subject::Part(context), query }).await
}

/// The namespace that is meant, where nothing else can be asked for.
async fn only_namespace(
    app: &App,
    caller: &Caller,
    workflow: &WorkflowName,
    uri: &Uri,
) -> Result<Namespace, ApiError> {
    let (namespace, parameters) = split(read::parameters(uri)?)?;
    let namespace = find(app, caller, workflow, namespace).await?;
    match parameters.first() {
        None => Ok(namespace),
        Some((name, _)) => {
            let name = name.chars().take(80).collect::<String>();
            let error = format!("{name:?} is not a parameter: there is namespace");
            Err(ApiError::BadRequest(error))
        }
    }
}

type Parameters = Vec<(String, String)>;

/// The parameter `namespace`, and all others.
fn split(parameters: Parameters) -> Result<(Option<Namespace>, Parameters), ApiError> {
    let (named, others): (Parameters, Parameters) =
        parameters.into_iter().partition(|(name, _)| name == "namespace");
    let mut named = named.into_iter().map(|(_, value)| value);
    let namespace = named.next().map(|value| value.parse()).transpose()?;
    if named.next().is_some() {
        let error = "\"namespace\" is there twice: send it once";
        return Err(ApiError::BadRequest(error.to_owned()));
    }
    Ok((namespace, others))
}

/// The namespace that is meant, if the caller may read all of its pods.
async fn find(
    app: &App,
    caller: &Caller,
    workflow: &WorkflowName,
    namespace: Option<Namespace>,
) -> Result<Namespace, ApiError> {
    if let Some(namespace) = namespace {
        app.auth.authorize_read(caller, &namespace, None).await?;
        return Ok(namespace);
    }
    let found = app.hub.namespaces_of(workflow).await?;
    if found.len() > MAX_NAMESPACES {
        // Whoever is nobody learns nothing, and others that the name is common, and not where.
        app.auth.readable(caller, Vec::new()).await?;
        let error = "there are too many workflows of this name to look through: add namespace=";
        return Err(ApiError::BadRequest(error.to_owned()));
    }
    let readable = app.auth.readable(caller, found).await?;
    match <[Namespace; 1]>::try_from(readable) {
        Ok([namespace]) => Ok(namespace),
        Err(none) if none.is_empty() => Err(ApiError::NotFound),
        Err(several) => Err(ApiError::Ambiguous(workflow.clone(), several)),
    }
}

fn trigger_names(names: &(String, String)) -> Result<(WorkflowName, TriggerId), ApiError> {
    let (workflow, trigger) = names;
    Ok((workflow.parse()?, trigger.parse()?))
}

fn step_names(
    names: &(String, String, String),
) -> Result<(WorkflowName, RunName, StepName), ApiError> {
    let (workflow, run, step) = names;
    Ok((workflow.parse()?, run.parse()?, step.parse()?))
}
