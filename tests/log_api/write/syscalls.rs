//! What the service asks of the operating system, seen and disturbed by strace.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use relay_tests::{
    service::{Service, files},
    wait::eventually,
};
use tempfile::TempDir;

use super::trace::Trace;
use crate::lab::{Answer, Writer, crc32c, create, named, read};

/// Tries after which a call that failed some times has succeeded: strace counts them by thread.
const TRIES: usize = 100;

/// A folder, and the path of what is stored of the stream `i` of the pod `p`.
struct Disk {
    folder: TempDir,
    stream: PathBuf,
    entries: PathBuf,
}

impl Disk {
    /// The stream exists, and nothing is stored of it.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        assert_eq!(create(&Service::on_folder(&store), &named("i")).status, 200);
        let parent =
            |part: &str| files(&store, part).pop().unwrap().parent().unwrap().to_path_buf();
        Self { stream: parent("/meta"), entries: parent("/pods/p/"), folder }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn service(&self) -> Service {
        Service::on_folder(&self.store())
    }

    /// The file that is to become an object of the stream.
    fn staged(&self, object: &str) -> PathBuf {
        let key = self.stream.join(object);
        let key = key.strip_prefix(self.store()).unwrap().display().to_string();
        self.store().join("staging").join(format!("{}.1", key.replace('/', "-")))
    }

    /// A service of which the call that `fault` names is disturbed where it concerns `path`.
    ///
    /// With `-D` strace becomes its child, and ends with it.
    fn disturbed(&self, path: &Path, fault: &str) -> Service {
        let path = path.display().to_string();
        let (call, inject) = (fault.split(':').next().unwrap(), format!("inject={fault}"));
        let trace = format!("trace={call}");
        let wrapper = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
            "-P",
            &path,
        ];
        let url = format!("file://{}", self.store().display());
        Service::under(&wrapper, &["--store", &url])
    }
}

/// Something to make durable.
struct Act {
    name: &'static str,
    object: &'static str,
    perform: fn(&Writer) -> Answer,
}

/// What a fault concerns.
#[derive(Clone, Copy)]
enum Of {
    /// The file that is to become the object.
    File,
    /// The folder that gets its name.
    Folder,
}

impl Act {
    fn path(&self, disk: &Disk, of: Of) -> PathBuf {
        match of {
            Of::File => disk.staged(self.object),
            Of::Folder => disk.stream.join(self.object).parent().unwrap().to_owned(),
        }
    }
}

const ACTS: [Act; 3] = [
    Act { name: "data", object: "d/0000000000000000", perform: |one| one.put_at(0, b"hello") },
    Act {
        name: "marker",
        object: "m/0000000000000000-0000000000000005-dropped",
        perform: |one| one.mark(0, 5),
    },
    Act { name: "end", object: "end", perform: |one| one.end(0, &crc32c(b"")) },
];

#[test]
fn everything_is_synced_with_its_entry_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace").display().to_string();
    let url = format!("file://{}/store", folder.path().display());
    let calls = "trace=fsync,fdatasync,link,linkat,mkdir,write,writev,sendto,sendmsg";
    let wrapper = ["strace", "-D", "-f", "-y", "-s", "20", "-e", calls, "-o", &trace];
    let service = Service::under(&wrapper, &["--store", &url]);
    let (writer, _) = Writer::at(&service, &named("i"));
    assert_eq!(writer.put_at(0, b"hello").status, 202);
    assert_eq!(writer.mark(5, 5).status, 202);
    assert_eq!(writer.end(10, &crc32c(b"hello")).status, 202);
    drop(service.stop());
    let trace = Trace::parse(&fs::read_to_string(trace).unwrap());
    let stored = |from: usize, object: &str, answer: &str| {
        let linked = trace.call(from, &["link", &format!("{object}\"")]);
        let staged = linked.text.split('"').nth(1).unwrap().to_owned();
        let data = trace.call(from, &["fdatasync(", &format!("<{staged}>"), "= 0"]);
        assert!(data.ended < linked.begun, "{object}: {trace:#?}");
        let target = linked.text.split('"').nth(3).unwrap();
        let parent = Path::new(target).parent().unwrap().display().to_string();
        let entry = trace.call(linked.ended, &["fsync(", &format!("<{parent}>"), "= 0"]);
        let answered = trace.call(from, &[answer]);
        assert!(entry.ended < answered.begun, "{object}: {trace:#?}");
        (answered.ended + 1, parent)
    };
    let begun = trace.call(0, &["link", "/meta\""]).begun - 10;
    // The folders that did not exist before are synced with their own folders.
    let created = |from: usize, folder: &str, answered: usize| {
        let made = trace.call(from, &["mkdir", &format!("{folder}\"")]);
        let parent = Path::new(folder).parent().unwrap().display().to_string();
        let synced = trace.call(made.ended, &["fsync(", &format!("<{parent}>"), "= 0"]);
        assert!(synced.ended < answered, "{folder}: {trace:#?}");
    };
    let (_, stream) = stored(begun, "/meta", "HTTP/1.1 200");
    let entry = trace.call(begun, &["link", "/pods/p/main/"]).text.clone();
    let entry = entry.split('"').nth(3).unwrap();
    let (at, entries) = stored(begun, entry, "HTTP/1.1 200");
    created(0, &stream, at);
    created(0, &entries, at);
    let (next, segments) = stored(at, "/d/0000000000000000", "HTTP/1.1 202");
    created(at, &segments, next);
    let (last, markers) =
        stored(next, "/m/0000000000000005-000000000000000a-dropped", "HTTP/1.1 202");
    created(next, &markers, last);
    stored(last, "/end", "HTTP/1.1 202");
}

/// Repeats an act until it is done; before that it is refused with `status`, `least` times.
fn recovers(writer: &Writer, act: &Act, (status, least): (u16, usize)) {
    let mut refused = 0;
    loop {
        let answer = (act.perform)(writer);
        if answer.status == 202 {
            break;
        }
        assert_eq!(answer.status, status, "{}", act.name);
        assert!(!answer.problem().is_empty());
        refused += 1;
        assert!(refused < TRIES, "{} never recovers", act.name);
    }
    assert!(refused >= least, "{} was acknowledged after {refused} refusals", act.name);
}

#[test]
fn what_cannot_be_synced_is_never_acknowledged_and_what_can_be_again_is() {
    for act in ACTS {
        for (of, fault, status) in [
            (Of::File, "fdatasync:error=EIO:when=1..3", 503),
            (Of::Folder, "fsync:error=EIO:when=1..3", 503),
            (Of::File, "fdatasync:error=ENOSPC:when=1..3", 507),
            (Of::File, "linkat:error=ENOSPC:when=1..3", 507),
            (Of::File, "linkat:error=EIO:when=1..3", 503),
            (Of::Folder, "fsync:error=EDQUOT:when=1..3", 507),
        ] {
            let disk = Disk::new();
            let service = disk.disturbed(&act.path(&disk, of), fault);
            // The folder of the end is that of the stream, which is synced also to find it.
            let found = (0..TRIES).find_map(|_| {
                let answer = create(&service, &named("i"));
                (answer.status == 200).then_some(answer)
            });
            let id = found.unwrap().json()["id"].as_str().unwrap().to_owned();
            let url = format!("{}/logs/{id}", service.url());
            let writer = Writer::with(crate::lab::client(), url);
            recovers(&writer, &act, (status, usize::from(act.name != "end")));
            let told = service.log();
            assert!(act.name != "data" || told.contains("failed to store a segment"), "{told}");
            service.kill();
            let left = files(&disk.store(), "/staging/");
            assert!(left.is_empty(), "{left:?} stays behind");
            let service = disk.service();
            let (writer, _) = Writer::at(&service, &named("i"));
            assert_eq!((act.perform)(&writer).status, 202, "{} is there", act.name);
        }
    }
}

#[test]
fn what_can_never_be_synced_is_never_acknowledged() {
    for act in ACTS {
        for (of, fault) in [(Of::File, "fdatasync:error=EIO"), (Of::Folder, "fsync:error=EIO")] {
            let disk = Disk::new();
            let service = disk.disturbed(&act.path(&disk, of), fault);
            let created = create(&service, &named("i"));
            if created.status != 200 {
                // The folder that the end is in is synced before a stream is given away, too.
                assert!(act.name == "end" && matches!(of, Of::Folder), "{}", act.name);
                continue;
            }
            let id = created.json()["id"].as_str().unwrap().to_owned();
            let url = format!("{}/logs/{id}", service.url());
            let writer = Writer::with(crate::lab::client(), url);
            for _ in 0..4 {
                assert_eq!((act.perform)(&writer).status, 503, "{}", act.name);
            }
        }
    }
}

#[test]
fn what_another_process_left_unsynced_counts_once_it_is_synced() {
    for act in ACTS {
        let disk = Disk::new();
        let first = disk.service();
        let (writer, _) = Writer::at(&first, &named("i"));
        assert_eq!((act.perform)(&writer).status, 202);
        drop(first);
        // As if the first process had ended between the link and the sync.
        let service = disk.disturbed(&act.path(&disk, Of::Folder), "fsync:error=EIO");
        assert_eq!(
            create(&service, &named("i")).status,
            503,
            "{}: met when it is opened",
            act.name
        );
    }
}

#[test]
fn an_entry_that_another_process_left_unsynced_counts_once_it_is_synced() {
    let disk = Disk::new();
    for folder in [&disk.entries, &disk.stream] {
        let service = disk.disturbed(folder, "fsync:error=EIO");
        assert_eq!(create(&service, &named("i")).status, 503, "{}", folder.display());
    }
}

#[test]
fn what_another_process_stores_meanwhile_counts_once_it_is_synced() {
    let disk = Disk::new();
    let other = disk.service();
    let (plain, _) = Writer::at(&other, &named("i"));
    let service = disk.disturbed(&disk.stream.join("d"), "fsync:error=EIO");
    let (writer, _) = Writer::at(&service, &named("i"));
    assert_eq!(plain.put_at(0, b"hello").status, 202);
    assert_eq!(writer.put_at(0, b"hello").status, 503);
}

#[test]
fn a_put_that_is_killed_at_any_step_leaves_all_or_nothing() {
    let object = ACTS[0].object;
    for (call, staged) in
        [("write", true), ("fdatasync", true), ("linkat", true), ("fsync", false), ("unlink", true)]
    {
        let disk = Disk::new();
        let path = if staged { disk.staged(object) } else { disk.stream.join("d") };
        let service = disk.disturbed(&path, &format!("{call}:signal=KILL"));
        let (writer, _) = Writer::at(&service, &named("i"));
        let request = writer.request("PATCH", "data").header("content-range", "bytes 0-4/*");
        assert!(request.body("hello").send().is_err(), "the service dies at {call}");
        drop(service);
        let service = disk.service();
        let (writer, _) = Writer::at(&service, &named("i"));
        let stored = files(&disk.store(), "/d/").len();
        assert!([(0, 0), (5, 1)].contains(&(writer.head().0, stored)), "{call}: {stored}");
        assert_eq!(writer.put_at(0, b"hello").status, 202, "after {call}");
        assert_eq!((read(&service), files(&disk.store(), "/d/").len()), (b"hello".to_vec(), 1));
        drop(service);
        let left = files(&disk.store(), "/staging/");
        for path in &left {
            let long_ago = SystemTime::now() - Duration::from_hours(2);
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        let _service = disk.service();
        eventually(Duration::from_secs(30), "what was left behind is removed", || {
            left.iter().all(|path| !path.exists())
        });
    }
}
