//! What people and machines do to tenants.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, PersistentVolumeClaim},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use relay_operator::api::v1beta1::Tenant;
use relay_tests::kube::gate::Gate;
use serde_json::{Value, json};

use crate::lab::{Lab, wait};

#[tokio::test]
async fn a_second_tenant_of_a_namespace_says_so_and_the_first_goes_on() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    wait("the first has its namespace", async || lab.status().await.namespace.is_some()).await;
    let thief = format!("{}-thief", lab.id);
    let spec = json!({ "namespaceTemplate": { "metadata": { "name": lab.tenant() } } });
    let tenants = lab.all::<Tenant>();
    let object = json!({ "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": thief }, "spec": spec });
    lab.apply(&tenants, object).await;
    wait("the second says why not", async || {
        let thief = tenants.get(&thief).await.unwrap();
        let mut conditions = thief.status.into_iter().flat_map(|status| status.conditions);
        conditions.any(|it| it.reason == "NamespaceTaken" && it.message.contains(&lab.tenant()))
    })
    .await;
    lab.wait_for_tools("dev.local/tools:1").await;
    tenants.delete(&thief, &DeleteParams::default()).await.unwrap();
    wait("the second goes", async || tenants.get_opt(&thief).await.unwrap().is_none()).await;
    let namespace = lab.all::<Namespace>().get(&lab.tenant()).await.unwrap();
    assert!(namespace.metadata.deletion_timestamp.is_none());
    assert_eq!(namespace.labels().get("relay.sh/tenant"), Some(&lab.tenant()));
    lab.end(operator).await;
}

#[tokio::test]
async fn what_people_change_by_hand_comes_back() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    wait("the Job is there", async || !lab.jobs().await.is_empty()).await;
    let first = lab.jobs().await.remove(0);
    let jobs = lab.within::<Job>(&lab.tenant());
    jobs.delete(&first.name_any(), &DeleteParams::background()).await.unwrap();
    wait("a Job comes back", async || lab.jobs().await.iter().any(|job| job.uid() != first.uid()))
        .await;
    let tools = lab.wait_for_tools("dev.local/tools:1").await.tools.unwrap();

    let (how, namespaces) = (PatchParams::default(), lab.all::<Namespace>());
    let without = json!({ "metadata": { "labels": { "relay.sh/injection": null } } });
    namespaces.patch(&lab.tenant(), &how, &Patch::Merge(without)).await.unwrap();
    wait("pods are wrapped again", async || {
        let there = namespaces.get(&lab.tenant()).await.unwrap();
        there.labels().get("relay.sh/injection").is_some_and(|mode| mode == "required")
    })
    .await;

    let maps = lab.within::<ConfigMap>(&lab.tenant());
    let forged = json!({ "data": { "ca.crt": "nobody's" } });
    wait("there is something to forge", async || {
        maps.patch("relay-ca", &how, &Patch::Merge(forged.clone())).await.is_ok()
    })
    .await;
    wait("pods trust Relay's authority again", async || {
        let there = maps.get("relay-ca").await.unwrap();
        there.data.unwrap()["ca.crt"].contains("BEGIN CERTIFICATE")
    })
    .await;

    let claims = lab.within::<PersistentVolumeClaim>(&lab.tenant());
    claims.delete(tools.claim_name.as_ref().unwrap(), &DeleteParams::default()).await.unwrap();
    wait("another claim is filled and verified", async || {
        lab.end_jobs().await;
        let now = lab.status().await.tools;
        now.is_some_and(|now| now.claim_uid != tools.claim_uid)
    })
    .await;
    lab.end(operator).await;
}

#[tokio::test]
async fn an_api_server_that_was_away_is_found_again() {
    let Some(lab) = Lab::start().await else { return };
    let gate = Gate::to(&lab.server());
    let operator = lab.operator_through(&gate, "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    gate.close();
    // Longer than it may lead: that it gives up shows that it noticed.
    wait("it does not lead any more", async || operator.count("leading").await < 1.0).await;
    let other = json!({ "namespaceTemplate": { "metadata": { "labels": { "team": "blue" } } } });
    lab.apply_tenant(other).await;
    gate.open();
    wait("it goes on", async || {
        let there = lab.all::<Namespace>().get(&lab.tenant()).await.unwrap();
        there.labels().get("team").is_some_and(|team| team == "blue")
    })
    .await;
    lab.end(operator).await;
}

#[tokio::test]
async fn a_tenant_waits_for_a_namespace_that_does_not_go_and_another_comes_after_it() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    let maps = lab.within::<ConfigMap>(&lab.tenant());
    let stuck = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "stuck", "finalizers": ["relay.sh/test"] } });
    lab.apply(&maps, stuck).await;
    let (how, tenants) = (DeleteParams::default(), lab.all::<Tenant>());
    lab.all::<Namespace>().delete(&lab.tenant(), &how).await.unwrap();
    let says = async |reason: &str| {
        lab.status().await.conditions.iter().any(|condition| condition.reason == reason)
    };
    wait("it says that the namespace goes", async || says("NamespaceTerminating").await).await;
    tenants.delete(&lab.tenant(), &how).await.unwrap();
    wait("it says that it goes itself", async || says("Deleting").await).await;
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("stuck", &PatchParams::default(), &free).await.unwrap();
    wait("it is gone", async || tenants.get_opt(&lab.tenant()).await.unwrap().is_none()).await;
    let namespaces = lab.all::<Namespace>().list(&ListParams::default()).await.unwrap();
    assert!(namespaces.iter().all(|namespace| namespace.name_any() != lab.tenant()));

    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.end(operator).await;
}

/// All that the operator needs, but for the right to bind a role that allows more than it may do itself.
async fn let_operate(lab: &Lab, user: &str) {
    let all = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let groups = [
        "relay.sh",
        "batch",
        "storage.k8s.io",
        "events.k8s.io",
        "admissionregistration.k8s.io",
        "rbac.authorization.k8s.io",
    ];
    let core = ["namespaces", "persistentvolumeclaims", "configmaps", "pods", "events", "nodes"];
    let everywhere = json!([
        { "apiGroups": groups, "resources": ["*"], "verbs": all },
        { "apiGroups": [""], "resources": core, "verbs": all },
    ]);
    grant(lab, user, "operate", everywhere).await;
    let own = json!([{ "apiGroups": ["", "coordination.k8s.io"], "resources": ["secrets", "leases"], "verbs": all }]);
    let (name, system) = (format!("{}-own", lab.id), lab.system());
    let head =
        json!({ "apiVersion": RBAC, "kind": "Role", "metadata": { "name": name }, "rules": own });
    lab.apply(&lab.within::<Role>(&system), head).await;
    let binding = json!({
        "apiVersion": RBAC, "kind": "RoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "User", "name": user }],
    });
    lab.apply(&lab.within::<RoleBinding>(&system), binding).await;
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Rights in the whole cluster.
async fn grant(lab: &Lab, user: &str, what: &str, rules: Value) {
    let name = format!("{}-{what}", lab.id);
    let role = json!({ "apiVersion": RBAC, "kind": "ClusterRole", "metadata": { "name": name }, "rules": rules });
    lab.apply(&lab.all::<ClusterRole>(), role).await;
    let binding = json!({
        "apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "User", "name": user }],
    });
    lab.apply(&lab.all::<ClusterRoleBinding>(), binding).await;
}

#[tokio::test]
async fn an_operator_that_may_not_let_itself_read_pull_secrets_says_so_and_tools_come_all_the_same()
{
    let Some(lab) = Lab::start().await else { return };
    let (user, role) = (format!("{}-user", lab.id), format!("{}-pull", lab.id));
    let_operate(&lab, &user).await;
    let pull = json!([{ "apiGroups": [""], "resources": ["secrets", "serviceaccounts"], "verbs": ["get"] }]);
    // Whom it is bound to here does not matter.
    grant(&lab, "nobody", "pull", pull).await;
    let flags = ["--tools-image", "dev.local/tools:1", "--pull-secrets-role", &role];
    let operator = lab.operator_as(&user, &flags).await;
    lab.apply_tenant(json!({})).await;
    let said = lab.wait_for_reason("InjectionReady", "RightsRefused").await;
    for words in [
        "refused the right to read pull secrets",
        &format!("user \"{user}\""),
        "let the operator bind the role of --pull-secrets-role",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    lab.wait_for_tools("dev.local/tools:1").await;
    let bindings = lab.within::<RoleBinding>(&lab.tenant());
    assert!(bindings.get_opt("relay-pull-secrets").await.unwrap().is_none());

    let bind = json!([{
        "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": [role], "verbs": ["bind"],
    }]);
    grant(&lab, &user, "bind", bind).await;
    wait("it has the right", async || {
        bindings.get_opt("relay-pull-secrets").await.unwrap().is_some()
    })
    .await;
    wait("nothing is refused any more", async || {
        let conditions = lab.status().await.conditions;
        conditions.iter().all(|condition| condition.reason != "RightsRefused")
    })
    .await;
    for what in ["operate", "pull", "bind"] {
        let (name, how) = (format!("{}-{what}", lab.id), DeleteParams::default());
        drop(lab.all::<ClusterRoleBinding>().delete(&name, &how).await);
        drop(lab.all::<ClusterRole>().delete(&name, &how).await);
    }
    lab.end(operator).await;
}
