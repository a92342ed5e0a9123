//! A registry that answers wrongly, slowly or never gives a clause that says so, and nobody gets what is not theirs.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use relay_tests::registry::{
    Content, INDEX, MANIFEST,
    scripted::{Asked, Server, Shelf, challenge, endless, redirect, status},
};

use crate::lab::{Asker, Lab, REGISTRY, config_of, index_of, one, runs};

const IMAGE: &str = "registry.test/acme/app:1";

/// Asks a registry that answers like this for an image, and expects a clause with these words, and that it is counted
/// like this.
async fn refused(
    answer: impl Fn(&Asked) -> Response + Send + Sync + 'static,
    result: &str,
    words: &[&str],
) -> Vec<Asked> {
    let server = Server::new(answer).await;
    let lab = Lab::asking(&[&server.host()]);
    expect(&lab.find_as(&Asker::named(&["me"]), IMAGE).await.unwrap_err(), words);
    assert_eq!(lab.count(result), 1, "{result}: {words:?}");
    server.asked()
}

/// The same of one that takes too long.
async fn given_up(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) {
    let server = Server::new(answer).await;
    let lab = Lab::asking(&[&server.host()]);
    let clause = lab.find_in_time(&Asker::named(&["me"]), IMAGE).await.unwrap_err();
    // A machine with much else to do does not blame the registry.
    expect(&clause, &["try again later"]);
    assert_eq!(lab.count("slow") + lab.count("crowded"), 1);
}

fn expect(clause: &str, words: &[&str]) {
    for word in words {
        assert!(clause.contains(word), "{word}: {clause}");
    }
    assert!(clause.contains("; "), "what to do: {clause}");
}

#[tokio::test]
async fn a_status_that_is_no_success_is_named() {
    for (code, result, words) in [
        (401, "refused", &["refuses its image", "1 credentials", "check the pull secrets"][..]),
        (403, "refused", &["refuses its image"]),
        (404, "missing", &["does not have its image", "push it"]),
        (429, "busy", &["too many requests", "try again later"]),
        (500, "failing", &["status 500"]),
        (503, "failing", &["status 503"]),
        (418, "failing", &["status 418"]),
        (204, "failing", &["status 204"]),
        (304, "failing", &["status 304"]),
    ] {
        drop(refused(move |_| status(code), result, words).await);
    }
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up_on() {
    let asked = given_up(|_| endless(Vec::new(), Duration::from_hours(1)));
    let silent = async {
        // It takes connections, and says nothing.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Lab::asking(&[&listener.local_addr().unwrap().to_string()]);
        let clause = lab.find_in_time(&Asker::anybody(), IMAGE).await.unwrap_err();
        expect(&clause, &["did not answer in time"]);
    };
    let gone = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let lab = Lab::asking(&[&address]);
        let clause = lab.find(IMAGE).await.unwrap_err();
        assert!(clause.contains("cannot be reached"), "{clause}");
        assert_eq!(lab.count("unreachable"), 1);
    };
    tokio::join!(asked, silent, gone);
}

/// Answers HEAD like a registry that has an image, and GET like this.
fn on_get(
    get: impl Fn(&Asked, &Shelf) -> Response + Send + Sync + 'static,
) -> impl Fn(&Asked) -> Response + Send + Sync + 'static {
    let shelf = one("a");
    move |asked| if asked.method == Method::HEAD { shelf.answer(asked) } else { get(asked, &shelf) }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_not_read_to_its_end() {
    let flood = on_get(|_, _| endless(vec![b'['; 64 << 10], Duration::ZERO));
    let trickle = on_get(|_, _| endless(b"[".to_vec(), Duration::from_millis(50)));
    let claimed = on_get(|_, _| {
        let length = [(header::CONTENT_LENGTH, "5000000")];
        (length, Body::from(vec![b' '; 5_000_000])).into_response()
    });
    let config = on_get(|asked, shelf| {
        if asked.path.contains("/blobs/") {
            return endless(vec![b' '; 256 << 10], Duration::ZERO);
        }
        shelf.answer(asked)
    });
    tokio::join!(
        refused(flood, "wrong", &["more than 4096 KiB"]),
        given_up(trickle),
        refused(claimed, "wrong", &["more than 4096 KiB"]),
        refused(config, "wrong", &["more than 8192 KiB"]),
    );
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let other = Content::manifest(&config_of("evil", "amd64"));
    let manifest = on_get(move |_, _| {
        ([(header::CONTENT_TYPE, MANIFEST)], other.bytes.clone()).into_response()
    });
    let evil = config_of("evil", "amd64");
    let config = on_get(move |asked, shelf| {
        if asked.path.contains("/blobs/") {
            return evil.bytes.clone().into_response();
        }
        shelf.answer(asked)
    });
    let cut = on_get(|asked, shelf| {
        let bytes = shelf.answer(asked).into_body();
        let bytes = futures_util::FutureExt::now_or_never(axum::body::to_bytes(bytes, 1 << 20));
        let bytes = bytes.unwrap().unwrap();
        bytes.slice(..bytes.len() - 1).into_response()
    });
    drop(refused(manifest, "wrong", &["something else than sha256:"]).await);
    drop(refused(config, "wrong", &["something else than sha256:"]).await);
    drop(refused(cut, "wrong", &["something else than sha256:"]).await);
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    for (bytes, media_type, result, words) in [
        (&b"<html>"[..], MANIFEST, "wrong", "not that of an image"),
        (b"", MANIFEST, "wrong", "not that of an image"),
        (b"{}", MANIFEST, "wrong", "contradicts itself"),
        (b"{\"manifests\": []}", MANIFEST, "wrong", "contradicts itself"),
        (b"{\"schemaVersion\": 1}", MANIFEST, "wrong", "version 1"),
        (b"\xff\xfe", MANIFEST, "wrong", "not that of an image"),
        (b"{\"manifests\": []}", INDEX, "no-platform", "not made for linux/amd64"),
    ] {
        let shelf = Shelf::default().tag("1", &Content::of(bytes.to_vec(), media_type));
        drop(refused(move |asked| shelf.answer(asked), result, &[words]).await);
    }
    let nothing = Content::of(b"[]".to_vec(), "application/vnd.oci.image.config.v1+json");
    let shelf = Shelf::default().with(&nothing).tag("1", &Content::manifest(&nothing));
    drop(
        refused(
            move |asked| shelf.answer(asked),
            "wrong",
            &["configuration is not that of an image"],
        )
        .await,
    );
}

#[tokio::test]
async fn indexes_that_lead_to_indexes_end() {
    let image = Content::manifest(&config_of("a", "amd64"));
    let mut shelf = Shelf::default();
    let mut index = index_of(&[("linux/amd64", &image)]);
    for _ in 0..8 {
        shelf = shelf.with(&index);
        index = index_of(&[("linux/amd64", &index)]);
    }
    let shelf = shelf.tag("1", &index);
    let asked = refused(move |asked| shelf.answer(asked), "wrong", &["lead too deep"]).await;
    assert!(asked.len() < 8, "{}", asked.len());
}

#[tokio::test]
async fn redirects_are_followed_only_so_often_and_only_to_whom_it_is_safe() {
    let asked = refused(|asked| redirect(&asked.path), "wrong", &["more than 3 redirects"]).await;
    assert_eq!(asked.len(), 8, "a first question and three more, with a credential and without");
    drop(refused(|_| redirect("https://["), "wrong", &["redirect to nowhere"]).await);
    let trap = Server::new(|_| status(200)).await;
    for place in [
        format!("http://{}/x", trap.host()),
        format!("https://{}/x", trap.host()),
        format!("https://localhost:{}/x", trap.address.port()),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://[::1]/x".to_owned(),
        "https://relay-log-service.relay-system.svc:8443/x".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        drop(
            refused(
                move |_| redirect(&place),
                "forbidden",
                &["is not asked for its image, because"],
            )
            .await,
        );
    }
    assert_eq!(trap.asked().len(), 0);
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_credential() {
    let password = format!("Basic {}", STANDARD.encode("me:secret"));
    let shelf = one("a");
    let expected = password.clone();
    let server = Server::new(move |asked| match asked.path.strip_prefix("/moved") {
        _ if asked.authorization() != Some(&expected) => challenge("Basic realm=\"x\""),
        None => redirect(&format!("/moved{}", asked.path)),
        Some(_) => shelf.answer(asked),
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    assert_eq!(lab.find_as(&Asker::named(&["me"]), IMAGE).await, Ok(runs("a")));
}

/// Whom a registry sends for a token.
fn bearer(realm: &str) -> Response {
    challenge(&format!("Bearer realm=\"{realm}\",service=\"x\",scope=\"repository:acme/app:pull\""))
}

#[tokio::test]
async fn credentials_go_to_no_token_server_that_is_local_or_without_tls() {
    let trap = Server::new(|_| r#"{"token": "x"}"#.into_response()).await;
    for realm in [
        format!("http://{}/token", trap.host()),
        format!("https://{}/token", trap.host()),
        format!("http://localhost:{}/token", trap.address.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://[fd00:ec2::254]/".to_owned(),
        "http://auth.example.com/token".to_owned(),
    ] {
        let asked =
            refused(move |_| bearer(&realm), "forbidden", &["is not asked for its image, because"])
                .await;
        assert!(asked.iter().all(|asked| asked.authorization().is_none()), "{asked:?}");
    }
    assert_eq!(trap.asked().len(), 0);
    drop(refused(|_| bearer("nowhere"), "wrong", &["a token server that is nowhere"]).await);
}

#[tokio::test]
async fn a_token_server_that_the_configuration_names_is_asked_with_the_credential() {
    let shelf = one("a");
    let tokens = Server::new(|asked| match asked.authorization() {
        Some(_) => r#"{"access_token": "good"}"#.into_response(),
        None => status(401),
    })
    .await;
    let realm = format!("http://{}/token", tokens.host());
    let server = Server::new(move |asked| match asked.authorization() {
        Some("Bearer good") => shelf.answer(asked),
        _ => bearer(&realm),
    })
    .await;
    let lab = Lab::with(&format!(
        "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'http://{}', local: true, credentials: Registry, tokenServers: ['http://{}']}}]}}]",
        server.host(),
        tokens.host()
    ));
    assert_eq!(lab.find_as(&Asker::named(&["me"]), IMAGE).await, Ok(runs("a")));
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1, "one token is enough");
    assert_eq!(asked[0].path, "/token?scope=repository%3Aacme%2Fapp%3Apull&service=x");
    assert_eq!(asked[0].authorization(), Some(&*format!("Basic {}", STANDARD.encode("me:secret"))));
    assert!(lab.find(IMAGE).await.is_err(), "nobody else gets it");
}

#[tokio::test]
async fn an_answer_of_a_token_server_that_is_no_token_is_refused() {
    for answer in [
        "",
        "{}",
        "[]",
        r#"{"token": ""}"#,
        r#"{"token": "a\r\nHost: evil"}"#,
        r#"{"token": "a\u0000"}"#,
        r#"{"token": 7}"#,
    ] {
        let own = move |asked: &Asked| match asked.path.as_str() {
            path if path.starts_with("/token") => answer.into_response(),
            _ => {
                let host = asked.headers[header::HOST].to_str().unwrap();
                bearer(&format!("http://{host}/token"))
            }
        };
        drop(refused(own, "wrong", &["gives no token"]).await);
    }
}

#[tokio::test]
async fn challenges_of_whom_the_registry_redirects_to_are_not_answered() {
    let trap = Server::new(|_| challenge("Basic realm=\"x\"")).await;
    let place = format!("http://{}/blob", trap.host());
    let server = Server::new(move |_| redirect(&place)).await;
    let lab = Lab::with(&format!(
        "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'http://{}', local: true, credentials: Registry, tokenServers: ['http://{}']}}]}}]",
        server.host(),
        trap.host()
    ));
    let clause = lab.find_as(&Asker::named(&["me"]), IMAGE).await.unwrap_err();
    assert!(clause.contains("refuses its image"), "{clause}");
    let asked = trap.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.authorization().is_none()));
}

#[tokio::test]
async fn local_addresses_are_asked_only_if_the_configuration_says_so() {
    let trap = Server::new(|_| status(200)).await;
    let port = trap.address.port();
    let lab = Lab::with("");
    for image in [
        format!("127.0.0.1:{port}/app"),
        format!("localhost:{port}/app"),
        format!("0.0.0.0:{port}/app"),
        format!("127.1:{port}/app"),
        format!("0x7f.1:{port}/app"),
        "169.254.169.254/app".to_owned(),
        "100.100.100.200/app".to_owned(),
        "relay-log-service.relay-system.svc:8443/app".to_owned(),
    ] {
        let clause = lab.find(&image).await.unwrap_err();
        assert!(clause.contains("is not asked for its image, because"), "{image}: {clause}");
    }
    assert_eq!((trap.asked().len(), lab.count("forbidden")), (0, 8));
    let clause = lab.find("NGINX").await.unwrap_err();
    assert!(clause.contains("not valid"), "{clause}");
    assert_eq!(lab.count("bad-name"), 1);
}
