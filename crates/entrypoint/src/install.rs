//! Puts this very program where pods find it, or compares what is there with itself.
//!
//! # Guarantees
//!
//! - `DIR/lib/entrypoint` is there whole or not at all: it is written under another name, synced, and renamed.
//! - What is there is never replaced: pods may run it. The same program again is no error, another one is.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

/// This program, also when its file was renamed or deleted.
const SELF: &str = "/proc/self/exe";
/// Where it goes.
const NAME: &str = "entrypoint";
/// Its checksum, as `sha256sum` writes it.
const SUM: &str = "entrypoint.sha256";
/// Begin of the names of files that are not complete.
const PARTLY: &str = ".partly-";
/// Bytes that are copied at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What to do with the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Put the program there.
    #[default]
    Write,
    /// Only compare.
    Verify,
}

/// The program is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// A file system that does not do what it should.
    #[error("failed to {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something else is there.
    #[error(
        "{} holds another program (sha256 {found}) than this one ({own}): a folder gets its tools once, so take an empty one",
        path.display()
    )]
    Differs {
        /// Where.
        path: PathBuf,
        /// Checksum of what is there.
        found: String,
        /// Checksum of this program.
        own: String,
    },
    /// Nobody but its owner could run it.
    #[error("{} may not be run by everyone (mode {mode:o})", path.display())]
    Mode {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The checksum beside it is that of something else.
    #[error("{} does not hold the checksum of this program", path.display())]
    Sum {
        /// Where.
        path: PathBuf,
    },
}

/// Says what was tried with which file.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { action, path, source }
}

/// Installs, or verifies. Returns the checksum of the program.
///
/// # Errors
///
/// [`InstallError`]; to install again goes on where it failed.
pub(crate) fn install(directory: &Path, mode: Mode) -> Result<String, InstallError> {
    let folder = directory.join("lib");
    let own = sum(Path::new(SELF))?;
    if mode == Mode::Verify {
        verify(&folder, &own)?;
        return Ok(own);
    }
    DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(&folder)
        .map_err(failed("make the folder", &folder))?;
    open_to_all(&folder)?;
    let program = folder.join(NAME);
    match sum(&program) {
        Ok(found) if found == own => {}
        Ok(found) => return Err(InstallError::Differs { path: program, found, own }),
        Err(InstallError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            write(&program, |file| copy(Path::new(SELF), |bytes| file.write_all(bytes)))?;
        }
        Err(error) => return Err(error),
    }
    open_to_all(&program)?;
    let line = line(&own);
    write(&folder.join(SUM), |file| file.write_all(line.as_bytes()))?;
    remove_leftovers(&folder);
    for folder in [folder.as_path(), directory] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
    }
    verify(&folder, &own)?;
    Ok(own)
}

fn verify(folder: &Path, own: &str) -> Result<(), InstallError> {
    let program = folder.join(NAME);
    let found = sum(&program)?;
    if found != own {
        return Err(InstallError::Differs { path: program, found, own: own.to_owned() });
    }
    let mode = fs::metadata(&program).map_err(failed("look at", &program))?.permissions().mode();
    if mode & 0o555 != 0o555 {
        return Err(InstallError::Mode { path: program, mode: mode & 0o7777 });
    }
    let path = folder.join(SUM);
    let text = fs::read(&path).map_err(failed("read", &path))?;
    if text == line(own).as_bytes() { Ok(()) } else { Err(InstallError::Sum { path }) }
}

/// A line of `sha256sum`.
fn line(sum: &str) -> String {
    format!("{sum}  {NAME}\n")
}

/// Everyone may read and run it, whatever the umask is.
fn open_to_all(path: &Path) -> Result<(), InstallError> {
    let mode = fs::metadata(path).map_err(failed("look at", path))?.permissions().mode();
    if mode & 0o755 == 0o755 {
        return Ok(());
    }
    let open = Permissions::from_mode(mode | 0o755);
    fs::set_permissions(path, open).map_err(failed("open to everyone", path))
}

/// Writes a file under another name, syncs it, and gives it its own.
fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), InstallError> {
    // Several pods of a Job may do this at once: each has a name of its own.
    let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let partly =
        path.with_file_name(format!("{PARTLY}{}-{}", std::process::id(), moment.as_nanos()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&partly)
        .and_then(|mut file| fill(&mut file).and_then(|()| file.sync_all()))
        .map_err(failed("write", &partly))
        .and_then(|()| open_to_all(&partly))
        .and_then(|()| fs::rename(&partly, path).map_err(failed("name", path)));
    if written.is_err() {
        // The error that matters is the first.
        drop(fs::remove_file(&partly));
    }
    written
}

/// What a run that was killed left. What another one writes meanwhile goes too: it tries again.
fn remove_leftovers(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PARTLY.as_bytes()))
    {
        // They only take room.
        drop(fs::remove_file(entry.path()));
    }
}

fn sum(path: &Path) -> Result<String, InstallError> {
    let mut hasher = Sha256::new();
    let copied = copy(path, |bytes| {
        hasher.update(bytes);
        Ok(())
    });
    copied.map_err(failed("read", path))?;
    Ok(hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes everything");
        text
    }))
}

fn copy(from: &Path, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::open(from)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, install};
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn the_program_is_there_whole_and_for_everyone_and_leftovers_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/.partly-7-7"), "half").unwrap();
        let sum = install(folder.path(), Mode::Write).unwrap();
        let program = folder.path().join("lib/entrypoint");
        assert_eq!(fs::read(&program).unwrap(), fs::read("/proc/self/exe").unwrap());
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
        let names = fs::read_dir(folder.path().join("lib")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["entrypoint", "entrypoint.sha256"]);
        assert_eq!(install(folder.path(), Mode::Verify).unwrap(), sum);
    }
}
