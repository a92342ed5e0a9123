use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime},
};

use relay_tests::{service::Service, wait::eventually};
use serde_json::json;

use crate::lab::{Writer, metric, send};

/// A request whose body stops before its last byte.
fn stalled(writer: &Writer, service: &Service, length: usize, sent: usize) -> TcpStream {
    let address = service.url().trim_start_matches("http://");
    let path = writer.url.trim_start_matches(service.url());
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "PATCH {path}/data HTTP/1.1\r\nhost: relay\r\ncontent-length: {length}\r\n\
         content-range: bytes 0-{}/*\r\n\r\n",
        length - 1
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; sent]).unwrap();
    stream
}

#[test]
fn slow_writers_hold_up_nobody() {
    let service = Service::in_memory();
    let (slow, healthy) = (Writer::new(&service), Writer::new(&service));
    let _stalled: Vec<TcpStream> =
        (0..200).map(|_| stalled(&slow, &service, 4 << 20, 100)).collect();
    eventually(Duration::from_secs(10), "all have begun", || metric(&service, "connections") > 200);
    let begun = SystemTime::now();
    for at in 0..20 {
        assert_eq!(healthy.patch(&format!("bytes {at}-{at}/*"), b"x").status, 202);
    }
    assert!(begun.elapsed().unwrap() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn with_too_much_in_memory_writers_are_told_when_to_come_again() {
    let service = Service::in_memory();
    let (many, one) = (Writer::new(&service), Writer::new(&service));
    let stalled: Vec<TcpStream> = std::thread::scope(|scope| {
        // A request costs 1 KiB beside its bytes: 20 of 4 MiB would be one too many.
        let (many, service) = (&many, &service);
        let begin = |_| scope.spawn(|| stalled(many, service, 4 << 20, (4 << 20) - (4 << 10)));
        let tasks: Vec<_> = (0..20).map(begin).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let full = (80 << 20) - (75 << 10);
    eventually(Duration::from_secs(20), "all is held", || metric(&service, "held_bytes") > full);
    let refused = one.patch("bytes 0-99999/*", &vec![0; 100_000]);
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    refused.problem();
    let dropped = json!({ "range": "bytes 0-99999/*", "markers": ["dropped"], "reason": "429" });
    assert_eq!(one.post("markers", &dropped).status, 202, "markers are never refused");
    drop(stalled);
    eventually(Duration::from_secs(20), "memory is given back", || {
        metric(&service, "held_bytes") == 0
    });
    assert_eq!(one.patch("bytes 100000-199999/*", &vec![0; 100_000]).status, 202);
}

#[test]
fn a_refusal_is_read_by_clients_that_are_still_sending() {
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    for _ in 0..20 {
        let long = writer.request("PATCH", "data").body(vec![0; 5 << 20]);
        assert_eq!(send(long).status, 413);
    }
    let unknown = crate::lab::client().patch(format!("{}/logs/x/data", service.url()));
    assert_eq!(send(unknown.body(vec![0; 4 << 20])).status, 404);
}

#[test]
fn a_client_that_asks_first_sends_nothing_in_vain() {
    let service = Service::in_memory();
    let mut stream = TcpStream::connect(service.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = "PATCH /logs/x/data HTTP/1.1\r\nhost: relay\r\ncontent-length: 9\r\n\
                expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}
