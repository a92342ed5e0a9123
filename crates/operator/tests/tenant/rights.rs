//! What an operator may read where a tenant is.

use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::json;

use crate::lab::{Lab, wait};

#[tokio::test]
async fn the_right_to_read_pull_secrets_follows_the_operators_role_and_goes_with_it() {
    let Some(lab) = Lab::start().await else { return };
    lab.apply_tenant(json!({})).await;
    let bindings = lab.within::<RoleBinding>(&lab.tenant());
    let bound = async || {
        let binding = bindings.get_opt("relay-pull-secrets").await.expect("an answer");
        binding.map(|binding| binding.role_ref.name)
    };
    for role in ["relay-test-first", "relay-test-second"] {
        let _operator = lab.operator_that_binds(role).await;
        wait(&format!("{role} is bound"), async || bound().await.as_deref() == Some(role)).await;
    }
    let operator = lab.operator("one", "dev.local/tools:1").await;
    wait("nothing is bound", async || bound().await.is_none()).await;
    lab.end(operator).await;
}
