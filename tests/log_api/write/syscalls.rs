//! What the service asks of the operating system, seen and disturbed by strace.

use std::{fs, path::Path};

use relay_tests::service::{Service, files};

use crate::lab::{Writer, create};
use serde_json::json;

/// A service whose calls are written into a file. With `-D` strace becomes its child, and ends with it.
fn traced(folder: &Path, more: &[&str]) -> (Service, String) {
    let trace = folder.join("trace").display().to_string();
    let mut wrapper = vec!["strace", "-D", "-f", "-y", "-s", "40", "-o", &trace];
    wrapper.extend(more);
    let store = format!("file://{}/store", folder.display());
    (Service::under(&wrapper, &["--store", &store]), trace)
}

/// Line number of the first call from `from` on that holds all of `parts`.
fn call(trace: &[String], from: usize, parts: &[&str]) -> usize {
    let found = trace[from..].iter().position(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found.is_some(), "no {parts:?} after {from} in {trace:#?}");
    from + found.unwrap()
}

#[test]
fn data_and_directories_are_synced_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let calls = "trace=fsync,fdatasync,link,linkat,mkdir,write,writev,sendto,sendmsg";
    let (service, trace) = traced(folder.path(), &["-e", calls]);
    let writer = Writer::new(&service);
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 202);
    service.kill();
    let trace: Vec<String> = fs::read_to_string(trace).unwrap().lines().map(Into::into).collect();
    // Of the first put into a new stream's folder every directory above it is synced as well.
    let folder_made = call(&trace, 0, &["mkdir(", "/d\""]);
    let parent_synced = call(&trace, folder_made, &["fsync(", "= 0"]);
    let data_synced = call(&trace, parent_synced, &["fsync(", "/d/0000000000000000#", "= 0"]);
    let linked = call(&trace, data_synced, &["link", "/d/0000000000000000\""]);
    let entry_synced = call(&trace, linked, &["fsync(", "/d>", "= 0"]);
    let answered = call(&trace, 0, &["HTTP/1.1 202"]);
    assert!(entry_synced < answered, "{trace:#?}");
    let created = call(&trace, 0, &["HTTP/1.1 200"]);
    let meta = call(&trace, 0, &["link", "/meta\""]);
    assert!(call(&trace, meta, &["fsync(", "= 0"]) < created);
}

#[test]
fn what_cannot_be_synced_is_never_acknowledged() {
    let body = json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "w" });
    // The staged file of the segment, its directory, and the one that holds the directory.
    for failing in ["d/0000000000000000#1", "d", ""] {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::on_folder(&folder.path().join("store"));
        assert_eq!(create(&service, &body).status, 200);
        drop(service);
        let meta = files(folder.path(), "/meta").pop().unwrap();
        let path = meta.parent().unwrap().join(failing).display().to_string();
        let path = path.trim_end_matches('/');
        let calls = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"];
        let (service, _) = traced(folder.path(), &[&calls[..], &["-P", path]].concat());
        let (writer, _) = Writer::at(&service, &body);
        for _ in 0..3 {
            let answer = writer.patch("bytes 0-4/*", b"hello");
            assert_eq!(answer.status, 503, "{failing}");
            answer.problem();
        }
        drop(service);
        let service = Service::on_folder(&folder.path().join("store"));
        let (writer, _) = Writer::at(&service, &body);
        assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 202);
    }
}

#[test]
fn what_another_process_stored_counts_once_it_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let body = json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "w" });
    let synced = Service::on_folder(&store);
    let (plain, _) = Writer::at(&synced, &body);
    let meta = files(folder.path(), "/meta").pop().unwrap();
    let path = meta.parent().unwrap().join("d").display().to_string();
    let failing =
        ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-P", &path];
    let (service, _) = traced(folder.path(), &failing);
    let (writer, _) = Writer::at(&service, &body);
    assert_eq!(plain.patch("bytes 0-4/*", b"hello").status, 202);
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 503, "met when it is stored");
    drop(service);
    let (service, _) = traced(folder.path(), &failing);
    assert_eq!(create(&service, &body).status, 503, "met when the stream is opened");
}
