//! Objects as people wrote them.
//!
//! The API server takes more than the types of a client hold: a moment of the last day of the year 9999 is one example. Anyone who may
//! write somewhere may write it into an event, or into the managed fields of any object. Such an object must not hide all others of its
//! kind, of all namespaces.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::watcher::Event};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::value::RawValue;

/// An object, or which one it is.
#[derive(Clone, Debug)]
pub(crate) enum Lenient<K> {
    /// It could be read.
    Read(K),
    /// It could not: its name, namespace and version.
    Unread(Box<ObjectMeta>),
}

/// What has to be there, and what nobody but the API server writes.
#[derive(Deserialize)]
struct Named {
    metadata: Which,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Which {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<K> Lenient<K> {
    /// The object, if it could be read.
    pub(crate) fn read(&self) -> Option<&K> {
        match self {
            Self::Read(object) => Some(object),
            Self::Unread(_) => None,
        }
    }
}

/// What a watch says of an object that could be read. Of one that could be before, what was known last stays.
pub(crate) fn readable<K>(event: Event<Lenient<K>>) -> Option<Event<K>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(Lenient::Read(object)) => Event::InitApply(object),
        Event::Apply(Lenient::Read(object)) => Event::Apply(object),
        Event::Delete(Lenient::Read(object)) => Event::Delete(object),
        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => return None,
    })
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(object) = serde_json::from_str(text.get()) {
            return Ok(Self::Read(object));
        }
        let Named { metadata: Which { name, namespace, resource_version } } =
            serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let meta = ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() };
        Ok(Self::Unread(Box::new(meta)))
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Read(object) => object.meta(),
            Self::Unread(meta) => meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Read(object) => object.meta_mut(),
            Self::Unread(meta) => meta,
        }
    }
}
