//! A program that serves, in an image whose configuration says how it is started.

use std::sync::OnceLock;

use serde_json::json;

use crate::cluster::{Cluster, image};

/// What it answers to a request for `/index.html`.
pub const ANSWER: &str = "served\n";
/// What it says before it fails.
pub const SECRET: &str = "boom: bad config SECRET=hunter2\n";

/// What its image is called, in the registry of the node that is for everybody.
pub const APP: &str = "10.88.0.1:5000/knative-app:1";

/// What it is started with: words that mean something else in a pod.
const ENTRYPOINT: [&str; 3] = ["/serve", "$(PORT)", "$$"];
/// Says its words, serves until it is told to end, and ends with a status of its own. With one word more, `fail`, it fails.
const SERVE: &str = r#"#!/bin/sh
if [ "${3-}" = fail ]; then
  echo 'boom: bad config SECRET=hunter2' >&2
  exit 9
fi
echo "$@"
trap 'echo told to end; busybox sleep 1; echo ends; exit 3' TERM
busybox httpd -f -h / -p "$PORT" &
echo serves
wait
"#;

/// Puts its image into the registry, once in each run. Returns the image's name by its digest.
///
/// # Panics
///
/// If the image cannot be made, or the node is none of ours.
pub fn load_app(cluster: &Cluster) -> &'static str {
    static BY_DIGEST: OnceLock<String> = OnceLock::new();
    BY_DIGEST.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for the image");
        let files = [("serve", SERVE), ("index.html", ANSWER)];
        let image =
            image::configured(folder.path(), APP, &files, &json!({ "Entrypoint": ENTRYPOINT }));
        let image = image.expect("busybox-static is installed");
        cluster.push_image(&image, APP).expect("the node has a registry");
        let repository = APP.rsplit_once(':').map_or(APP, |(repository, _)| repository);
        format!("{repository}@{}", image::digest_of(&image).expect("it is an image"))
    })
}
