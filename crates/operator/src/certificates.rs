//! Certificates of the webhook and the log service: issued here, renewed with an overlap.
//!
//! Nobody is asked to trust a new authority from one moment to the next. An authority is announced first:
//! it stands in every bundle beside the old one. Only when the bundle had time to arrive everywhere it
//! signs, and the old one stays in the bundle until it expires.
//!
//! `plan` (pure) says what to do next, `issue` does it, `held` is how it is kept in a Secret, `keep` writes
//! (the leader only), `follow` reads (every replica). `paths` are beside them: where the API server sends reviews.

mod follow;
mod held;
mod issue;
mod keep;
mod keys;
mod paths;
mod plan;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

pub use follow::{Followed, Serving, follow};
pub use held::{Authority, Held, Leaf, Unreadable, Use};
pub use issue::{IssueFailed, advance};
pub use keep::{KeepFailed, keep, renew};
pub use keys::make_keys;
pub use paths::{Path, Paths, ROOT};
pub use plan::{Step, next};

/// The Secret in the operator's own namespace that holds all of it.
pub const SECRET: &str = "relay-certificates";
/// The Secret beside it with the log service's certificate.
pub const LOG_SERVICE_SECRET: &str = "relay-log-service-tls";
/// The Secret with the keys that sign the ids of the log service's streams.
pub const LOG_SERVICE_KEYS: &str = "relay-log-service-keys";
/// The `ConfigMap` in each tenant's namespace, and in the operator's own, that holds the authorities' certificates.
pub const CA_CONFIG_MAP: &str = "relay-ca";
/// Its key.
pub const CA_KEY: &str = "ca.crt";

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// The life of an authority; its successor is announced at half of it.
    pub authority: Duration,
    /// The life of a certificate; it is renewed at half of it.
    pub leaf: Duration,
    /// How long an authority is announced before it signs: longer than a bundle takes to arrive
    /// everywhere. The kubelet takes up to two minutes.
    pub announcement: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { authority: DAY * 365, leaf: DAY * 60, announcement: Duration::from_mins(10) }
    }
}

/// Which names certificates are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Of the webhook, as the API server calls it.
    pub webhook: Vec<String>,
    /// Of the log service.
    pub log_service: Vec<String>,
}

impl Names {
    /// The names of the Services of the chart in `namespace`.
    #[must_use]
    pub fn in_namespace(namespace: &str) -> Self {
        let names = |service: &str| {
            let service = format!("{service}.{namespace}");
            vec![format!("{service}.svc"), format!("{service}.svc.cluster.local"), service]
        };
        Self { webhook: names("relay-operator"), log_service: names("relay-log-service") }
    }

    /// The same with one more name of the webhook: the host of the address at which the API server
    /// calls an operator outside of the cluster.
    #[must_use]
    pub fn and_webhook_at(mut self, host: &str) -> Self {
        self.webhook.push(host.trim_matches(['[', ']']).to_owned());
        self
    }

    fn of(&self, which: Use) -> &[String] {
        match which {
            Use::Webhook => &self.webhook,
            Use::LogService => &self.log_service,
        }
    }
}

/// The Secret that the log service serves from.
#[must_use]
pub fn log_service_secret(namespace: &str, leaf: &Leaf, bundle: &str) -> Secret {
    let texts =
        [("tls.crt", leaf.certificate.as_str()), ("tls.key", leaf.key.as_str()), (CA_KEY, bundle)];
    let data = texts.map(|(name, text)| (name.to_owned(), k8s_openapi::ByteString(text.into())));
    Secret {
        metadata: ObjectMeta {
            name: Some(LOG_SERVICE_SECRET.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.into()),
        ..Secret::default()
    }
}

/// A moment in whole seconds since 1970, which is how certificates write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

impl Moment {
    /// The moment that the system's clock shows.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// So many seconds after 1970.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// A later one.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(seconds(duration)))
    }

    /// So many seconds later, or earlier if they are negative.
    #[must_use]
    pub fn shifted(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(seconds(duration)))
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
