//! Images whose commands the operator looks up.

use std::{fs, path::PathBuf};

use anyhow::Result;
use relay_tests::registry::{CONFIG, Content, Registry};
use serde_json::json;

use crate::Bench;

/// Images in the registry.
pub(super) const COUNT: usize = 50;

/// A registry with images, and the file that tells the operator of it.
pub(super) struct Images {
    _registry: Registry,
    pub(super) file: PathBuf,
}

/// How pods name an image.
pub(super) fn name(number: usize) -> String {
    format!("registry.test/acme/app-{}:1", number % COUNT)
}

impl Images {
    pub(super) async fn new(bench: &Bench) -> Result<Self> {
        let registry = Registry::new();
        for number in 0..COUNT {
            let config = json!({ "os": "linux", "architecture": "amd64", "config": {
                "Entrypoint": ["/app"], "Cmd": ["--number", number.to_string()],
            } });
            let config = Content::json(&config, CONFIG);
            drop(registry.push_image(&format!("acme/app-{number}"), Some("1"), &config).await);
        }
        let folder = bench.store();
        fs::create_dir_all(&folder)?;
        let file = folder.join("images.yaml");
        let endpoint = json!({ "url": format!("http://{}", registry.host()), "local": true });
        let said = json!({ "registries": [{ "host": "registry.test", "endpoints": [endpoint] }] });
        fs::write(&file, said.to_string())?;
        Ok(Self { _registry: registry, file })
    }
}
