//! Brings one tenant a step closer to its spec.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};
use tokio::sync::watch;

use super::{
    ApplyError, Settings,
    apply::{Writer, is_conflict, refusal},
    index::Index,
    plan::{Plan, Step, Wanted, plan, refused},
};
use crate::{
    api::v1beta1::{Tenant, TenantStatus},
    certificates::Held,
    events::Events,
    metrics::ResultLabel,
};

/// First pause after a failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What a reconcile needs.
pub(super) struct Context {
    pub(super) index: Arc<Index>,
    pub(super) settings: Settings,
    pub(super) held: watch::Receiver<Option<Arc<Held>>>,
    pub(super) writer: Writer,
    pub(super) events: Events,
    pub(super) failures: Failures,
    pub(super) superseded: Superseded,
}

/// Versions of tenants that this operator has replaced by a write of its own: plans made of them would be written in
/// vain. The news of the newer one is on its way.
#[derive(Debug, Default)]
pub(super) struct Superseded(Mutex<HashMap<String, String>>);

impl Superseded {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, tenant: &Tenant) -> bool {
        let version = tenant.resource_version();
        version.is_some() && self.lock().get(&tenant.name_any()) == version.as_ref()
    }

    fn add(&self, tenant: &Tenant) {
        if let Some(version) = tenant.resource_version() {
            self.lock().insert(tenant.name_any(), version);
        }
    }

    fn forget(&self, tenant: &Tenant) {
        self.lock().remove(&tenant.name_any());
    }
}

/// Failures in a row, by tenant.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn forget(&self, tenant: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }

    /// How long to wait after one more.
    fn pause(&self, tenant: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(tenant.to_owned()).or_default();
        *count = count.saturating_add(1);
        let pause =
            2_u32.checked_pow(*count - 1).map_or(LONGEST_PAUSE, |times| FIRST_PAUSE * times);
        pause.min(LONGEST_PAUSE)
    }
}

/// Observes, plans, applies, and writes the status.
///
/// # Errors
///
/// [`ApplyError`] of the first step that failed; the status says what a person should know of it. Every step
/// is idempotent, so the next reconcile goes on.
pub(super) async fn reconcile(
    tenant: Arc<Tenant>,
    context: Arc<Context>,
) -> Result<Action, ApplyError> {
    if context.superseded.holds(&tenant) {
        return Ok(Action::await_change());
    }
    let now = now();
    let authorities = context.held.borrow().as_ref().map(|held| held.bundle());
    let observed = context.index.observe(&tenant.namespace_name());
    let wanted = Wanted::new(&tenant, &context.settings, authorities, &observed);
    let uid = observed.namespace.as_ref().map(|namespace| namespace.uid.clone());
    let Plan { steps, mut status, check_again } = plan(&wanted, &observed, now);
    let mut outcome = Ok(());
    for step in &steps {
        outcome = context.writer.apply(&wanted, uid.as_deref().unwrap_or_default(), step).await;
        if let Err(error) = &outcome {
            if let Some(refusal) = refusal(&wanted, step, error) {
                status = refused(&wanted, &observed, status, (&refusal, now));
            }
            break;
        }
    }
    // A tenant that was let go may be gone.
    if steps.contains(&Step::Disown) {
        context.superseded.forget(&tenant);
    } else {
        publish(&context, &tenant, &status).await?;
    }
    outcome?;
    context.failures.forget(&tenant.name_any());
    context.writer.metrics.reconciles.get_or_create(&ResultLabel { result: "ok" }).inc();
    Ok(check_again.map_or_else(Action::await_change, Action::requeue))
}

/// Writes the status if it changed, and tells people what did.
async fn publish(
    context: &Context,
    tenant: &Tenant,
    status: &TenantStatus,
) -> Result<(), ApplyError> {
    if tenant.status.as_ref() == Some(status)
        || (tenant.status.is_none() && *status == TenantStatus::default())
    {
        return Ok(());
    }
    match context.writer.write_status(tenant, status).await {
        // The tenant has changed: that is news, and the next plan knows it.
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(there) => {
            // Otherwise nothing has changed, and no news will come.
            if there.resource_version() != tenant.resource_version() {
                context.superseded.add(tenant);
            }
            context.events.tell(tenant, status).await;
            Ok(())
        }
    }
}

/// When to try again.
#[expect(clippy::needless_pass_by_value, reason = "kube asks for this signature")]
pub(super) fn when_failed(
    tenant: Arc<Tenant>,
    error: &ApplyError,
    context: Arc<Context>,
) -> Action {
    let name = tenant.name_any();
    context.writer.metrics.reconciles.get_or_create(&ResultLabel { result: "failed" }).inc();
    let pause = context.failures.pause(&name);
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(tenant = name, %error, cause, ?pause, "failed to bring the tenant to its spec");
    Action::requeue(pause)
}

/// Now in whole seconds, which is how Kubernetes writes times.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("a time of now is in range")
}
