//! Keys that sign the ids of the log service's streams: made here, so that no chart has to keep a secret.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use rustls::crypto::ring;

use super::{
    KeepFailed, LOG_SERVICE_KEYS,
    keep::{MANAGER, named},
};

/// Name of the first key, as the log service reads it from its folder of keys.
const FIRST_KEY: &str = "1.key";
/// Length of a key; the log service refuses shorter ones.
const KEY_BYTES: usize = 32;

/// Makes the Secret if it is missing. One that is there is never changed: people rotate keys in it.
///
/// # Errors
///
/// [`KeepFailed`]; doing it again continues.
pub async fn make_keys(secrets: &Api<Secret>) -> Result<(), KeepFailed> {
    let failed = |action| move |source| KeepFailed::Kube { action, source };
    let there = secrets.get_metadata_opt(LOG_SERVICE_KEYS).await;
    if there.map_err(failed("read the keys of stream ids"))?.is_some() {
        return Ok(());
    }
    let mut key = vec![0; KEY_BYTES];
    let filled = ring::default_provider().secure_random.fill(&mut key);
    filled.map_err(|_| KeepFailed::NoRandomness)?;
    let secret = Secret {
        metadata: named(LOG_SERVICE_KEYS),
        data: Some([(FIRST_KEY.to_owned(), ByteString(key))].into()),
        ..Secret::default()
    };
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match secrets.create(&how, &secret).await {
        // Another operator was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created.map(drop).map_err(failed("write the keys of stream ids")),
    }
}
