//! The five operations of a store, on every kind of store alike.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, process::Command, sync::Arc};

use bytes::Bytes;
use object_store::path::Path;
use relay_log_service::store::{Put, Store, StoreUrl};
use relay_tests::{gcs::Bucket, store};
use tokio::task::JoinSet;

/// A test of each function for every store.
macro_rules! conformance {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::run(&StoreUrl::Memory, super::$name); })+
            use super::StoreUrl;
        }
        mod files {
            $(#[test] fn $name() { super::run_on_files(super::$name); })+
        }
        mod gcs {
            $(#[test] fn $name() { super::run_on_gcs(stringify!($name), super::$name); })+
        }
    };
}

conformance! {
    what_is_put_is_got_and_nothing_else,
    a_name_is_taken_once,
    of_two_creations_at_once_exactly_one_wins,
    lists_are_complete_and_in_order,
    names_may_be_odd,
    objects_may_be_large,
    what_is_deleted_is_gone,
    a_probe_leaves_nothing_behind,
}

fn run<F: Future<Output = ()>>(url: &StoreUrl, suite: impl Fn(Arc<Store>) -> F) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { suite(Arc::new(Store::open(url).unwrap())).await });
}

fn run_on_files<F: Future<Output = ()>>(suite: impl Fn(Arc<Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    run(&StoreUrl::File(folder.path().join("made/on/the/way")), suite);
}

/// The settings of a bucket come from the environment: so the suite runs in a process of its own.
#[expect(clippy::disallowed_methods, reason = "it is how the process gets the bucket")]
fn run_on_gcs<F: Future<Output = ()>>(name: &str, suite: impl Fn(Arc<Store>) -> F) {
    if let Ok(url) = std::env::var("RELAY_STORE") {
        return run(&url.parse().unwrap(), suite);
    }
    let bucket = store::Store::gcs();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("gcs::{name}"), "--nocapture"])
        .envs(Bucket::environment())
        .env("RELAY_STORE", bucket.url())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it ran");
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn what_is_put_is_got_and_nothing_else(store: Arc<Store>) {
    let key = Path::from("a/b/c");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.get_prefix(&key, 2).await.unwrap(), None);
    assert_eq!(store.put_if_absent(&key, text("first")).await.unwrap(), Put::Created);
    assert_eq!(store.get(&key).await.unwrap(), Some(text("first")));
    for (length, found) in [(1, "f"), (2, "fi"), (5, "first"), (6, "first"), (1 << 20, "first")] {
        assert_eq!(store.get_prefix(&key, length).await.unwrap(), Some(text(found)));
    }
    // No key of Relay lies below another one: a file system could not hold both.
    for other in ["a", "a/b", "a/b/cc", "a/d/c", "b/c"] {
        assert_eq!(store.get(&Path::from(other)).await.unwrap(), None, "{other}");
    }
    let empty = Path::from("a/empty");
    assert_eq!(store.put_if_absent(&empty, Bytes::new()).await.unwrap(), Put::Created);
    assert_eq!(store.get(&empty).await.unwrap(), Some(Bytes::new()));
}

async fn a_name_is_taken_once(store: Arc<Store>) {
    let key = Path::from("a/b/c");
    store.put_if_absent(&key, text("first")).await.unwrap();
    for other in ["second", "first", ""] {
        assert_eq!(store.put_if_absent(&key, text(other)).await.unwrap(), Put::Unknown);
        assert_eq!(store.get(&key).await.unwrap(), Some(text("first")));
    }
    store.confirm(&key).await.unwrap();
    store.confirm_folder(&Path::from("a/b")).await.unwrap();
}

async fn of_two_creations_at_once_exactly_one_wins(store: Arc<Store>) {
    for round in 0..50 {
        let key = Path::from(format!("race/{round}/key"));
        let mut puts = JoinSet::new();
        for writer in 0..3_u8 {
            let (store, key) = (Arc::clone(&store), key.clone());
            // Of different lengths, so that a mixture would show.
            let bytes = Bytes::from(vec![writer; 1000 * (1 + usize::from(writer))]);
            puts.spawn(async move {
                let put = store.put_if_absent(&key, bytes.clone()).await.unwrap();
                // Also who lost sees an object that is whole.
                let found = store.get(&key).await.unwrap().unwrap();
                (put, bytes, found)
            });
        }
        let puts = puts.join_all().await;
        let won: Vec<_> = puts.iter().filter(|put| put.0 == Put::Created).collect();
        assert_eq!(won.len(), 1, "round {round}");
        assert!(puts.iter().all(|put| put.2 == won[0].1), "round {round}");
    }
}

async fn lists_are_complete_and_in_order(store: Arc<Store>) {
    // More than a page of any store, put in another order than that of the names.
    let keys: Vec<Path> =
        (0..1_100).map(|at| Path::from(format!("l/d/{:016x}", at * 7919 % 1_100 * 256))).collect();
    for part in keys.chunks(50) {
        let mut puts = JoinSet::new();
        for key in part {
            let (store, key) = (Arc::clone(&store), key.clone());
            puts.spawn(async move { store.put_if_absent(&key, text("1")).await.unwrap() });
        }
        assert!(puts.join_all().await.iter().all(|put| *put == Put::Created));
    }
    for other in ["l/m/1", "l/meta", "l/dd/1", "k/1", "l/d2"] {
        store.put_if_absent(&Path::from(other), text("1")).await.unwrap();
    }
    let sorted: Vec<Path> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let folder = Path::from("l/d");
    assert_eq!(store.list(&folder).await.unwrap(), sorted);
    for at in [0, 1, 299, 300, 500, 1_098, 1_099] {
        let after = store.list_after(&folder, &sorted[at]).await.unwrap();
        assert_eq!(after, sorted[at + 1..], "after {at}");
    }
    let between = Path::from(format!("l/d/{:016x}", 255));
    assert_eq!(store.list_after(&folder, &between).await.unwrap(), sorted[1..]);
    assert_eq!(store.list_folders(&Path::from("l")).await.unwrap(), ["d", "dd", "m"]);
    assert!(store.list(&Path::from("none")).await.unwrap().is_empty());
    assert!(store.list_folders(&Path::from("none")).await.unwrap().is_empty());
    assert!(store.list_after(&Path::from("none"), &Path::from("none/1")).await.unwrap().is_empty());
}

async fn names_may_be_odd(store: Arc<Store>) {
    let long = "x".repeat(250);
    let names = [
        "a#1",
        "b#1#2",
        "100%",
        "%2F",
        "two words",
        "ü",
        "..",
        ".",
        ".hidden",
        "-",
        "q?x=1&y",
        "a+b",
        "<&>",
        "staging",
        "probe",
        &long,
    ];
    let folder = Path::from("odd");
    let keys: Vec<Path> = names.iter().map(|name| folder.clone().join(*name)).collect();
    for (key, name) in keys.iter().zip(names) {
        let bytes = Bytes::copy_from_slice(name.as_bytes());
        assert_eq!(store.put_if_absent(key, bytes.clone()).await.unwrap(), Put::Created, "{name}");
        assert_eq!(store.put_if_absent(key, text("x")).await.unwrap(), Put::Unknown, "{name}");
        assert_eq!(store.get(key).await.unwrap(), Some(bytes), "{name}");
        store.confirm(key).await.unwrap();
    }
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(store.list(&folder).await.unwrap(), sorted);
    for key in &keys {
        store.delete(key).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), None, "{key}");
    }
    assert!(store.list(&folder).await.unwrap().is_empty());
}

async fn objects_may_be_large(store: Arc<Store>) {
    let bytes: Bytes = (0..8_000_000_u32).map(|at| (at ^ at >> 7).to_le_bytes()[0]).collect();
    let key = Path::from("large/one");
    assert_eq!(store.put_if_absent(&key, bytes.clone()).await.unwrap(), Put::Created);
    assert!(store.get(&key).await.unwrap().unwrap() == bytes);
    assert!(store.get_prefix(&key, 70_001).await.unwrap().unwrap() == bytes[..70_001]);
}

async fn what_is_deleted_is_gone(store: Arc<Store>) {
    let key = Path::from("a/b/c");
    store.delete(&key).await.unwrap();
    store.put_if_absent(&key, text("first")).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert!(store.list(&Path::from("a")).await.unwrap().is_empty());
    store.delete(&key).await.unwrap();
    assert_eq!(store.put_if_absent(&key, text("second")).await.unwrap(), Put::Created);
    assert_eq!(store.get(&key).await.unwrap(), Some(text("second")));
}

async fn a_probe_leaves_nothing_behind(store: Arc<Store>) {
    for _ in 0..3 {
        store.probe().await.unwrap();
    }
    assert!(store.list(&Path::from("probe")).await.unwrap().is_empty());
    store.sweep().await.unwrap();
}

#[tokio::test]
async fn what_a_process_left_behind_is_removed_after_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreUrl::File(folder.path().to_owned())).unwrap();
    let key = Path::from("a/b");
    store.put_if_absent(&key, text("kept")).await.unwrap();
    let now = std::time::SystemTime::now();
    let left = |name: &str, minutes: u64| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(now - std::time::Duration::from_mins(minutes)).unwrap();
        path
    };
    let old = [left("staging/0123456789abcdef", 61), left("probe/0123", 61)];
    let young = [left("staging/fedcba9876543210", 59), left("probe/4567", 59)];
    store.sweep().await.unwrap();
    assert!(old.iter().all(|path| !path.exists()) && young.iter().all(|path| path.exists()));
    assert_eq!(store.get(&key).await.unwrap(), Some(text("kept")));
}
