//! Every credential is tried in turn, at every endpoint, and goes to nobody else.

use base64::{Engine, engine::general_purpose::STANDARD};
use relay_tests::registry::scripted::{Asked, Server, Shelf, challenge, status};

use crate::lab::{Asker, Lab, REGISTRY, keychain, one, runs};

const IMAGE: &str = "registry.test/acme/app:1";

/// Who asked, in turn; whoever asks the same again is not repeated.
fn askers(asked: &[Asked]) -> Vec<String> {
    let mut askers: Vec<_> = asked.iter().filter_map(Asked::authorization).map(who).collect();
    askers.dedup();
    askers
}

fn who(authorization: &str) -> String {
    let encoded = authorization.strip_prefix("Basic ").unwrap();
    let text = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
    text.strip_suffix(":secret").unwrap().to_owned()
}

/// A registry that lets in who has this name.
async fn for_one(name: &'static str, shelf: Shelf) -> Server {
    Server::new(move |asked| match asked.authorization().map(who) {
        Some(given) if given == name => shelf.answer(asked),
        Some(_) => status(403),
        None => challenge("Basic realm=\"x\""),
    })
    .await
}

#[tokio::test]
async fn each_credential_is_tried_until_one_is_good_enough() {
    let server = for_one("third", one("a")).await;
    let lab = Lab::asking(&[&server.host()]);
    let asker = Asker::named(&["first", "second", "third", "fourth"]);
    assert_eq!(lab.find_as(&asker, IMAGE).await, Ok(runs("a")));
    assert_eq!(askers(&server.asked()), ["first", "second", "third"]);
}

#[tokio::test]
async fn a_credential_that_is_no_good_does_not_hide_a_public_image() {
    let shelf = one("a");
    let server = Server::new(move |asked| match asked.authorization() {
        Some(_) => status(401),
        None if asked.path.contains("/public/") => shelf.answer(asked),
        None => challenge("Basic realm=\"x\""),
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    let asker = Asker::named(&["expired"]);
    assert_eq!(lab.find_as(&asker, "registry.test/public/app:1").await, Ok(runs("a")));
    let clause = lab.find_as(&asker, "registry.test/private/app:1").await.unwrap_err();
    assert!(clause.contains("anonymously and with 1 credentials"), "{clause}");
}

#[tokio::test]
async fn mirrors_are_asked_in_turn_and_a_path_is_put_before_the_repository() {
    let shelf = one("a");
    let empty = Server::new(|_| status(404)).await;
    let mirror = Server::new(move |asked| {
        if asked.path.starts_with("/v2/hub/deep/acme/app/") {
            shelf.answer(asked)
        } else {
            status(400)
        }
    })
    .await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let lab = Lab::with(&format!(
        "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'http://{nobody}', local: true}}, {{url: 'http://{}', local: true}}, {{url: 'http://{}/hub/deep/', local: true}}]}}]",
        empty.host(),
        mirror.host()
    ));
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    assert_eq!(empty.asked().len(), 1);
}

#[tokio::test]
async fn credentials_for_a_registry_go_to_its_mirror_only_if_the_configuration_says_so() {
    let server = for_one("me", one("a")).await;
    let lab = |credentials: &str| {
        Lab::with(&format!(
            "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'http://{}', local: true, credentials: {credentials}}}]}}]",
            server.host()
        ))
    };
    let for_registry = Asker::named(&["me"]);
    let for_mirror = Asker { keychain: keychain(&[&server.host()], &["me"]), ..Asker::anybody() };
    assert_eq!(lab("Registry").find_as(&for_registry, IMAGE).await, Ok(runs("a")));
    assert_eq!(lab("Endpoint").find_as(&for_mirror, IMAGE).await, Ok(runs("a")));
    drop(server.asked());
    assert!(lab("Endpoint").find_as(&for_registry, IMAGE).await.is_err());
    assert!(lab("Registry").find_as(&for_mirror, IMAGE).await.is_err());
    assert!(server.asked().iter().all(|asked| asked.authorization().is_none()));
}

#[tokio::test]
async fn a_credential_for_another_registry_is_not_shown() {
    let server = for_one("me", one("a")).await;
    let lab = Lab::asking(&[&server.host()]);
    let asker = Asker {
        keychain: keychain(&["other.test", "registry.test/other"], &["me"]),
        ..Asker::anybody()
    };
    assert!(lab.find_as(&asker, IMAGE).await.is_err());
    assert!(server.asked().iter().all(|asked| asked.authorization().is_none()));
}

#[tokio::test]
async fn where_registries_are_never_asked_the_map_alone_says_what_images_run() {
    let server = Server::new(|_| status(200)).await;
    let host = server.host();
    let lab = Lab::with(&format!(
        "lookup: Never
registries: [{{host: '{host}', endpoints: [{{url: 'http://{host}', local: true}}]}}]
images: [{{name: '{host}/known', entrypoint: [a], cmd: ['--$(x)']}}]"
    ));
    assert_eq!(lab.find(&format!("{host}/known:7")).await, Ok(runs("a")));
    let clause = lab.find(&format!("{host}/unknown")).await.unwrap_err();
    assert!(clause.contains("not asked in this cluster; add it to the images"), "{clause}");
    assert_eq!((lab.count("static"), lab.count("not-asked")), (1, 1));
    assert_eq!(server.asked().len(), 0);
}
