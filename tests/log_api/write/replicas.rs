//! Two services on one store.

use std::{collections::BTreeMap, thread};

use relay_tests::{on_shared_stores, service::Service, store::Store};

use crate::lab::{Writer, client, crc32c, named};

on_shared_stores! {
    both_take_the_same_bytes_and_neither_takes_others,
    a_longer_range_is_stored_behind_a_shorter_one,
    a_longer_range_that_begins_otherwise_is_refused_whole,
    racing_appends_all_land_once,
    an_append_that_is_repeated_at_another_service_is_not_added_again,
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

fn a_longer_range_is_stored_behind_a_shorter_one(store: &Store) {
    let pair = Pair::on(store);
    let [one, two] = &pair.writers;
    assert_eq!(one.put_at(0, b"hello").status, 202);
    // The second service does not know of it.
    assert_eq!(two.put_at(0, b"hello world").status, 202);
    assert_eq!(one.put_at(3, b"lo wo").status, 202);
    assert_eq!((pair.read(0), pair.read(1)), (b"hello world".to_vec(), b"hello world".to_vec()));
    assert_eq!(one.put_at(20, b"a longer one").status, 202);
    assert_eq!(two.put_at(20, b"a long").status, 202);
    assert_eq!(two.put_at(11, &[b'x'; 9]).status, 202);
    assert_eq!(one.end(32, &crc32c(b"hello worldxxxxxxxxxa longer one")).status, 202);
}

fn a_longer_range_that_begins_otherwise_is_refused_whole(store: &Store) {
    let pair = Pair::on(store);
    let [one, two] = &pair.writers;
    assert_eq!(one.put_at(0, b"hello").status, 202);
    assert_eq!(two.put_at(0, b"jello world").status, 409);
    assert_eq!((pair.read(0), pair.read(1)), (b"hello".to_vec(), b"hello".to_vec()));
    assert_eq!(two.head(), (5, String::new()));
}

fn an_append_that_is_repeated_at_another_service_is_not_added_again(store: &Store) {
    let pair = Pair::on(store);
    let [one, two] = &pair.writers;
    let mut expected = Vec::new();
    for round in 0..10 {
        let (key, line) = (format!("k{round}"), format!("line {round}\n"));
        let first = one.append(Some(&key), line.as_bytes());
        let again = two.append(Some(&key), line.as_bytes());
        assert_eq!((first.status, again.status), (202, 202));
        assert_eq!(first.header("content-range"), again.header("content-range"));
        assert_eq!(two.append(Some(&key), &b"x".repeat(line.len())).status, 409);
        expected.extend_from_slice(line.as_bytes());
    }
    assert_eq!((pair.read(0), pair.read(1)), (expected.clone(), expected));
}
