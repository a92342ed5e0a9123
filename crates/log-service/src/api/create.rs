//! `POST /logs`: a stream to write.

use std::sync::Arc;

use axum::{Json, extract::State};
use relay_protocol::{
    capability::{StreamClaim, StreamUuid},
    limit::STREAM_ID_LIFE,
    name::Instance,
    write::{CreateStream, StreamCreated},
};

use super::{
    App,
    body::{self, Incoming},
    error::ApiError,
};
use crate::{
    auth::{Caller, Identity},
    clock,
    hub::{CreateError, Meta},
};

/// Longest secret of a writer.
const MAX_WRITER_BYTES: usize = 128;

/// Creates a stream or finds the writer's own, and hands out a new id for it.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Incoming,
) -> Result<Json<StreamCreated>, ApiError> {
    let wanted: CreateStream = body::json(&caller.headers, body).await?;
    let identity = app.auth.authorize_write(&caller, &wanted).await?;
    let (namespace, meta) = meta(identity, wanted)?;
    let created = app.hub.create(&namespace, meta.clone()).await?;
    let expires = clock::unix_seconds() + STREAM_ID_LIFE.as_secs();
    let claim = StreamClaim { tenant: namespace, uuid: created.uuid, expires };
    Ok(Json(StreamCreated {
        id: claim.sign(&app.keys.load()),
        name: meta.name,
        instance: meta.instance,
        expires,
        created: created.is_new,
    }))
}

fn meta(
    identity: Identity,
    wanted: CreateStream,
) -> Result<(relay_protocol::name::Namespace, Meta), ApiError> {
    let Identity { namespace, pod, pod_uid } = identity;
    let CreateStream { name, container, instance, writer, context, .. } = wanted;
    let main = || "main".parse().expect("\"main\" is a container name");
    let container = container.unwrap_or_else(main);
    let context = context.resolve(&container);
    let meta = Meta {
        pod,
        pod_uid,
        container,
        instance: instance.unwrap_or_else(random_instance),
        name,
        writer: writer.as_deref().map(hash_writer).transpose()?,
        context: context.map_err(|error| ApiError::Unprocessable(error.to_string()))?,
        created: clock::unix_millis(),
    };
    Ok((namespace, meta))
}

fn hash_writer(secret: &str) -> Result<String, ApiError> {
    let printable = secret.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if secret.is_empty() || secret.len() > MAX_WRITER_BYTES || !printable {
        let rule = "writer is 1 to 128 printable ASCII characters".to_owned();
        return Err(ApiError::Unprocessable(rule));
    }
    Ok(Meta::writer_hash(secret))
}

fn random_instance() -> Instance {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness once it has booted");
    StreamUuid(random).to_string().parse().expect("32 hexadecimal digits are an instance")
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::OtherWriter => {
                Self::Conflict("this stream has another writer: choose a new instance".to_owned())
            }
            CreateError::Store(error) => error.into(),
        }
    }
}
