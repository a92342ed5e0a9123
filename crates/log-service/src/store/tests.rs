use super::{Failure, Store, StoreUrl};

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
