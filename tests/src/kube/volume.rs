//! Files as a kubelet puts them into a container, and replaces them.

use std::{
    cell::Cell,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A volume of a Secret or of projected sources: the files are links through the link `..data`, which is
/// exchanged in one step for all of them.
#[derive(Debug)]
pub struct Volume {
    folder: PathBuf,
    version: Cell<u32>,
}

impl Volume {
    /// A volume in a folder that is made for it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    #[must_use]
    pub fn new(folder: &Path, files: &[(&str, &str)]) -> Self {
        fs::create_dir_all(folder).expect("a folder for the volume");
        let volume = Self { folder: folder.to_owned(), version: Cell::new(0) };
        volume.replace(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), volume.folder.join(name)).expect("a link");
        }
        volume
    }

    /// Exchanges all files at once.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn replace(&self, files: &[(&str, &str)]) {
        let old = format!("..version-{}", self.version.get());
        self.version.set(self.version.get() + 1);
        let new = format!("..version-{}", self.version.get());
        fs::create_dir(self.folder.join(&new)).expect("a folder for the files");
        for (name, content) in files {
            fs::write(self.folder.join(&new).join(name), content).expect("a file");
        }
        symlink(&new, self.folder.join("..data_tmp")).expect("a link");
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).expect("a link");
        drop(fs::remove_dir_all(self.folder.join(old)));
    }

    /// Path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}
