use super::{Failure, Put, Store, StoreUrl};
use bytes::Bytes;
use object_store::path::Path;
use std::sync::Arc;

/// The same expectations for every kind of store.
async fn conforms(store: Store) {
    let key = Path::from("a/b/c");
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.put_if_absent(&key, first.clone()).await.unwrap(), Put::Created);
    assert_eq!(store.put_if_absent(&key, second).await.unwrap(), Put::Unknown);
    assert_eq!(store.get(&key).await.unwrap(), Some(first));
    assert_eq!(store.get_prefix(&key, 2).await.unwrap(), Some(Bytes::from_static(b"fi")));
    assert_eq!(store.get_prefix(&key, 200).await.unwrap().unwrap().len(), 5);
    store.confirm(&key).await.unwrap();
    for name in ["a/b/e", "a/b/d", "a/x/y"] {
        store.put_if_absent(&Path::from(name), Bytes::from_static(b"1")).await.unwrap();
    }
    let list = store.list(&Path::from("a/b")).await.unwrap();
    assert_eq!(list, ["a/b/c", "a/b/d", "a/b/e"].map(Path::from));
    let after = store.list_after(&Path::from("a/b"), &key).await.unwrap();
    assert_eq!(after, ["a/b/d", "a/b/e"].map(Path::from));
    assert_eq!(store.list_folders(&Path::from("a")).await.unwrap(), ["b", "x"]);
    assert!(store.list(&Path::from("none")).await.unwrap().is_empty());
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    store.probe().await.unwrap();
    assert!(store.list(&Path::from("probe")).await.unwrap().is_empty());
}

#[tokio::test]
async fn memory_and_files_behave_alike() {
    conforms(Store::open(&StoreUrl::Memory).unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("made/on/the/way");
    conforms(Store::open(&StoreUrl::File(root)).unwrap()).await;
}

#[tokio::test]
async fn of_many_creations_at_once_one_wins_and_all_see_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&StoreUrl::File(folder.path().to_owned())).unwrap());
    let key = Path::from("new/folder/key");
    let mut puts = tokio::task::JoinSet::new();
    for writer in 0..8_u8 {
        let (store, key) = (Arc::clone(&store), key.clone());
        puts.spawn(async move {
            (writer, store.put_if_absent(&key, vec![writer].into()).await.unwrap())
        });
    }
    let puts = puts.join_all().await;
    let winners: Vec<u8> =
        puts.iter().filter(|put| put.1 == Put::Created).map(|put| put.0).collect();
    assert_eq!(store.get(&key).await.unwrap().unwrap(), winners);
}

#[tokio::test]
async fn a_root_that_is_a_file_is_refused_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("store");
    for root in [file.path(), below.as_path()] {
        let error = Store::open(&StoreUrl::File(root.to_owned())).unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreUrl::File(folder.path().to_owned())).unwrap();
    std::fs::write(folder.path().join("probe"), b"in the way").unwrap();
    let error = store.probe().await.unwrap_err();
    assert_eq!(error.kind(), Failure::Denied);
    assert!(!error.is_retryable());
}
