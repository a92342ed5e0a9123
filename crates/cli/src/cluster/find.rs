//! Finds a pod of the log service, and whom it must be vouched for by.

use std::{collections::BTreeMap, fs::read_to_string, path::Path};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{ClusterError, error::status};

/// What the chart calls the Service of the log service.
const LABELS: &str = "app.kubernetes.io/name=relay,app.kubernetes.io/component=log-service";
/// Where the operator keeps the certificate of its authority.
const CA: (&str, &str) = ("relay-ca", "ca.crt");

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) port: u16,
    /// The name that the service's certificate must have.
    pub(super) server_name: String,
    /// The certificates (PEM) that alone may vouch for it.
    pub(super) ca: String,
}

/// Finds the service in the namespace that Relay is installed in, and only there: whoever could make
/// a Service elsewhere would be sent people's tokens.
pub(super) async fn find(
    client: &Client,
    namespace: &str,
    ca_file: Option<&Path>,
) -> Result<Target, ClusterError> {
    let service = service(client, namespace).await?;
    let pod = ready_pod(client, namespace, &service).await?;
    let port = port(&service, &pod).ok_or_else(|| ClusterError::NoPort {
        service: service.name_any(),
        namespace: namespace.to_owned(),
    })?;
    let ca = match ca_file {
        Some(path) => read_to_string(path)
            .map_err(|source| ClusterError::CaFile { path: path.to_owned(), source })?,
        None => authority(client, namespace).await?,
    };
    Ok(Target {
        namespace: namespace.to_owned(),
        pod: pod.name_any(),
        port,
        server_name: format!("{}.{namespace}.svc", service.name_any()),
        ca,
    })
}

async fn service(client: &Client, namespace: &str) -> Result<Service, ClusterError> {
    let wanted = ListParams::default().labels(LABELS);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = services.list(&wanted).await;
    let found =
        found.map_err(|error| ClusterError::asking("list", "services", namespace, error))?;
    if let Some(service) = found.items.into_iter().next() {
        return Ok(service);
    }
    // Whoever may look everywhere is told where to look.
    let elsewhere = Api::<Service>::all(client.clone()).list(&wanted).await;
    let elsewhere = elsewhere.map(|found| found.items).unwrap_or_default();
    let wanted = namespace.to_owned();
    Err(match elsewhere.first().and_then(ResourceExt::namespace) {
        Some(found) => ClusterError::Elsewhere { wanted, found },
        None => ClusterError::NotInstalled(wanted),
    })
}

async fn ready_pod(
    client: &Client,
    namespace: &str,
    service: &Service,
) -> Result<Pod, ClusterError> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let not_ready = || ClusterError::NotReady(namespace.to_owned());
    if selector.is_empty() {
        return Err(not_ready());
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = pods.list(&ListParams::default().labels(&label_selector(&selector))).await;
    let found = found.map_err(|error| ClusterError::asking("list", "pods", namespace, error))?;
    let mut ready: Vec<Pod> = found.items.into_iter().filter(is_ready).collect();
    // The one that began last outlives a rollout.
    ready.sort_by_key(|pod| pod.creation_timestamp().map(|created| created.0));
    ready.pop().ok_or_else(not_ready)
}

fn label_selector(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The pod's port behind the first port of the Service.
fn port(service: &Service, pod: &Pod) -> Option<u16> {
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?;
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.as_ref()?.containers.iter();
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok().filter(|number| *number != 0)
}

async fn authority(client: &Client, namespace: &str) -> Result<String, ClusterError> {
    let (name, key) = CA;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let none = || ClusterError::NoCa(namespace.to_owned());
    let map = maps.get(name).await.map_err(|error| match status(&error) {
        Some(404) => none(),
        _ => ClusterError::asking("get", "configmaps/relay-ca", namespace, error),
    })?;
    map.data.unwrap_or_default().remove(key).filter(|ca| !ca.trim().is_empty()).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::{is_ready, port};
    use k8s_openapi::api::core::v1::{Pod, Service};
    use serde_json::{Value, from_value, json};

    fn pod(status: &str, extra: &Value) -> Pod {
        from_value(json!({
            "metadata": { "name": "a", "deletionTimestamp": extra },
            "spec": { "containers": [{ "name": "c", "ports": [{ "name": "https", "containerPort": 8443 }] }] },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        }))
        .unwrap()
    }

    #[test]
    fn only_pods_that_are_ready_and_stay_are_asked() {
        assert!(is_ready(&pod("True", &Value::Null)));
        assert!(!is_ready(&pod("False", &Value::Null)));
        assert!(!is_ready(&pod("True", &json!("2026-01-01T00:00:00Z"))));
        assert!(!is_ready(&Pod::default()));
    }

    #[test]
    fn the_port_is_the_pods_own() {
        let service = |target: Value| -> Service {
            from_value(json!({ "spec": { "ports": [{ "port": 443, "targetPort": target }] } }))
                .unwrap()
        };
        let pod = pod("True", &Value::Null);
        assert_eq!(port(&service(json!("https")), &pod), Some(8443));
        assert_eq!(port(&service(json!(9000)), &pod), Some(9000));
        assert_eq!(port(&service(Value::Null), &pod), Some(443));
        assert_eq!(port(&service(json!("other")), &pod), None);
        assert_eq!(port(&Service::default(), &pod), None);
    }
}
