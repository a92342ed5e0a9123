//! Two services on one store.

use std::{collections::BTreeMap, thread};

use relay_tests::service::{Service, files};
use serde_json::json;

use super::lab::{Writer, client, crc32c};

/// Two services, and the stream that both of them write.
struct Pair {
    folder: tempfile::TempDir,
    services: [Service; 2],
    writers: [Writer; 2],
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let services = [Service::on_folder(folder.path()), Service::on_folder(folder.path())];
        let body = json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "w" });
        let writers = services.each_ref().map(|service| Writer::at(service, &body).0);
        Self { folder, services, writers }
    }

    fn read(&self, at: usize) -> Vec<u8> {
        let url = self.services[at].url();
        let url = format!("{url}/api/namespaces/local/pods/p/logs?format=raw");
        client().get(url).send().unwrap().bytes().unwrap().to_vec()
    }
}

#[test]
fn both_take_the_same_bytes_and_neither_takes_others() {
    let pair = Pair::new();
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
    assert_eq!(files(pair.folder.path(), "/d/").len(), 20);
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

#[test]
fn racing_appends_all_land_once() {
    let pair = Pair::new();
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

#[test]
fn one_creation_wins_and_the_others_find_it() {
    let folder = tempfile::tempdir().unwrap();
    let services = [Service::on_folder(folder.path()), Service::on_folder(folder.path())];
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
    assert_eq!(files(folder.path(), "/pods/").len(), 5);
}
