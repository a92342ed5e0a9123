//! People who have nothing but a client certificate: they show it to the service itself.

use std::{fs, path::Path, process::Command};

use relay_tests::{
    certificate::{Authority, Issued},
    kube::ApiServer,
    wait::eventually,
};

use crate::lab::{ENOUGH, Lab};

/// Status of an answer to the bearer of a certificate; 0 if the handshake fails.
fn status(lab: &Lab<'_>, ca: &Path, person: Option<&Issued>, path: &str) -> u16 {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{}/api/namespaces/{path}", lab.service.url());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "20", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code}", &url, "--cacert"]).arg(ca);
    if let Some(Issued { certificate, key }) = person {
        for (flag, name, content) in [("--cert", "cert", certificate), ("--key", "key", key)] {
            fs::write(folder.path().join(name), content).unwrap();
            curl.arg(flag).arg(folder.path().join(name));
        }
    }
    String::from_utf8(curl.output().unwrap().stdout).unwrap().parse().unwrap()
}

#[test]
fn a_certificate_of_the_clusters_authority_reads_as_the_user_that_it_names() {
    let Some(api) = ApiServer::find() else { return };
    let Some(admin) = api.client_certificate() else { return };
    let folder = tempfile::tempdir().unwrap();
    let own = Authority::new("relay");
    let Issued { certificate, key } = own.issue("127.0.0.1");
    let name = |name: &str| folder.path().join(name).display().to_string();
    let (ca, cert_file, key_file) = (name("ca"), name("cert"), name("key"));
    for (file, content) in [(&ca, own.pem()), (&cert_file, certificate), (&key_file, key)] {
        fs::write(file, content).unwrap();
    }
    let flags = ["--tls-cert-file", &cert_file, "--tls-key-file", &key_file];
    let lab = Lab::by_way_of(&api, &api.address(), &flags);
    let path = format!("{}/pods", lab.space.name());
    let ask = |person: Option<&Issued>| status(&lab, ca.as_ref(), person, &path);
    eventually(ENOUGH, "the service knows the authority of the cluster's users", || {
        ask(Some(&admin)) == 200
    });
    assert_eq!(ask(None), 401);
    // Whoever signs as the same user with another key is nobody.
    let stranger = Authority::new("test-ca").issue_user("admin", "system:masters");
    assert_eq!(ask(Some(&stranger)), 0);
    // Nor does the service's own authority vouch for people.
    let neighbour = own.issue_user("admin", "system:masters");
    assert_eq!(ask(Some(&neighbour)), 0);
    // One of the cluster's users without the right is told nothing.
    if let Some(powerless) = api.issue_user("relay-test-powerless") {
        assert_eq!(ask(Some(&powerless)), 404);
    }
}
