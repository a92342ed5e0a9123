//! The programs that make up a node.

use super::{
    folder::{Folder, INSIDE},
    network::BRIDGE,
};

/// One program of the node: its name in `bin/`, which is also that of its log, and its arguments.
#[derive(Debug)]
pub struct Part {
    /// Name of the program.
    pub name: &'static str,
    /// What it is started with.
    pub arguments: Vec<String>,
}

impl Part {
    /// A part with arguments as a shell splits them. `@` stands for the folder of the run.
    fn new(name: &'static str, arguments: &str) -> Self {
        let words = arguments.split_whitespace();
        Self { name, arguments: words.map(|word| word.replace('@', INSIDE)).collect() }
    }
}

/// What the API server needs, and the runtime of containers and registries, which need nothing.
#[must_use]
pub fn first() -> [Part; 5] {
    [
        // Nothing here has to survive a power failure.
        Part::new("etcd", "--data-dir=@/etcd --unsafe-no-fsync --log-level=warn --listen-peer-urls=http://127.0.0.1:2380"),
        Part::new("containerd", "--config=@/etc/containerd.toml"),
        Part::new("guarded-registry", "serve @/etc/guarded-registry.yaml"),
        Part::new("open-registry", "serve @/etc/open-registry.yaml"),
        Part::new(
            "kube-apiserver",
            &format!(
                "--advertise-address={BRIDGE} --secure-port=6443 --etcd-servers=http://127.0.0.1:2379
                 --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC --allow-privileged
                 --enable-admission-plugins=NodeRestriction --feature-gates=ImageVolume=true
                 --client-ca-file=@/pki/ca.crt --kubelet-preferred-address-types=InternalIP
                 --tls-cert-file=@/pki/api-server.crt --tls-private-key-file=@/pki/api-server.key
                 --kubelet-certificate-authority=@/pki/ca.crt
                 --kubelet-client-certificate=@/pki/api-server-to-kubelet.crt
                 --kubelet-client-key=@/pki/api-server-to-kubelet.key
                 --service-account-issuer=https://kubernetes.default.svc.cluster.local
                 --service-account-key-file=@/pki/accounts.pub
                 --service-account-signing-key-file=@/pki/accounts.key"
            ),
        ),
    ]
}

/// What needs the API server.
#[must_use]
pub fn second(folder: &Folder) -> [Part; 6] {
    let cgroup = folder.cgroup();
    [
        Part::new(
            "kube-controller-manager",
            "--kubeconfig=@/kubeconfigs/controllers --leader-elect=false --bind-address=127.0.0.1
             --authentication-kubeconfig=@/kubeconfigs/controllers --authorization-kubeconfig=@/kubeconfigs/controllers
             --root-ca-file=@/pki/ca.crt --service-account-private-key-file=@/pki/accounts.key
             --cluster-signing-cert-file=@/pki/ca.crt --cluster-signing-key-file=@/pki/ca.key
             --use-service-account-credentials",
        ),
        Part::new(
            "kube-scheduler",
            "--kubeconfig=@/kubeconfigs/scheduler --leader-elect=false --bind-address=127.0.0.1
             --authentication-kubeconfig=@/kubeconfigs/scheduler --authorization-kubeconfig=@/kubeconfigs/scheduler",
        ),
        Part::new(
            "kubelet",
            &format!(
                "--config=@/etc/kubelet.yaml --kubeconfig=@/kubeconfigs/kubelet --root-dir=@/kubelet
                 --hostname-override=relay --node-ip={BRIDGE} --cgroup-root=/{cgroup}"
            ),
        ),
        Part::new("kube-proxy", "--config=@/etc/kube-proxy.yaml"),
        Part::new("coredns", "-conf=@/etc/Corefile"),
        Part::new(
            "local-path-provisioner",
            "start --config=@/etc/local-path.json --helper-pod-file=@/etc/helper-pod.yaml --kubeconfig=@/kubeconfigs/admin
             --helper-image=dev.local/shell:1 --service-account-name=local-path-provisioner",
        ),
    ]
}
