//! Carries out the steps of a plan. Each succeeds if it was carried out before.

use std::{future::Future, sync::Arc};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod},
    rbac::v1::RoleBinding,
    storage::v1::VolumeAttachment,
};
use kube::{
    Api, Client, ResourceExt,
    api::{
        DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    index::Index,
    names::{self, FIELD_MANAGER, PULL_RIGHTS},
    objects::{self, Task},
    plan::{Refusal, Step, Target, Wanted},
    reduce,
    seen::Content,
};
use crate::{
    api::v1beta1::{ConditionKind, Tenant, TenantStatus},
    certificates::CA_CONFIG_MAP,
    leader::{Leadership, NotLeading},
    lenient::Lenient,
    metrics::{Metrics, WriteLabel},
};

/// Pods of a namespace that are read at once: each may be nine megabytes of JSON.
const PAGE: u32 = 2;
/// Attachments that are read at once. The cluster itself writes them.
const PAGE_OF_ATTACHMENTS: u32 = 200;

/// Writes to the API server while this operator leads.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) leadership: Leadership,
    pub(super) metrics: Arc<Metrics>,
    /// What is written is seen there at once.
    pub(super) index: Arc<Index>,
}

/// A step that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused, or was not reached.
    #[error("failed to {action}")]
    Kube {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The namespace is there and belongs to somebody else.
    #[error("namespace {0} exists and is not labelled for this tenant")]
    Taken(String),
    /// Another operator leads, or may.
    #[error("failed to {action}")]
    Lead {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: NotLeading,
    },
    /// No answer in time.
    #[error("failed to {0}: the API server did not answer in time")]
    Late(&'static str),
}

/// A write that lost to another one: what is there now is news that comes by itself.
pub(super) fn is_conflict(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Kube { source: kube::Error::Api(status), .. } if status.code == 409)
}

/// What the tenant should say, if it is not a passing trouble of the API server.
pub(super) fn refusal(wanted: &Wanted<'_>, step: &Step, error: &ApplyError) -> Option<Refusal> {
    let name = wanted.tenant.namespace_name();
    let status = match error {
        ApplyError::Taken(_) => {
            let (label, tenant) = (names::TENANT, wanted.name());
            let why = format!("namespace {name} exists and was not made for this tenant");
            let remedy = format!(
                "to give it to the tenant, kubectl label namespace {name} {label}={tenant}; or create the tenant with another name in spec.namespaceTemplate.metadata.name"
            );
            return Some(Refusal {
                kind: ConditionKind::NamespaceReady,
                reason: "NamespaceTaken",
                why,
                remedy,
            });
        }
        ApplyError::Kube { source: kube::Error::Api(status), .. } => status,
        _ => return None,
    };
    let is_final = matches!(status.code, 400 | 403 | 404 | 413 | 422);
    let (kind, reason, what, remedy) = match step {
        Step::CreateNamespace
        | Step::LabelNamespace
        | Step::ReleaseNamespace
        | Step::DeleteNamespace(_)
        | Step::WriteAuthorities
        | Step::DeleteAuthorities => (
            ConditionKind::NamespaceReady,
            "NamespaceRefused",
            "what belongs to the namespace",
            "change spec.namespaceTemplate, or give the operator that right",
        ),
        Step::CreateClaim | Step::CreateSource | Step::SealSource | Step::CloneSource(_) => (
            ConditionKind::ToolsReady,
            "ClaimRefused",
            "the claim",
            "change spec.entrypointInjection.volumeClaimTemplate, or what forbids the claim in the namespace, such as a quota",
        ),
        Step::Install | Step::Verify => (
            ConditionKind::ToolsReady,
            "JobRefused",
            "the Job",
            "change what forbids the Job in the namespace, such as a quota or a policy",
        ),
        Step::GrantPullSecrets => (
            ConditionKind::InjectionReady,
            "RightsRefused",
            "the right to read pull secrets, so that private images without a command cannot be looked into",
            "let the operator bind the role of --pull-secrets-role",
        ),
        Step::RetireClaim(_)
        | Step::DeleteJob(_)
        | Step::RevokePullSecrets
        | Step::Own
        | Step::Disown => return None,
    };
    let why = format!("the API server refused {what} ({})", status.message);
    is_final.then(|| Refusal { kind, reason, why, remedy: remedy.to_owned() })
}

fn force() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Deletes the object that is meant, and what belongs to it later.
fn only(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}

/// What is gone, or is not what was meant, need not be deleted.
fn unless_gone<T>(deleted: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

impl Writer {
    /// Carries out a step.
    ///
    /// # Errors
    ///
    /// [`ApplyError`]; what came before stays done.
    pub(super) async fn apply(
        &self,
        wanted: &Wanted<'_>,
        uid: &str,
        step: &Step,
    ) -> Result<(), ApplyError> {
        tracing::info!(tenant = wanted.name(), ?step, "applying");
        let label = WriteLabel::of(step);
        let name = wanted.tenant.namespace_name();
        match step {
            Step::Own => self.finalizers(wanted, &[names::FINALIZER]).await,
            Step::Disown => self.finalizers(wanted, &[]).await,
            Step::CreateNamespace => self.create_namespace(wanted).await,
            Step::LabelNamespace => {
                let object = objects::namespace(wanted, uid);
                let api = self.all::<Namespace>();
                let there = self.patch(label, "label the namespace", api, object).await?;
                self.index.wrote(
                    |all| &mut all.namespaces,
                    &there,
                    |it| Some(reduce::namespace(it)),
                );
                Ok(())
            }
            Step::ReleaseNamespace => {
                let object = objects::released_namespace(wanted, uid);
                let api = self.all::<Namespace>();
                self.patch(label, "release the namespace", api, object).await.map(drop)
            }
            Step::DeleteNamespace(uid) => {
                let target = Target { name, uid: uid.clone() };
                self.delete(label, "delete the namespace", self.all::<Namespace>(), &target).await
            }
            Step::WriteAuthorities => {
                let Some(bundle) = &wanted.authorities else { return Ok(()) };
                let object = objects::authorities(wanted, bundle);
                let api = self.within::<ConfigMap>(&name);
                let there = self.patch(label, "write the authorities", api, object).await?;
                self.index.wrote(|all| &mut all.authorities, &there, reduce::authorities);
                Ok(())
            }
            Step::DeleteAuthorities => self.delete_authorities(&name).await,
            Step::GrantPullSecrets => self.grant(wanted).await,
            Step::RevokePullSecrets => self.revoke(&name).await,
            Step::CreateClaim => self.claim(&name, objects::claim(wanted)).await,
            Step::CreateSource => self.claim(&name, objects::source(wanted, Content::Open)).await,
            Step::SealSource => self.claim(&name, objects::source(wanted, Content::Filled)).await,
            Step::CloneSource(volume) => {
                // What a node has may not be all there is: it writes until it has let go of it.
                if self.is_attached(volume).await? {
                    return Ok(());
                }
                self.claim(&name, objects::claim(wanted)).await
            }
            Step::Install => self.job(wanted, Task::Install).await,
            Step::Verify => self.job(wanted, Task::Verify).await,
            Step::RetireClaim(target) => self.retire(wanted, target).await,
            Step::DeleteJob(target) => {
                self.delete(label, "delete a Job", self.within::<Job>(&name), target).await
            }
        }
    }

    async fn claim(&self, namespace: &str, object: Value) -> Result<(), ApplyError> {
        let api = self.within::<PersistentVolumeClaim>(namespace);
        let label = WriteLabel::of(&Step::CreateClaim);
        let claim = self.patch(label, "create the claim", api, object).await?;
        self.index.wrote(|all| &mut all.claims, &claim, reduce::claim);
        Ok(())
    }

    async fn job(&self, wanted: &Wanted<'_>, task: Task) -> Result<(), ApplyError> {
        let api = self.within::<Job>(&wanted.tenant.namespace_name());
        let label = WriteLabel::of(&Step::Install);
        let job = self.patch(label, "create a Job", api, objects::job(wanted, task)).await?;
        self.index.wrote(|all| &mut all.jobs, &job, reduce::job);
        Ok(())
    }

    async fn grant(&self, wanted: &Wanted<'_>) -> Result<(), ApplyError> {
        let Some(role) = &wanted.settings.pull_role else { return Ok(()) };
        let api = self.within::<RoleBinding>(&wanted.tenant.namespace_name());
        let label = WriteLabel::of(&Step::GrantPullSecrets);
        let object = objects::pull_rights(wanted, role);
        let there = self.patch(label, "grant the right to pull secrets", api, object).await?;
        self.index.wrote(|all| &mut all.pull_rights, &there, reduce::pull_rights);
        Ok(())
    }

    async fn revoke(&self, namespace: &str) -> Result<(), ApplyError> {
        let api = self.within::<RoleBinding>(namespace);
        let deletion =
            async { unless_gone(api.delete(PULL_RIGHTS, &DeleteParams::default()).await) };
        let label = WriteLabel::of(&Step::RevokePullSecrets);
        self.write(label, "revoke the right to pull secrets", deletion).await
    }

    async fn delete_authorities(&self, namespace: &str) -> Result<(), ApplyError> {
        let api = self.within::<ConfigMap>(namespace);
        let deletion =
            async { unless_gone(api.delete(CA_CONFIG_MAP, &DeleteParams::default()).await) };
        let label = WriteLabel::of(&Step::DeleteAuthorities);
        self.write(label, "delete the authorities", deletion).await
    }

    /// Writes a status, if the tenant is still the one that it is about. The answer is the tenant with it.
    ///
    /// # Errors
    ///
    /// [`ApplyError`].
    pub(super) async fn write_status(
        &self,
        tenant: &Tenant,
        status: &TenantStatus,
    ) -> Result<Tenant, ApplyError> {
        let object = json!({
            "apiVersion": "relay.sh/v1beta1",
            "kind": "Tenant",
            "metadata": { "name": tenant.name_any(), "resourceVersion": tenant.resource_version() },
            "status": status,
        });
        let api = self.all::<Tenant>();
        let name = tenant.name_any();
        let patch = async move { api.patch_status(&name, &force(), &Patch::Apply(object)).await };
        self.write(WriteLabel::STATUS, "write the tenant's status", patch).await
    }

    /// One guarded write: only while this operator leads, and not later than it does.
    async fn write<T>(
        &self,
        label: WriteLabel,
        action: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ApplyError> {
        self.leadership.check().map_err(|source| ApplyError::Lead { action, source })?;
        self.metrics.writes.get_or_create(&label).inc();
        let answer = timeout(self.leadership.write_limit(), request).await;
        answer
            .map_err(|_| ApplyError::Late(action))?
            .map_err(|source| ApplyError::Kube { action, source })
    }

    async fn patch<K>(
        &self,
        label: WriteLabel,
        action: &'static str,
        api: Api<K>,
        object: Value,
    ) -> Result<K, ApplyError>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let patch = async { api.patch(name, &force(), &Patch::Apply(&object)).await };
        self.write(label, action, patch).await
    }

    async fn delete<K>(
        &self,
        label: WriteLabel,
        action: &'static str,
        api: Api<K>,
        target: &Target,
    ) -> Result<(), ApplyError>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let deletion = async { unless_gone(api.delete(&target.name, &only(&target.uid)).await) };
        self.write(label, action, deletion).await
    }

    async fn finalizers(&self, wanted: &Wanted<'_>, list: &[&str]) -> Result<(), ApplyError> {
        let object = json!({
            "apiVersion": "relay.sh/v1beta1",
            "kind": "Tenant",
            "metadata": { "name": wanted.name(), "uid": wanted.uid(), "finalizers": list },
        });
        let label = WriteLabel::of(&Step::Own);
        self.patch(label, "hold the tenant", self.all::<Tenant>(), object).await.map(drop)
    }

    /// Creates, and never takes over what is there.
    async fn create_namespace(&self, wanted: &Wanted<'_>) -> Result<(), ApplyError> {
        let action = "create the namespace";
        let api = self.all::<Namespace>();
        let object = serde_json::from_value(objects::new_namespace(wanted))
            .expect("the object has the form of a namespace");
        let how =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let label = WriteLabel::of(&Step::CreateNamespace);
        let creation = async { api.create(&how, &object).await };
        match self.write(label, action, creation).await {
            Err(error) if is_conflict(&error) => {}
            other => return other.map(drop),
        }
        let name = wanted.tenant.namespace_name();
        let there = api.get_metadata_opt(&name).await;
        let there = there.map_err(|source| ApplyError::Kube { action, source })?;
        let owner = there.as_ref().and_then(|there| there.labels().get(names::TENANT));
        // Its news is on the way if it is the tenant's, or gone by now.
        let is_foreign = there.is_some() && owner.map(String::as_str) != Some(wanted.name());
        if is_foreign { Err(ApplyError::Taken(name)) } else { Ok(()) }
    }

    /// Deletes a claim that no pod mounts. Pods without Relay's annotation may, so they are asked.
    async fn retire(&self, wanted: &Wanted<'_>, target: &Target) -> Result<(), ApplyError> {
        let action = "delete a claim of earlier tools";
        let name = wanted.tenant.namespace_name();
        let is_deleted = wanted.tenant.metadata.deletion_timestamp.is_some();
        // When the tenant goes the claim does too, as soon as Kubernetes sees no pod on it.
        if !is_deleted && self.is_mounted(&name, &target.name).await? {
            return Ok(());
        }
        let label = WriteLabel::of(&Step::RetireClaim(target.clone()));
        self.delete(label, action, self.within::<PersistentVolumeClaim>(&name), target).await
    }

    async fn is_mounted(&self, namespace: &str, claim: &str) -> Result<bool, ApplyError> {
        let action = "list the pods of the namespace";
        let running = "status.phase!=Succeeded,status.phase!=Failed";
        let page = ListParams::default().fields(running).limit(PAGE);
        // One that cannot be read may mount it.
        has_any(action, self.within::<Lenient<Pod>>(namespace), page, |pod| {
            pod.read().is_none_or(|pod| mounts(pod, claim))
        })
        .await
    }

    async fn is_attached(&self, volume: &str) -> Result<bool, ApplyError> {
        let action = "list the volumes that nodes have";
        let all = self.all::<Lenient<VolumeAttachment>>();
        has_any(action, all, ListParams::default().limit(PAGE_OF_ATTACHMENTS), |attachment| {
            attachment.read().is_none_or(|attachment| {
                attachment.spec.source.persistent_volume_name.as_deref() == Some(volume)
            })
        })
        .await
    }

    fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Whether there is such an object, asked for page by page.
async fn has_any<K>(
    action: &'static str,
    api: Api<K>,
    mut page: ListParams,
    is_it: impl Fn(&K) -> bool,
) -> Result<bool, ApplyError>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    loop {
        let found = api.list(&page).await;
        let found = found.map_err(|source| ApplyError::Kube { action, source })?;
        if found.items.iter().any(&is_it) {
            return Ok(true);
        }
        match found.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(false),
        }
    }
}

fn mounts(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.any(|source| source.claim_name == claim)
}
