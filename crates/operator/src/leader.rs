//! One operator at a time writes: who that is stands in a Lease.
//!
//! # Guarantees
//!
//! An operator that was paused, or cut off from the API server, stops to write by itself: before each
//! write [`Leadership::check`] compares the clock with its last renewal. It gives up after two
//! thirds of the lease; a write may take the last third; only then can another one begin.
//!
//! # Caveats
//!
//! A clock that stands still, as that of a suspended virtual machine, shows nothing of this. So deletions name
//! the uid they mean, a status names the version of the tenant that it is about, and what is created has a name
//! that says what is in it: a late write is refused or changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Name of the Lease.
pub const LEASE: &str = "relay-operator";

/// A candidate for the lead.
#[derive(Clone, Debug)]
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    lasts: Duration,
}

/// The right to write, for a while.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Receiver<Instant>,
    write_limit: Duration,
}

/// The lead, to be kept.
#[derive(Debug)]
pub struct Lead {
    election: Election,
    lease: Lease,
    until: watch::Sender<Instant>,
}

/// The lead was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this operator does not lead any more")]
pub struct NotLeading;

impl Leadership {
    /// Whether this operator may still write.
    ///
    /// # Errors
    ///
    /// [`NotLeading`] if it was not able to renew its lease.
    pub fn check(&self) -> Result<(), NotLeading> {
        if Instant::now() < *self.until.borrow() { Ok(()) } else { Err(NotLeading) }
    }

    /// How long a write may take that begins now.
    #[must_use]
    pub fn write_limit(&self) -> Duration {
        self.write_limit
    }
}

/// Somebody else's lease, as it was first seen.
struct Foreign {
    version: Option<String>,
    since: Instant,
}

impl Election {
    /// A candidate. `identity` is that of the pod, or of the process: whoever finds its own in the
    /// Lease goes on at once.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String, lasts: Duration) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, lasts }
    }

    /// Waits until this operator leads. Looks six times in the life of a lease.
    pub async fn win(&self) -> Lead {
        let mut foreign = None;
        loop {
            let asked = Instant::now();
            match timeout(self.lasts / 3, self.take(&mut foreign)).await {
                Ok(Ok(Some(lease))) => {
                    let until = watch::Sender::new(asked + self.valid());
                    return Lead { election: self.clone(), lease, until };
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to look at the lease");
                }
                Err(_) => tracing::warn!("the API server did not answer about the lease in time"),
            }
            sleep(self.lasts / 6).await;
        }
    }

    /// How long a renewal is good for.
    fn valid(&self) -> Duration {
        self.lasts * 2 / 3
    }

    async fn take(&self, foreign: &mut Option<Foreign>) -> Result<Option<Lease>, kube::Error> {
        let Some(lease) = self.leases.get_opt(LEASE).await? else {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return unless_raced(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.is_over(&lease, &spec, foreign) {
            return Ok(None);
        }
        let lease = Lease { spec: Some(self.spec(Some(&spec))), ..lease };
        unless_raced(self.leases.replace(LEASE, &PostParams::default(), &lease).await)
    }

    /// Whether somebody else's lease has run out. Clocks of two machines are never compared: it has if it did
    /// not change for as long as it lasts.
    fn is_over(&self, lease: &Lease, spec: &LeaseSpec, foreign: &mut Option<Foreign>) -> bool {
        let version = lease.metadata.resource_version.clone();
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(self.lasts, Duration::from_secs);
        match foreign {
            Some(seen) if seen.version == version => seen.since.elapsed() > lasts,
            _ => {
                *foreign = Some(Foreign { version, since: Instant::now() });
                false
            }
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lasts.as_secs()).ok(),
            acquire_time: mine.and_then(|spec| spec.acquire_time.clone()).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(mine.is_none())),
            ..LeaseSpec::default()
        }
    }
}

/// Nothing, if another one was faster.
fn unless_raced(written: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Lead {
    /// What writers check.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership { until: self.until.subscribe(), write_limit: self.election.lasts / 3 }
    }

    /// Renews the lease until that fails for too long, or somebody else has it.
    pub async fn keep(&mut self) -> NotLeading {
        let mut pause = self.election.lasts / 3;
        loop {
            sleep(pause).await;
            pause = self.election.lasts / 3;
            let asked = Instant::now();
            match timeout(self.election.lasts / 6, self.renew()).await {
                Ok(Ok(true)) => {
                    self.until.send_replace(asked + self.election.valid());
                    continue;
                }
                Ok(Ok(false)) => return NotLeading,
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to renew the lease");
                }
                Err(_) => tracing::warn!("the API server did not renew the lease in time"),
            }
            if Instant::now() >= *self.until.borrow() {
                return NotLeading;
            }
            pause = self.election.lasts / 30;
        }
    }

    /// Whether the lease is still this operator's. An answer that got lost may have renewed it.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let election = &self.election;
        let spec = election.spec(self.lease.spec.as_ref());
        let lease = Lease { spec: Some(spec), ..self.lease.clone() };
        let written = election.leases.replace(LEASE, &PostParams::default(), &lease).await;
        if let Some(lease) = unless_raced(written)? {
            self.lease = lease;
            return Ok(true);
        }
        let there = election.leases.get(LEASE).await?;
        let holder = there.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
        let is_ours = holder == Some(&election.identity);
        self.lease = there;
        Ok(is_ours)
    }

    /// Lets another operator begin at once.
    pub async fn release(self) {
        let mut lease = self.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        let how = PostParams::default();
        let released = self.election.leases.replace(LEASE, &how, &lease);
        // It runs out by itself otherwise.
        drop(timeout(self.election.lasts / 3, released).await);
    }
}
