//! Faults on the way and at the service.

use std::time::Duration;

use relay_log_client::Report;
use relay_protocol::{
    time::{CaptureTimes, UnixMillis},
    write::WriterMarker,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    ENOUGH, assert_delivered, begin, sample,
    service::{Fault, Service},
    settings, success, within, write_file,
};

/// Delivers `length` bytes to a service with these faults, and checks what arrived.
async fn deliver_despite(faults: &[Fault], length: usize) -> Service {
    let service = Service::default();
    service.state().faults.extend(faults);
    let url = format!("http://127.0.0.1:{}/base", service.listen().await);
    let (client, mut stdout, stderr) = begin(settings(&url));
    let bytes = sample(length);
    for (piece, time) in bytes.chunks(65_536).zip(1_000..) {
        stdout.write(piece, UnixMillis(time)).await;
    }
    drop((stdout, stderr));
    let report = client.finish(success(), within(ENOUGH)).await;
    assert_delivered(&report, [length as u64, 0]);
    {
        let state = service.state();
        let kept = &state.streams["stdout"];
        assert!(kept.content() == bytes, "the bytes differ");
        let end = kept.end.as_ref().unwrap();
        assert_eq!((end.length, end.crc32c.0), (length as u64, crc32c::crc32c(&bytes)));
        assert_eq!(state.streams["stderr"].end.as_ref().unwrap().length, 0);
    }
    service
}

#[tokio::test]
async fn bytes_arrive_in_chunks_with_their_times_and_streams_end() {
    let service = deliver_despite(&[], 3 << 20).await;
    let state = service.state();
    assert!(state.streams["stdout"].bytes.values().all(|chunk| chunk.len() <= 512 << 10));
    assert!(state.seen.len() < 20, "{} requests for 3 MiB", state.seen.len());
    for seen in &state.seen {
        let times = CaptureTimes::parse(seen.headers["relay-times"].to_str().unwrap()).unwrap();
        let &(offset, UnixMillis(millis)) = times.entries().first().unwrap();
        assert_eq!(millis, 1_000 + offset / 65_536);
        assert!(!seen.headers.contains_key("content-encoding"), "loopback needs no compression");
    }
    assert_eq!(state.seen.last().unwrap().headers["relay-flush"], "now");
}

#[tokio::test]
async fn a_lost_answer_costs_nothing() {
    let service = deliver_despite(&[Fault::LoseTheAnswer; 2], 1 << 20).await;
    assert!(service.state().seen.len() > 2);
}

#[tokio::test]
async fn a_connection_that_closes_amid_a_request_costs_nothing() {
    deliver_despite(&[Fault::CloseEarly; 3], 2 << 20).await;
}

#[tokio::test]
async fn an_error_of_the_service_is_retried() {
    deliver_despite(&[Fault::Answer(503, None), Fault::Answer(500, None)], 100).await;
}

#[tokio::test]
async fn a_busy_service_gets_the_time_it_asks_for() {
    let service = deliver_despite(&[Fault::Answer(429, Some(1))], 100).await;
    let state = service.state();
    assert!(state.seen[1].at - state.seen[0].at >= Duration::from_secs(1));
}

/// The service holds bytes for up to 2 s; a process that ends does not wait for that.
#[tokio::test]
async fn the_end_does_not_wait_for_bytes_that_the_service_holds() {
    let began = Instant::now();
    deliver_despite(&[Fault::HoldUntilTheEnd], 100).await;
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn refused_bytes_are_marked_with_the_status_and_the_rest_arrives() {
    let service = Service::default();
    service.state().faults.push_back(Fault::Answer(413, None));
    let url = format!("http://localhost:{}", service.listen().await);
    let (client, mut stdout, _stderr) = begin(settings(&url));
    stdout.write(b"refused", UnixMillis(1)).await;
    service
        .until(|state| state.streams.get("stdout").is_some_and(|kept| !kept.marks.is_empty()))
        .await;
    stdout.write(b"taken", UnixMillis(2)).await;
    let report = client.finish(success(), within(ENOUGH)).await;
    let stream = &report.streams[0];
    assert_eq!((stream.delivered, stream.dropped, stream.undelivered), (5, 7, 0));
    let state = service.state();
    let kept = &state.streams["stdout"];
    assert_eq!(kept.marks[0].markers, [WriterMarker::Dropped]);
    assert_eq!(kept.marks[0].reason.as_deref(), Some("413"));
    assert_eq!(kept.end.as_ref().unwrap().crc32c.0, crc32c::crc32c(b"taken"));
}

/// Delivers "before", has the service forget everything, and delivers "after".
async fn lose_everything_between(service: &Service) -> Report {
    let url = format!("http://127.0.0.1:{}", service.listen().await);
    let (client, mut stdout, _stderr) = begin(settings(&url));
    stdout.write(b"before", UnixMillis(1)).await;
    service
        .until(|state| state.streams.get("stdout").is_some_and(|kept| kept.bytes.len() == 1))
        .await;
    service.state().faults.push_back(Fault::ForgetEverything);
    stdout.write(b"after", UnixMillis(2)).await;
    client.finish(success(), within(ENOUGH)).await
}

#[tokio::test]
async fn bytes_of_a_stream_that_is_gone_are_marked_as_restarted() {
    let service = Service::default();
    let report = lose_everything_between(&service).await;
    let state = service.state();
    let kept = &state.streams["stdout"];
    // The answer for "before" may or may not have been here when all was lost.
    let marked: u64 = kept.marks.iter().map(|mark| mark.range.length()).sum();
    assert_eq!(marked + kept.stored().length(), 11);
    assert!(kept.marks.iter().all(|mark| mark.markers == [WriterMarker::Restarted]));
    assert_eq!(kept.end.as_ref().unwrap().crc32c.0, crc32c::crc32c(&kept.content()));
    assert!(report.streams.iter().all(|stream| stream.ended && stream.undelivered == 0));
}

/// The answers that would have said so are lost, one of them where the request is repeated unseen.
#[tokio::test]
async fn bytes_of_a_stream_whose_loss_was_not_told_are_marked_when_it_ends() {
    for lost_creations in [1, 2, 4] {
        let service = Service::default();
        service.state().lost_creations = lost_creations;
        let report = lose_everything_between(&service).await;
        let state = service.state();
        let kept = &state.streams["stdout"];
        // The answer for "before" may or may not have been here when all was lost.
        let marked: u64 = kept.marks.iter().map(|mark| mark.range.length()).sum();
        assert_eq!(marked + kept.stored().length(), 11, "{lost_creations}: {kept:?}");
        assert!(kept.marks.iter().all(|mark| mark.markers == [WriterMarker::Restarted]));
        let stream = &report.streams[0];
        assert_eq!((stream.delivered, stream.dropped), (kept.stored().length(), marked));
        assert!(stream.ended && stream.undelivered == 0, "{report:?}");
    }
}

#[tokio::test]
async fn a_refused_token_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::default();
    service.state().token = Some("new".to_owned());
    let token_file = write_file(&folder, "token", "old\n");
    let url = format!("http://127.0.0.1:{}", service.listen().await);
    let (client, mut stdout, _stderr) = begin(settings_with_token(&url, token_file.clone()));
    stdout.write(b"hello", UnixMillis(1)).await;
    service.until(|state| state.requests >= 2).await;
    assert!(service.state().streams.is_empty());
    write_file(&folder, "token", "new\n");
    service.until(|state| state.streams.len() == 2).await;
    service.until(|state| !state.streams["stdout"].bytes.is_empty()).await;
    // Rotated while the streams are open: the next request has the old one, and is repeated.
    service.state().token = Some("newer".to_owned());
    write_file(&folder, "token", "newer");
    stdout.write(b" world", UnixMillis(2)).await;
    let report = client.finish(success(), within(ENOUGH)).await;
    assert_delivered(&report, [11, 0]);
}

fn settings_with_token(url: &str, token_file: std::path::PathBuf) -> relay_log_client::Settings {
    relay_log_client::Settings { token_file: Some(token_file), ..settings(url) }
}

#[tokio::test]
async fn a_unix_socket_is_served_also_when_it_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let (client, mut stdout, _stderr) = begin(settings(&format!("unix:{}", path.display())));
    stdout.write(b"hello", UnixMillis(1)).await;
    tokio::task::yield_now().await;
    let service = Service::default();
    service.listen_on_socket(&path);
    let report = client.finish(success(), within(ENOUGH)).await;
    assert_delivered(&report, [5, 0]);
}

/// A port on which nobody listens.
async fn absent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn without_a_service_the_end_comes_within_the_budget_and_the_account_is_right() {
    let (client, mut stdout, _stderr) = begin(settings(&absent().await));
    stdout.write(&sample(1 << 20), UnixMillis(1)).await;
    let began = Instant::now();
    let report = client.finish(success(), within(Duration::from_secs(1))).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");
    let stream = &report.streams[0];
    assert_eq!((stream.read, stream.delivered, stream.dropped), (1 << 20, 0, 0));
    assert_eq!((stream.undelivered, stream.ended), (1 << 20, false));
}

#[tokio::test]
async fn an_outage_blocks_a_writer_once_for_block_max_and_then_bytes_are_dropped() {
    let settings = relay_log_client::Settings {
        block_max: Duration::from_millis(300),
        ring_bytes: 64 << 10,
        ..settings(&absent().await)
    };
    let (client, mut stdout, _stderr) = begin(settings);
    stdout.write(&sample(64 << 10), UnixMillis(1)).await;
    let began = Instant::now();
    for _ in 0..200 {
        stdout.write(&sample(32 << 10), UnixMillis(2)).await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(20), "{took:?}");
    let report = client.finish(success(), within(Duration::from_millis(100))).await;
    assert_eq!(report.streams[0].read, 6_464 << 10);
    assert_eq!(report.streams[0].undelivered, 6_464 << 10, "no marker was taken");
}

fn small_ring(url: &str) -> relay_log_client::Settings {
    relay_log_client::Settings { ring_bytes: 64 << 10, ..settings(url) }
}

#[tokio::test]
async fn a_full_ring_at_the_end_drops_and_marks_and_the_log_is_told() {
    let address = absent().await;
    let (client, mut stdout, stderr) = begin(small_ring(&address));
    drop(stderr);
    let bytes = sample(200 << 10);
    let began = Instant::now();
    let writing = tokio::spawn(async move { stdout.write(&bytes, UnixMillis(1)).await });
    client.block_until(began + Duration::from_millis(300));
    writing.await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(15), "{took:?}");
    let service = Service::default();
    service.listen_at(address.trim_start_matches("http://")).await;
    let report = client.finish(success(), within(ENOUGH)).await;
    let stream = &report.streams[0];
    assert_eq!((stream.read, stream.undelivered, stream.ended), (200 << 10, 0, true));
    let state = service.state();
    let kept = &state.streams["stdout"];
    let marked: u64 = kept.marks.iter().map(|mark| mark.range.length()).sum();
    assert!(marked > 0 && kept.marks.iter().all(|mark| mark.markers == [WriterMarker::Dropped]));
    assert_eq!(marked + kept.stored().length(), 200 << 10);
    assert_eq!(kept.end.as_ref().unwrap().crc32c.0, crc32c::crc32c(&kept.content()));
}

#[tokio::test]
async fn a_write_that_waits_for_a_minute_waits_a_second_at_most_once_the_end_is_near() {
    let (client, mut stdout, _stderr) = begin(small_ring(&absent().await));
    stdout.write(&sample(64 << 10), UnixMillis(1)).await;
    let writing = tokio::spawn(async move {
        for _ in 0..10 {
            stdout.write(&sample(64 << 10), UnixMillis(2)).await;
        }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    client.hurry();
    writing.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// SIGTERM may come when the process has ended already: then the time that is left is shorter.
#[tokio::test]
async fn a_deadline_that_moves_closer_leaves_time_for_markers() {
    let service = Service::default();
    service.state().faults.extend([Fault::Answer(429, None); 500]);
    let url = format!("http://127.0.0.1:{}", service.listen().await);
    let (client, mut stdout, _stderr) = begin(small_ring(&url));
    stdout.write(&sample(64 << 10), UnixMillis(1)).await;
    let began = Instant::now();
    let (shorten, deadline) = watch::channel(began + Duration::from_mins(2));
    let finishing = tokio::spawn(client.finish(success(), deadline));
    service.until(|state| state.seen.len() > 2).await;
    shorten.send_replace(Instant::now() + Duration::from_secs(4));
    let report = finishing.await.unwrap();
    let stream = &report.streams[0];
    assert!(stream.dropped > 0 && stream.ended, "{report:?}");
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    assert_eq!(service.state().streams["stdout"].marks[0].reason.as_deref(), Some("exit"));
}
