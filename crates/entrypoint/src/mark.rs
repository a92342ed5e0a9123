//! The mark that a container has run before.
//!
//! Some controllers end a container by putting an image in the place of its own that does nothing, as Tekton does with
//! sidecars. Its command stays, and is not found there: that is no failure of the command's.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// A file in a folder that outlives the container, and not its pod.
#[derive(Debug)]
pub(crate) struct Mark(PathBuf);

impl Mark {
    /// The mark in this folder. Without such a folder there never is one.
    pub(crate) fn within(folder: &Path) -> Self {
        Self(folder.join("started"))
    }

    /// Says that the command runs. Where that cannot be written, the container is new each time.
    pub(crate) fn leave(&self) {
        drop(File::create(&self.0));
    }

    /// Whether a command ran before.
    pub(crate) fn is_there(&self) -> bool {
        self.0.exists()
    }
}
