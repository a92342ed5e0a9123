//! Who gets a stream, and for how long.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use relay_protocol::capability::{KeyId, KeyRing, StreamClaim};
use relay_tests::{on_every_store, on_shared_stores, service::Service, store::Store};
use serde_json::{Value, json};

use crate::lab::{Writer, client, create, named, read};

on_every_store! {
    of_two_writers_one_gets_the_name,
    the_same_append_sent_twice_at_the_same_time_lands_once,
    an_id_is_renewed_by_asking_again,
}

mod shared {
    use super::*;

    on_shared_stores! {
        of_two_writers_at_two_services_one_gets_the_name,
    }

    fn of_two_writers_at_two_services_one_gets_the_name(store: &Store) {
        race(&[&store.service(), &store.service()]);
    }
}

/// Lets writers race for names: those with the secret that wins all get the stream.
fn race(services: &[&Service]) {
    for round in 0..20 {
        let answers: Vec<(usize, u16, Value)> = thread::scope(|scope| {
            let create = |at: usize| {
                let mut body = named(&format!("i{round}"));
                body["writer"] = json!(format!("secret {}", at % 2));
                // Both writers at both services.
                let service = services[at / 2 % services.len()];
                scope.spawn(move || {
                    let answer = create(service, &body);
                    let status = answer.status;
                    (at % 2, status, if status == 200 { answer.json() } else { Value::Null })
                })
            };
            let all: Vec<_> = (0..8).map(create).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let created = answers.iter().filter(|answer| answer.2["created"] == true);
        let winners: Vec<usize> = created.map(|answer| answer.0).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        for (writer, status, _) in &answers {
            assert_eq!(*status, if *writer == winners[0] { 200 } else { 409 }, "{answers:?}");
        }
    }
    let list = client().get(format!("{}/api/namespaces/local/pods/p", services[0].url()));
    let list: Value = serde_json::from_str(&list.send().unwrap().text().unwrap()).unwrap();
    assert_eq!(list["streams"].as_array().unwrap().len(), 20, "each is listed once");
}

fn of_two_writers_one_gets_the_name(store: &Store) {
    race(&[&store.service()]);
}

fn the_same_append_sent_twice_at_the_same_time_lands_once(store: &Store) {
    let service = store.service();
    let (writer, _) = Writer::at(&service, &named("i"));
    for round in 0..20 {
        let (key, line) = (format!("k{round}"), format!("line {round:02}\n"));
        let places: Vec<String> = thread::scope(|scope| {
            let append = |_| {
                scope.spawn(|| {
                    let answer = writer.append(Some(&key), line.as_bytes());
                    assert_eq!(answer.status, 202);
                    answer.header("content-range").to_owned()
                })
            };
            let both: Vec<_> = (0..3).map(append).collect();
            both.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let place = format!("bytes {}-{}/*", round * 8, round * 8 + 7);
        assert!(places.iter().all(|one| *one == place), "{places:?}");
    }
    let expected: Vec<u8> =
        (0..20).flat_map(|round| format!("line {round:02}\n").into_bytes()).collect();
    assert_eq!(read(&service), expected);
}

fn an_id_is_renewed_by_asking_again(store: &Store) {
    let keys = tempfile::tempdir().unwrap();
    fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
    let service = store.service_with(&["--key-dir", keys.path().to_str().unwrap()]);
    let (first, created) = Writer::at(&service, &named("i"));
    assert!(created);
    assert_eq!(first.put_at(0, b"hello").status, 202);
    let ring = KeyRing::new(KeyId(1), vec![1; 32]).unwrap();
    let id = first.url.rsplit('/').next().unwrap();
    let claim = StreamClaim::verify(id, &ring, 0).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let in_a_day = (now + Duration::from_hours(24)).as_secs();
    assert!((in_a_day - 120..=in_a_day + 3_600).contains(&claim.expires), "{}", claim.expires);
    // The same stream's id as it is an hour before its end, and an hour after.
    let aged = |expires: u64| {
        let id = StreamClaim { expires, ..claim.clone() }.sign(&ring);
        Writer::with(client(), format!("{}/logs/{id}", service.url()))
    };
    let old = aged(now.as_secs() + 3_700);
    assert_eq!(old.put_at(5, b" world").status, 202);
    let gone = aged(now.as_secs() - 3_700);
    assert_eq!(gone.put_at(11, b"!").status, 404);
    assert_eq!(gone.mark(11, 1).status, 404);
    let (renewed, created) = Writer::at(&service, &named("i"));
    assert!(!created);
    assert_eq!(renewed.head(), (11, String::new()));
    assert_eq!(renewed.put_at(11, b"!").status, 202);
    assert_eq!(old.head(), (12, String::new()), "the old one is good until its end");
    assert_eq!(read(&service), b"hello world!");
}
