//! What a registry said counts for as long as it should, and for nobody else.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::Method, response::IntoResponse as _};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, future::join_all, stream};
use relay_tests::registry::{
    CONFIG, Content, MANIFEST,
    scripted::{Server, Shelf, challenge, endless, never, status},
};
use serde_json::json;
use tokio::{sync::Semaphore, time};

use crate::lab::{Asker, Lab, config_of, index_of, one, runs};

const IMAGE: &str = "registry.test/acme/app:1";

/// Lets time pass at once. Nothing may be under way.
async fn pass(seconds: u64) {
    time::pause();
    time::advance(Duration::from_secs(seconds)).await;
    time::resume();
}

async fn serving(shelf: Shelf) -> (Server, Lab) {
    let server = Server::new(move |asked| shelf.answer(asked)).await;
    let lab = Lab::asking(&[&server.host()]);
    (server, lab)
}

#[tokio::test]
async fn within_a_minute_nobody_is_asked_again_and_then_only_what_the_tag_stands_for() {
    let (server, lab) = serving(one("a")).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    let asked: Vec<_> = server.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(asked, [Method::HEAD, Method::GET, Method::GET]);
    for _ in 0..10 {
        assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    }
    assert_eq!((server.asked().len(), lab.count("remembered")), (0, 10));
    pass(61).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    assert_eq!(lab.count("asked"), 2);
    let asked: Vec<_> = server.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(asked, [Method::HEAD]);
}

#[tokio::test]
async fn a_tag_that_moves_is_followed_after_a_minute() {
    let (server, lab) = serving(one("a")).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    let moved = one("b");
    server.answer(move |asked| moved.answer(asked));
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    pass(61).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("b")));
}

#[tokio::test]
async fn a_registry_that_fails_leaves_what_it_said_within_the_last_day() {
    let (server, lab) = serving(one("a")).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    drop(server.asked());
    let mut times = 0;
    for code in [429, 500, 503] {
        pass(61).await;
        server.answer(move |_| status(code));
        assert_eq!(lab.find(IMAGE).await, Ok(runs("a")), "{code}");
        assert_eq!(server.asked().len(), 1, "{code}: it is asked once");
        assert_eq!(lab.find(IMAGE).await, Ok(runs("a")), "{code}");
        assert_eq!(server.asked().len(), 0, "{code}: it is left alone for a while");
        times += 2;
        assert_eq!(lab.count("stale"), times);
    }
    pass(61).await;
    server.answer(|_| endless(Vec::new(), Duration::from_hours(1)));
    let anybody = Asker::anybody();
    let found = lab.find_in_time(&anybody, IMAGE).await;
    assert_eq!(found, Ok(runs("a")), "one that never answers");
    pass(24 * 60 * 60).await;
    let clause = lab.find_in_time(&anybody, IMAGE).await.unwrap_err();
    assert!(clause.contains("in time"), "{clause}");
}

#[tokio::test]
async fn a_registry_that_says_no_is_believed() {
    for code in [401, 403, 404] {
        let (server, lab) = serving(one("a")).await;
        assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
        server.answer(move |_| status(code));
        pass(61).await;
        assert!(lab.find(IMAGE).await.is_err(), "{code}");
        drop(server.asked());
        assert!(lab.find(IMAGE).await.is_err(), "{code}");
        assert_eq!(server.asked().len(), 0, "{code}: it need not say it again at once");
        let back = one("b");
        server.answer(move |asked| back.answer(asked));
        pass(11).await;
        assert_eq!(lab.find(IMAGE).await, Ok(runs("b")), "{code}");
    }
}

#[tokio::test]
async fn an_image_that_moved_and_does_not_come_is_not_taken_for_the_one_before() {
    let (server, lab) = serving(one("a")).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    let moved = one("b");
    server.answer(move |asked| match asked.method {
        Method::HEAD => moved.answer(asked),
        _ => status(429),
    });
    pass(61).await;
    for _ in 0..3 {
        let clause = lab.find(IMAGE).await.unwrap_err();
        assert!(clause.contains("too many requests"), "{clause}");
    }
}

#[tokio::test]
async fn fifty_pods_at_once_cause_one_question() {
    let shelf = one("a");
    let (server, lab) = serving(shelf).await;
    let found = join_all((0..50).map(|_| lab.find(IMAGE))).await;
    assert!(found.iter().all(|found| *found == Ok(runs("a"))));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn what_one_tenant_may_see_is_not_shown_to_another() {
    let password = format!("Basic {}", STANDARD.encode("me:secret"));
    let shelf = one("a");
    let server = Server::new(move |asked| match asked.authorization() {
        Some(given) if given == password => shelf.answer(asked),
        _ => challenge("Basic realm=\"x\""),
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    let digest = Content::manifest(&config_of("a", "amd64")).digest;
    for image in [IMAGE.to_owned(), format!("registry.test/acme/app@{digest}")] {
        assert_eq!(lab.find_as(&Asker::named(&["me"]), &image).await, Ok(runs("a")));
        for stranger in [Asker::anybody(), Asker::named(&["you"])] {
            let clause = lab.find_as(&stranger, &image).await.unwrap_err();
            assert!(clause.contains("refuses its image"), "{clause}");
        }
        // The same credential is the same right, wherever it comes from.
        drop(server.asked());
        let twin = Asker { namespace: "twin".to_owned(), ..Asker::named(&["me"]) };
        assert_eq!(lab.find_as(&twin, &image).await, Ok(runs("a")));
        assert_eq!(server.asked().len(), 0);
    }
}

#[tokio::test]
async fn content_of_a_repository_that_one_may_not_read_is_not_shown_by_another_that_names_it() {
    let secret = config_of("secret", "amd64");
    let image = Content::manifest(&secret);
    let index = index_of(&[("linux/amd64", &image)]);
    let private = Shelf::default().with(&secret).tag("1", &image);
    // The thief knows the digest, and has pushed an index that names it.
    let thief = Shelf::default().tag("1", &index);
    let server = Server::new(move |asked| {
        if asked.path.starts_with("/v2/private/") {
            return private.answer(asked);
        }
        thief.answer(asked)
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    assert_eq!(lab.find("registry.test/private/app:1").await, Ok(runs("secret")));
    let clause = lab.find("registry.test/thief/app:1").await.unwrap_err();
    assert!(clause.contains("does not have its image"), "{clause}");
}

#[tokio::test]
async fn an_image_that_is_not_made_for_one_pod_is_found_for_another() {
    let config = config_of("a", "amd64");
    let image = Content::manifest(&config);
    let index = index_of(&[("linux/amd64", &image)]);
    let shelf = Shelf::default().with(&config).with(&image).tag("1", &index);
    let (_server, lab) = serving(shelf).await;
    let elsewhere = Asker::on(&["linux/arm64"]);
    for _ in 0..2 {
        let clause = lab.find_as(&elsewhere, IMAGE).await.unwrap_err();
        assert!(clause.contains("not made for linux/arm64"), "{clause}");
        assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
    }
}

/// A registry that never ends its answers about images below `slow/`.
async fn slow_for_some() -> (Server, Lab) {
    let shelf = one("a");
    let server = Server::new(move |asked| {
        if asked.path.contains("/slow/") {
            return endless(Vec::new(), Duration::from_hours(1));
        }
        shelf.answer(asked)
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    (server, lab)
}

#[tokio::test]
async fn an_image_that_a_crowded_namespace_waits_for_is_found_for_another() {
    let (_server, lab) = slow_for_some().await;
    let greedy = Asker { namespace: "greedy".to_owned(), ..Asker::anybody() };
    let mut images: Vec<_> =
        (0..50).map(|number| format!("registry.test/slow/app:{number}")).collect();
    images.push(IMAGE.to_owned());
    let waiting = join_all(images.iter().map(|image| lab.find_in_time(&greedy, image)));
    let (_, found) = tokio::join!(waiting, lab.find(IMAGE));
    assert_eq!(found, Ok(runs("a")));
}

#[tokio::test]
async fn a_namespace_that_waits_for_many_does_not_keep_another_waiting() {
    let (_server, lab) = slow_for_some().await;
    let greedy = Asker { namespace: "greedy".to_owned(), ..Asker::anybody() };
    let images: Vec<_> =
        (0..100).map(|number| format!("registry.test/slow/app:{number}")).collect();
    let waiting = join_all(images.iter().map(|image| lab.find_in_time(&greedy, image)));
    let (refused, found) = tokio::join!(waiting, lab.find(IMAGE));
    assert_eq!(found, Ok(runs("a")));
    assert!(refused.iter().all(Result::is_err));
    let (asked, waited) = (lab.count("slow"), lab.count("crowded"));
    assert!(waited > asked && asked + waited == 100, "{asked} {waited}");
}

#[tokio::test]
async fn large_answers_that_stop_on_their_way_do_not_keep_those_of_another_waiting() {
    let mut config: serde_json::Value =
        serde_json::from_slice(&config_of("a", "amd64").bytes).unwrap();
    config["history"] = json!([{"comment": "x".repeat(300 << 10)}]);
    let shelf = Shelf::of_image(&Content::json(&config, CONFIG), &["1"]);
    let stopped = Arc::new(Semaphore::new(0));
    let stops = Arc::clone(&stopped);
    let server = Server::new(move |asked| {
        if !asked.path.contains("/slow/") || asked.method == Method::HEAD {
            return shelf.answer(asked);
        }
        let stops = Arc::clone(&stops);
        let rest = stream::once(async move {
            stops.add_permits(1);
            pending::<Vec<u8>>().await
        });
        let pieces = stream::iter([vec![b' '; 300 << 10]]).chain(rest);
        Body::from_stream(pieces.map(Ok::<_, Infallible>)).into_response()
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    let greedy = Asker { namespace: "greedy".to_owned(), ..Asker::anybody() };
    let images: Vec<_> = (0..5).map(|number| format!("registry.test/slow/{number}:1")).collect();
    let waiting = join_all(images.iter().map(|image| lab.find_as(&greedy, image)));
    let other = async {
        drop(stopped.acquire_many(5).await);
        lab.find_within(Duration::from_secs(20), &Asker::anybody(), IMAGE).await
    };
    let found = tokio::select! {
        found = other => found,
        refused = waiting => panic!("none of them ends before: {refused:?}"),
    };
    assert_eq!(found, Ok(runs("a")));
}

#[tokio::test]
async fn a_registry_that_does_not_name_digests_is_understood_too() {
    let shelf = one("a");
    let (server, lab) = serving(shelf.clone()).await;
    server.answer(move |asked| {
        let mut response = shelf.answer(asked);
        response.headers_mut().remove("docker-content-digest");
        response.into_response()
    });
    assert_eq!(lab.find(IMAGE).await, Ok(runs("a")));
}

#[tokio::test]
async fn what_is_missing_for_one_platform_is_there_for_others() {
    let config = config_of("a", "amd64");
    let image = Content::manifest(&config);
    let missing = Content::manifest(&config_of("b", "s390x"));
    // Builders put proofs beside images, and any pod may say that it runs there.
    let nothing = Content::of(b"{}".to_vec(), "application/vnd.oci.empty.v1+json");
    let proof = json!({"schemaVersion": 2, "config": nothing.descriptor(), "layers": []});
    let proof = Content::json(&proof, MANIFEST);
    let index = index_of(&[
        ("linux/amd64", &image),
        ("linux/s390x", &missing),
        ("unknown/unknown", &proof),
    ]);
    let shelf = Shelf::default().with(&config).with(&image).with(&proof).with(&nothing);
    let (_server, lab) = serving(shelf.tag("1", &index)).await;
    for platform in ["linux/s390x", "unknown/unknown"] {
        let greedy = Asker { namespace: "greedy".to_owned(), ..Asker::on(&[platform]) };
        assert!(lab.find_as(&greedy, IMAGE).await.is_err(), "{platform}");
        assert_eq!(lab.find(IMAGE).await, Ok(runs("a")), "beside {platform}");
    }
}

#[tokio::test]
async fn a_registry_that_fails_is_left_alone_also_by_pods_that_need_more_of_the_image() {
    let images = ["amd64", "arm64"].map(|on| config_of(on, on));
    let manifests = images.each_ref().map(Content::manifest);
    let [amd, arm] = &manifests;
    let index = index_of(&[("linux/amd64", amd), ("linux/arm64", arm)]);
    let shelf = images.iter().chain(&manifests).fold(Shelf::default(), Shelf::with);
    let (server, lab) = serving(shelf.tag("1", &index)).await;
    assert_eq!(lab.find(IMAGE).await, Ok(runs("amd64")));
    pass(61).await;
    server.answer(|_| status(503));
    assert_eq!(lab.find(IMAGE).await, Ok(runs("amd64")), "what it said before");
    drop(server.asked());
    let clause = lab.find_as(&Asker::on(&["linux/arm64"]), IMAGE).await.unwrap_err();
    assert!(clause.contains("status 503") && server.asked().is_empty(), "{clause}");
}

#[tokio::test]
async fn whoever_joins_a_question_has_time_of_its_own() {
    let (shelf, is_first) = (one("a"), AtomicBool::new(true));
    let server = Server::new(move |asked| {
        if asked.method == Method::GET && is_first.swap(false, Ordering::SeqCst) {
            return never();
        }
        shelf.answer(asked)
    })
    .await;
    let lab = Lab::asking(&[&server.host()]);
    // It waited for a turn of its namespace before.
    let hurried = Asker { namespace: "hurried".to_owned(), ..Asker::anybody() };
    let hurried = lab.find_within(Duration::from_secs(1), &hurried, IMAGE);
    let (hurried, calm) = tokio::join!(hurried, lab.find(IMAGE));
    assert!(hurried.is_err());
    assert_eq!(calm, Ok(runs("a")));
}
