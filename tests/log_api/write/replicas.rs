//! Two services on one store.

use std::{collections::BTreeMap, thread};

use relay_tests::{on_shared_stores, service::Service, store::Store};
use serde_json::json;

use crate::lab::{Writer, client, crc32c, named};

on_shared_stores! {
    both_take_the_same_bytes_and_neither_takes_others,
    racing_appends_all_land_once,
    one_creation_wins_and_the_others_find_it,
}

/// Two services, and the stream that both of them write.
struct Pair {
    services: [Service; 2],
    writers: [Writer; 2],
}

impl Pair {
    fn on(store: &Store) -> Self {
        let services = [store.service(), store.service()];
        let writers = services.each_ref().map(|service| Writer::at(service, &named("i")).0);
        Self { services, writers }
    }

    fn read(&self, at: usize) -> Vec<u8> {
        let url = self.services[at].url();
        let url = format!("{url}/api/namespaces/local/pods/p/logs?format=raw");
        client().get(url).send().unwrap().bytes().unwrap().to_vec()
    }
}

fn both_take_the_same_bytes_and_neither_takes_others(store: &Store) {
    let pair = Pair::on(store);
    let [one, two] = &pair.writers;
    for at in 0..20 {
        let range = format!("bytes {}-{}/*", at * 5, at * 5 + 4);
        thread::scope(|scope| {
            let both = [one, two].map(|writer| scope.spawn(|| writer.patch(&range, b"hello")));
            for answer in both {
                assert_eq!(answer.join().unwrap().status, 202);
            }
        });
    }
    assert_eq!(two.patch("bytes 0-4/*", b"jello").status, 409);
    for at in 20..40 {
        let range = format!("bytes {}-{}/*", at * 5, at * 5 + 4);
        let statuses = thread::scope(|scope| {
            let first = scope.spawn(|| one.patch(&range, b"first").status);
            let other = scope.spawn(|| two.patch(&range, b"other").status);
            [first.join().unwrap(), other.join().unwrap()]
        });
        assert!([[202, 409], [409, 202]].contains(&statuses), "{statuses:?}");
    }
    let content = pair.read(0);
    assert_eq!((content.len(), &content), (200, &pair.read(1)));
    assert_eq!(two.end(200, &crc32c(&content)).status, 202);
    assert_eq!(one.end(200, &crc32c(&content)).status, 202, "it is the same end");
    assert_eq!(one.end(200, "00000000").status, 409);
}

fn racing_appends_all_land_once(store: &Store) {
    let pair = Pair::on(store);
    let landed: BTreeMap<String, String> = thread::scope(|scope| {
        let append = |task: usize| {
            let writer = &pair.writers[task % 2];
            let each = move |at: usize| {
                let line = format!("line {at} of {task}\n");
                let key = format!("{task}-{at}");
                let mut answer = writer.append(Some(&key), line.as_bytes());
                while answer.status == 429 {
                    answer = writer.append(Some(&key), line.as_bytes());
                }
                assert_eq!(answer.status, 202);
                (answer.header("content-range").to_owned(), line)
            };
            scope.spawn(move || (0..15).map(each).collect::<Vec<_>>())
        };
        let tasks: Vec<_> = (0..6).map(append).collect();
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    });
    assert_eq!(landed.len(), 90, "no two landed at the same place");
    let content = pair.read(0);
    assert_eq!(content, pair.read(1));
    assert_eq!(content.len(), landed.values().map(String::len).sum::<usize>());
    for (range, line) in landed {
        let (first, last) =
            range.trim_start_matches("bytes ").trim_end_matches("/*").split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(&content[first..=last], line.as_bytes());
    }
}

fn one_creation_wins_and_the_others_find_it(store: &Store) {
    let services = [store.service(), store.service()];
    for round in 0..5 {
        let body =
            json!({ "name": "stdout", "pod": "p", "instance": format!("i{round}"), "writer": "w" });
        let created = thread::scope(|scope| {
            let create = |at: usize| {
                scope.spawn({
                    let (service, body) = (&services[at % 2], &body);
                    move || Writer::at(service, body).1
                })
            };
            let all: Vec<_> = (0..8).map(create).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(created.iter().filter(|created| **created).count(), 1, "{created:?}");
    }
    let list = client().get(format!("{}/api/namespaces/local/pods/p", services[0].url()));
    let list: serde_json::Value =
        serde_json::from_str(&list.send().unwrap().text().unwrap()).unwrap();
    assert_eq!(list["streams"].as_array().unwrap().len(), 5);
}
