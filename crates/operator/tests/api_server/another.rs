//! A webhook of somebody else, which adds a container to every pod of a tenant.

use axum::{Json, Router, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::lab::{Lab, tls};

/// It sorts after Relay's.
const NAME: &str = "z-relay-test";

/// A webhook that runs.
pub(crate) struct Webhook(JoinHandle<()>);

impl Webhook {
    pub(crate) async fn start(lab: &Lab) -> Self {
        let listener = TcpListener::bind((lab.cluster.host, 0)).await.expect("a port");
        let url = format!("https://{}/", listener.local_addr().expect("it is bound"));
        let tls = tls(lab);
        let router = Router::new().route("/", post(answer));
        let running = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("connections come");
                let (tls, router) = (tls.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = TowerToHyperService::new(router);
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        let bundle = lab.followed.held().borrow().as_ref().expect("it is followed").bundle();
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": NAME },
            "webhooks": [{
                "name": "late.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": { "url": url, "caBundle": STANDARD.encode(bundle) },
                "namespaceSelector": { "matchLabels": { "relay.sh/tenant": lab.required } },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
            }],
        });
        let configurations = lab.cluster.api::<MutatingWebhookConfiguration>();
        let how = PatchParams::apply("relay-tests").force();
        configurations.patch(NAME, &how, &Patch::Apply(configuration)).await.expect("it is valid");
        Self(running)
    }

    pub(crate) async fn end(self, lab: &Lab) {
        let configurations = lab.cluster.api::<MutatingWebhookConfiguration>();
        configurations.delete(NAME, &DeleteParams::default()).await.expect("it is there");
        self.0.abort();
        drop(self.0.await);
    }
}

async fn answer(Json(review): Json<Value>) -> Json<Value> {
    let container = json!({ "name": "late", "image": "busybox", "command": ["sleep", "1"] });
    let patch = json!([{ "op": "add", "path": "/spec/containers/-", "value": container }]);
    let response = json!({
        "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
        "patch": STANDARD.encode(patch.to_string()),
    });
    Json(
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }),
    )
}
