//! Certificates of the parts of a node, and the files by which they find the API server.

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::{
    folder::{Folder, INSIDE},
    network::{BRIDGE, Uplink},
};

/// Name of the cluster, its administrator and their context in kubeconfigs.
const NAME: &str = "relay-cluster";
/// Who speaks to the API server from inside: file of the kubeconfig, name, group.
const CLIENTS: [(&str, &str, &str); 6] = [
    ("admin", NAME, "system:masters"),
    ("controllers", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "system:node:relay", "system:nodes"),
    ("proxy", "system:kube-proxy", ""),
    ("dns", "cluster-dns", ""),
];

/// The authority of one node.
struct Authority<'a> {
    folder: &'a Folder,
    issuer: Issuer<'static, KeyPair>,
}

/// Writes all certificates, keys and kubeconfigs of a node.
///
/// # Errors
///
/// If the folder cannot be written.
pub fn write(folder: &Folder, uplink: Uplink) -> Result<()> {
    let authority = Authority::new(folder)?;
    let outside = uplink.node_address().to_string();
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.96.0.1",
        BRIDGE,
        &outside,
    ];
    authority.issue("api-server", "kube-apiserver", "", &names)?;
    authority.issue("kubelet-server", "relay", "", &["relay", BRIDGE])?;
    authority.issue("registry", "registry", "", &[BRIDGE, &outside])?;
    authority.issue("api-server-to-kubelet", "kube-apiserver-kubelet", "system:masters", &[])?;
    for (file, name, group) in CLIENTS {
        authority.issue(file, name, group, &[])?;
        let config = kubeconfig(BRIDGE, INSIDE, file);
        folder.write(&format!("kubeconfigs/{file}"), &config)?;
    }
    let here = folder.root().display().to_string();
    folder.write("kubeconfig", &kubeconfig(&outside, &here, "admin"))?;
    write_account_key(folder)
}

/// How a client finds the API server and shows who it is. JSON is YAML.
fn kubeconfig(address: &str, folder: &str, client: &str) -> String {
    let file = |name: &str| format!("{folder}/pki/{name}");
    let cluster = json!({
        "server": format!("https://{address}:6443"), "certificate-authority": file("ca.crt"),
    });
    let user = json!({
        "client-certificate": file(&format!("{client}.crt")),
        "client-key": file(&format!("{client}.key")),
    });
    let context = json!({ "cluster": NAME, "user": NAME });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": NAME,
        "contexts": [{ "name": NAME, "context": context }],
        "clusters": [{ "name": NAME, "cluster": cluster }],
        "users": [{ "name": NAME, "user": user }],
    });
    config.to_string()
}

/// The key that signs the tokens of service accounts.
fn write_account_key(folder: &Folder) -> Result<()> {
    let key = KeyPair::generate()?;
    folder.write("pki/accounts.key", &key.serialize_pem())?;
    folder.write("pki/accounts.pub", &key.public_key_pem())
}

impl<'a> Authority<'a> {
    fn new(folder: &'a Folder) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, NAME);
        let certificate = params.self_signed(&key)?;
        folder.write("pki/ca.crt", &certificate.pem())?;
        folder.write("pki/ca.key", &key.serialize_pem())?;
        Ok(Self { folder, issuer: Issuer::new(params, key) })
    }

    /// Writes `pki/FILE.crt` and `pki/FILE.key`.
    fn issue(&self, file: &str, name: &str, group: &str, hosts: &[&str]) -> Result<()> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer).context("failed to sign")?;
        self.folder.write(&format!("pki/{file}.crt"), &certificate.pem())?;
        self.folder.write(&format!("pki/{file}.key"), &key.serialize_pem())
    }
}
