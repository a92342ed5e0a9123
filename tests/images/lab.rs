//! Where images are, and a copy of what they are made of and with.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use relay_tests::program::{self, built, workspace};
use serde_json::Value;
use tempfile::TempDir;

use crate::archive::{Image, OfPlatform};

/// The images, without the `relay-` in front.
pub(crate) const IMAGES: [&str; 4] = ["log-service", "operator", "cli", "tools"];

/// Where the programs for a platform are that images are made of: debug builds are not static.
pub(crate) fn programs(platform: &str) -> PathBuf {
    if platform == HERE { built() } else { built().join(platform) }
}

/// An image as `make images` left it: its descriptor, and what it is for each platform. Each is read once.
pub(crate) fn image(name: &str) -> &'static (Value, Vec<OfPlatform>) {
    static READ: LazyLock<Vec<(Value, Vec<OfPlatform>)>> = LazyLock::new(|| {
        let read = |name: &str| {
            let archive = archive(name);
            assert!(archive.is_file(), "{} is missing: run `make images`", archive.display());
            let image = Image::read(&archive);
            (image.descriptor(), image.platforms())
        };
        IMAGES.into_iter().map(read).collect()
    });
    &READ[IMAGES.iter().position(|known| *known == name).unwrap()]
}

/// Its archive.
pub(crate) fn archive(name: &str) -> PathBuf {
    built().join(format!("images/relay-{name}.tar"))
}

/// The platform of this machine.
pub(crate) const HERE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// An image for this machine.
pub(crate) fn image_here(name: &str) -> &'static OfPlatform {
    image(name).1.iter().find(|each| each.platform == HERE).unwrap()
}

/// What a build leaves, and images are made of.
pub(crate) const BUILT: [&str; 5] =
    ["relay-log-service", "relay-operator", "relay", "entrypoint", "entrypoint.sha256"];

/// A folder with what `scripts/images` reads, to be changed.
pub(crate) struct Copied {
    folder: TempDir,
}

impl Copied {
    /// With the real programs, of today and for nobody but their owner.
    pub(crate) fn with_programs() -> Self {
        let copied = Self::with_files();
        for name in BUILT {
            fs::write(copied.path().join("bin").join(name), fs::read(built().join(name)).unwrap())
                .unwrap();
        }
        copied
    }

    /// With small files in place of the programs.
    pub(crate) fn with_files() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["Cargo.toml", "Dockerfile", "Dockerfile.tools"] {
            fs::copy(workspace().join(name), folder.path().join(name)).unwrap();
        }
        for name in ["scripts", "bin"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["scripts/images", "scripts/push-images"] {
            program::copy(&workspace().join(name), &folder.path().join(name));
        }
        for name in BUILT {
            let path = folder.path().join("bin").join(name);
            fs::write(&path, name).unwrap();
            let mode = if name.ends_with("sha256") { 0o600 } else { 0o700 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces text that stands in one of its files.
    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not say {from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// One of its scripts.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.path().join("scripts").join(name));
        command.env_remove("IMAGE_REGISTRY").env_remove("IMAGE_TAG");
        command
    }

    /// The image that it made.
    pub(crate) fn image(&self, name: &str) -> Image {
        Image::read(&self.path().join(format!("bin/images/relay-{name}.tar")))
    }
}

/// What a program that must succeed printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
