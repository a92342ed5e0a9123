use std::fs;

use relay_tests::service::{Service, refused, taken_port};

use crate::lab::{client, create, send};
use serde_json::json;

#[test]
fn what_cannot_work_ends_with_one_clear_sentence() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = format!("file://{}/store", file.path().display());
    let (_listener, taken) = taken_port();
    for (flags, says) in [
        (vec!["--listen", "0.0.0.0:0", "--store", "memory:"], "use --auth hmac"),
        (
            vec!["--listen", "127.0.0.1:0", "--store", "memory:", "--auth", "hmac"],
            "needs --key-dir",
        ),
        (vec!["--listen", "127.0.0.1:0", "--store", &below], "/store"),
        (vec!["--listen", &taken, "--store", "memory:"], "failed to listen on"),
        (vec!["--store", "s3://bucket"], "is not a store"),
        (vec!["--store", "memory:", "--frobnicate"], "--frobnicate"),
        (vec!["--listen", "127.0.0.1:0", "--store", "memory:", "--key-dir", "/none"], "/none"),
    ] {
        let (status, stderr) = refused(&flags);
        assert!(status.is_some_and(|status| status != 0), "{flags:?}");
        assert!(stderr.contains(says), "{flags:?}: {stderr}");
    }
}

#[test]
fn with_hmac_a_token_is_needed_to_create_a_stream() {
    let keys = tempfile::tempdir().unwrap();
    fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
    let keys = keys.path().to_str().unwrap().to_owned();
    let service = Service::with(&["--store", "memory:", "--auth", "hmac", "--key-dir", &keys]);
    let answer = create(&service, &json!({ "name": "stdout" }));
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
    let request = client().post(format!("{}/logs", service.url())).bearer_auth("relay_forged");
    assert_eq!(send(request.body(r#"{"name":"stdout"}"#)).status, 404);
}

#[test]
fn health_and_the_one_line_at_the_start() {
    let service = Service::in_memory();
    for path in ["/livez", "/readyz"] {
        assert_eq!(send(client().get(format!("{}{path}", service.url()))).status, 200);
    }
    let address = service.url().trim_start_matches("http://").to_owned();
    assert!(service.log().contains(&format!("address={address}")), "{}", service.log());
    assert_eq!(service.log().lines().count(), 1);
}
