use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use relay_tests::{service::Service, wait::eventually};
use serde_json::json;

use crate::lab::{Writer, client, crc32c, create, send};

/// A file system of 8 MiB that only a mount namespace of its own sees.
struct SmallDisk {
    /// Holds the namespace. It reads a pipe of this process, so it ends with it, however that ends.
    holder: Child,
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=8m none \"$0\" && touch \"$0\"/mounted && exec cat";
        let holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program unshare is installed");
        let disk = Self { holder, folder };
        let mounted = disk.seen_from_here().join("mounted");
        eventually(Duration::from_secs(10), "the small disk is mounted", || mounted.exists());
        disk
    }

    /// The same folder by a path that works outside of the namespace.
    fn seen_from_here(&self) -> PathBuf {
        let inside = self.folder.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    fn service(&self) -> Service {
        let holder = self.holder.id().to_string();
        let enter = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", &holder];
        let store = format!("file://{}/store", self.folder.path().display());
        Service::under(&[&enter[..], &["--"]].concat(), &["--store", &store])
    }

    /// Leaves not one free block.
    fn fill(&self) {
        let file = std::fs::File::create(self.seen_from_here().join("filler")).unwrap();
        let zeros = vec![0; 4096];
        while std::io::Write::write_all(&mut &file, &zeros).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

fn read(service: &Service) -> Vec<u8> {
    let url = format!("{}/api/namespaces/local/pods/p/logs?format=raw", service.url());
    client().get(url).send().unwrap().bytes().unwrap().to_vec()
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let disk = SmallDisk::new();
    let body = json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "w" });
    let service = disk.service();
    let (writer, _) = Writer::at(&service, &body);
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 202);
    disk.fill();
    let refused = writer.patch("bytes 5-9/*", b"world");
    assert_eq!((refused.status, refused.header("retry-after")), (507, "5"));
    assert!(refused.problem().contains("full"));
    let other = json!({ "name": "stderr", "pod": "p", "instance": "i", "writer": "w" });
    assert_eq!(create(&service, &other).status, 507);
    assert_eq!(writer.end(5, &crc32c(b"hello")).status, 507);
    assert_eq!((read(&service), writer.head()), (b"hello".to_vec(), (5, String::new())));
    let ready = send(client().get(format!("{}/readyz", service.url())));
    assert!(ready.status == 200 && ready.response.text().unwrap().contains("reading only"));
    drop(service);

    let service = disk.service();
    assert_eq!(read(&service), b"hello");
    let (writer, created) = Writer::at(&service, &body);
    assert!(!created);
    assert_eq!(writer.patch("bytes 5-9/*", b"world").status, 507);
    std::fs::remove_file(disk.seen_from_here().join("filler")).unwrap();
    assert_eq!(writer.patch("bytes 5-9/*", b"world").status, 202);
    assert_eq!(writer.end(10, &crc32c(b"helloworld")).status, 202);
    assert_eq!(read(&service), b"helloworld");
}
