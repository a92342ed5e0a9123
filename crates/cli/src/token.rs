//! `relay token mint`: makes an access token, without asking the service.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use relay_protocol::{
    capability::{Access, TokenClaim},
    name::Namespace,
};

use crate::{
    key_dir::{self, KeyDirError},
    output::{Output, WriteError},
    render::Printed,
};

/// The token to make.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) key_dir: PathBuf,
    pub(crate) namespace: Namespace,
    pub(crate) access: Access,
    /// How long it is good for.
    pub(crate) life: Duration,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error(transparent)]
    KeyDir(#[from] KeyDirError),
    #[error("the clock of this machine stands before 1970")]
    Clock,
    #[error(transparent)]
    Output(#[from] WriteError),
}

/// Prints the token, and nothing else.
///
/// # Errors
///
/// All of [`MintError`].
pub(crate) async fn run(request: Request) -> Result<(), MintError> {
    let keys = key_dir::read(&request.key_dir)?;
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|_| MintError::Clock)?;
    let expires = now.saturating_add(request.life).as_secs();
    let claim = TokenClaim { namespace: request.namespace, access: request.access, expires };
    let stdout = (claim.sign(&keys) + "\n").into_bytes();
    Ok(Output::new().print(&mut Printed { stdout, stderr: Vec::new() }).await?)
}
