//! Images go to a registry and come back.

use std::{fs::File, process::Command};

use relay_tests::registry::Registry;
use serde_json::Value;

use crate::lab::{Copied, IMAGES, archive, image, succeed};

#[test]
fn what_is_pushed_is_pulled_with_the_digest_that_it_was_made_with() {
    let registry = Registry::new();
    let copied = Copied::with_files();
    let images = copied.path().join("bin/images");
    std::fs::create_dir(&images).unwrap();
    for name in IMAGES {
        std::fs::copy(archive(name), images.join(format!("relay-{name}.tar"))).unwrap();
    }
    let mut push = copied.script("push-images");
    let pushed = succeed(
        push.arg("--dest-tls-verify=false")
            .env("IMAGE_REGISTRY", format!("{}/relay", registry.host())),
    );
    let mut pushed: Vec<_> = pushed.lines().collect();
    pushed.sort_unstable();
    let mut names = IMAGES;
    names.sort_unstable();
    assert_eq!(pushed.len(), names.len());
    for (name, place) in names.into_iter().zip(pushed) {
        let (descriptor, _) = image(name);
        let (by_tag, digest) = place.split_once('@').unwrap();
        assert_eq!(descriptor["digest"], digest);
        let (repository, _) = by_tag.rsplit_once(':').unwrap();
        assert_eq!(repository, format!("{}/relay/relay-{name}", registry.host()));
        for reference in [by_tag, &format!("{repository}@{digest}")] {
            pull(reference, digest, &copied);
        }
    }
}

/// Pulls an image for all platforms into a new layout, whose digest must be this one.
fn pull(reference: &str, digest: &str, copied: &Copied) {
    let layout = tempfile::tempdir_in(copied.path()).unwrap();
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"]);
    skopeo.arg(format!("docker://{reference}")).arg(format!("oci:{}", layout.path().display()));
    drop(succeed(&mut skopeo));
    let index: Value =
        serde_json::from_reader(File::open(layout.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest, "{reference}");
}

#[test]
fn nothing_is_pushed_without_a_place() {
    let copied = Copied::with_files();
    let output = copied.script("push-images").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("says where to push to"));
}
