//! An API server that does not answer.

use relay_tests::{
    kube::{ApiServer, gate::Gate},
    wait::eventually,
};

use crate::lab::{ENOUGH, Lab};

#[test]
fn while_the_api_server_is_away_known_rights_hold_and_new_ones_wait() {
    let Some(api) = ApiServer::find() else { return };
    let gate = Gate::to(&api.address());
    let lab = Lab::by_way_of(&api, gate.address(), &[]);
    let (known, new) = (lab.pod_token(), lab.pod_token());
    let (reader, late) = (lab.reader("reader", &[]), lab.reader("late", &[]));
    lab.write(&known, "one", "hello\n");
    assert_eq!(lab.log(&reader, "web").0, 200);
    gate.close();
    let refused = lab.create(&new, "two");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    let text = refused.text().unwrap();
    assert!(text.contains("the API server of the cluster does not answer"), "{text}");
    assert_eq!(lab.log(&late, "web").0, 503);
    // What is known stays, and what is written needs no right but its id.
    lab.write(&known, "three", "again\n");
    assert_eq!(lab.log(&reader, "web").0, 200);
    gate.open();
    eventually(ENOUGH, "new rights are found again", || {
        lab.create(&new, "two").status() == 200 && lab.log(&late, "web").0 == 200
    });
}

#[test]
fn a_service_without_the_right_to_ask_says_what_it_lacks() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    drop(lab.space.account("powerless"));
    let token = lab.space.token("powerless", None, None);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let content = lab.space.kubeconfig(&api.address(), &token).to_string();
    std::fs::write(&kubeconfig, content).unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let flags = ["--store", "memory:", "--auth", "kube", "--kubeconfig", kubeconfig];
    let service = relay_tests::service::Service::with(&flags);
    let request = lab.client.post(format!("{}/logs", service.url())).bearer_auth(lab.pod_token());
    let request = request.header("content-type", "application/json");
    let answer = request.body(r#"{"name":"stdout"}"#).send().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(service.log().contains("system:auth-delegator"), "{}", service.log());
}
