//! What people write: the custom resources of the group `relay.sh`.

pub mod v1beta1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

use v1beta1::Tenant;

/// Longest name of a tenant: it names a namespace, and stands in labels.
const MAX_NAME_BYTES: i64 = 63;
/// Tenants of a list that are in memory at once, thrice each: as bytes, as text, and as an object with all that says who
/// managed its fields. One is some tens of KiB then, which an operator with many tenants would not give back.
pub(crate) const PAGE: u32 = 16;
/// Names that a namespace can have.
const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// The custom resource definitions as YAML, as `crds/` holds them.
///
/// # Errors
///
/// Never, unless a type of this module cannot be written as YAML.
pub fn definitions() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&tenants())
}

/// The definition of `Tenant`, with bounds for its name.
#[must_use]
pub fn tenants() -> CustomResourceDefinition {
    let mut definition = Tenant::crd();
    let versions = definition.spec.versions.iter_mut();
    let schemas =
        versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        let properties = schema.properties.get_or_insert_default();
        properties.insert("metadata".to_owned(), metadata());
    }
    definition
}

fn metadata() -> JSONSchemaProps {
    let name = JSONSchemaProps {
        type_: Some("string".to_owned()),
        max_length: Some(MAX_NAME_BYTES),
        pattern: Some(NAME.to_owned()),
        ..JSONSchemaProps::default()
    };
    JSONSchemaProps {
        type_: Some("object".to_owned()),
        properties: Some([("name".to_owned(), name)].into()),
        ..JSONSchemaProps::default()
    }
}
