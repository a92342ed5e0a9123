//! `AdmissionReview` of `admission.k8s.io/v1`, as far as Relay needs it. The pod stays raw JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::injection::Patch;

/// What the API server sends.
#[derive(Debug, Deserialize)]
pub(super) struct Review {
    #[serde(rename = "apiVersion")]
    api_version: String,
    request: Request,
}

/// What it asks about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    pub(super) namespace: String,
    operation: String,
    #[serde(default)]
    pub(super) dry_run: bool,
    #[serde(default)]
    pub(super) object: Value,
    /// The object before an update.
    #[serde(default)]
    pub(super) old_object: Value,
}

#[derive(Debug, Deserialize)]
struct Resource {
    group: String,
    resource: String,
}

/// What it asks about that Relay has an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A pod is created.
    Pod,
    /// A pod gets ephemeral containers.
    EphemeralContainers,
}

/// A review that Relay does not understand.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadReview {
    /// Not the JSON of a review.
    #[error("the body is not an AdmissionReview")]
    NotAReview(#[from] serde_json::Error),
    /// Another version of it.
    #[error("AdmissionReview {0:?} is not spoken here, only admission.k8s.io/v1")]
    Version(String),
}

/// What Relay answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Review {
    /// Reads a request out of a body.
    pub(super) fn read(body: &[u8]) -> Result<Request, BadReview> {
        let Self { api_version, request } = serde_json::from_slice(body)?;
        if api_version != API_VERSION {
            return Err(BadReview::Version(api_version));
        }
        Ok(request)
    }
}

const API_VERSION: &str = "admission.k8s.io/v1";

impl Request {
    pub(super) fn subject(&self) -> Option<Subject> {
        let Self { resource: Resource { group, resource }, sub_resource, operation, .. } = self;
        match (group.as_str(), resource.as_str(), sub_resource.as_str(), operation.as_str()) {
            ("", "pods", "", "CREATE") => Some(Subject::Pod),
            ("", "pods", "ephemeralcontainers", "UPDATE") => Some(Subject::EphemeralContainers),
            // No configuration of Relay asks about it.
            _ => None,
        }
    }

    /// Lets it pass, changed by `patch`.
    pub(super) fn allow(&self, patch: &Patch, warning: Option<String>) -> Answer {
        let patch = (!patch.is_empty()).then(|| {
            STANDARD.encode(serde_json::to_vec(patch).expect("a patch holds only text as keys"))
        });
        let patch_type = patch.as_ref().map(|_| "JSONPatch");
        let warnings = warning.into_iter().collect();
        self.answer(Response { allowed: true, patch, patch_type, warnings, ..Response::default() })
    }

    /// Refuses it, and says why.
    pub(super) fn deny(&self, message: String) -> Answer {
        let status = Some(Status { code: 403, reason: "Forbidden", message });
        self.answer(Response { allowed: false, status, ..Response::default() })
    }

    fn answer(&self, response: Response) -> Answer {
        let response = Response { uid: self.uid.clone(), ..response };
        Answer { api_version: API_VERSION, kind: "AdmissionReview", response }
    }
}
