//! Error answers: `application/problem+json` (RFC 9457).

use serde::{Deserialize, Serialize};

use crate::name::Namespace;

/// Body of every error answer of the log service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Stable name of the kind of problem, as a relative URI reference: `/problems/conflict`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for all problems of a kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// Namespaces to choose from, where a workflow's name is in several.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub candidates: Vec<Namespace>,
}
