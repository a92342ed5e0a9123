//! Which program a command means, by the rules of `execvp`.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

use crate::{environment::Environment, exit::Status, sys::process::Image};

/// Where programs are looked for if `PATH` is not set: what containerd and runc put there.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that cannot be executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// There is no such program.
    #[error("the command {0:?} was not found")]
    NotFound(String),
    /// The program is there; what it names as its interpreter is not.
    #[error("the command {0:?} is there, but not the interpreter or loader that it names")]
    NoInterpreter(String),
    /// The kernel refused.
    #[error("failed to execute the command {name:?}")]
    Refused {
        /// The command as it was given.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CommandError {
    /// Says what an error of `execve` means.
    pub(crate) fn new(name: &CString, source: io::Error) -> Self {
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let name = name.to_string_lossy().into_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT) if name.contains('/') && path.exists() => Self::NoInterpreter(name),
            Some(libc::ENOENT) => Self::NotFound(name),
            _ => Self::Refused { name, source },
        }
    }

    /// The status that a shell gives it: 127 if something is missing, else 126.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::NotFound(_) | Self::NoInterpreter(_) => Status::NOT_FOUND,
            Self::Refused { .. } => Status::NOT_EXECUTABLE,
        }
    }
}

/// Prepares a command with the environment that it will get.
pub(crate) fn image(command: &[CString], environment: &Environment, hidden: &[&str]) -> Image {
    let name = command.first().map_or(&b""[..], |name| name.as_bytes());
    Image::new(
        candidates(name, environment.get(b"PATH")),
        command.to_vec(),
        environment.without(hidden),
    )
}

/// The files that a name may mean, the best first. An empty part of `PATH` is the working
/// directory.
fn candidates(name: &[u8], path: Option<&[u8]>) -> Vec<CString> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    let folders = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
    folders.filter_map(|folder| CString::new(join(folder, name)).ok()).collect()
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    [folder, name].join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::{CommandError, candidates};
    use crate::exit::Status;
    use proptest::prelude::*;
    use std::io;

    fn texts(name: &str, path: Option<&str>) -> Vec<String> {
        let found = candidates(name.as_bytes(), path.map(str::as_bytes));
        found.into_iter().map(|file| file.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_with_a_slash_is_not_looked_for() {
        assert_eq!(texts("./x", Some("/bin")), ["./x"]);
        assert_eq!(texts("a/b", None), ["a/b"]);
    }

    #[test]
    fn an_empty_part_of_the_path_is_the_working_directory() {
        assert_eq!(texts("x", Some(":/bin:")), ["x", "/bin/x", "x"]);
        assert_eq!(texts("x", Some("")), ["x"]);
    }

    #[test]
    fn without_a_path_the_usual_folders_are_searched_and_an_empty_name_is_nowhere() {
        assert!(texts("sh", None).contains(&"/bin/sh".to_owned()));
        assert_eq!(texts("", Some("/bin")), Vec::<String>::new());
    }

    #[test]
    fn errors_have_the_status_of_a_shell() {
        let status = |name: &std::ffi::CStr, number| {
            CommandError::new(&name.to_owned(), io::Error::from_raw_os_error(number)).status()
        };
        assert_eq!(status(c"x", libc::ENOENT), Status::NOT_FOUND);
        assert_eq!(status(c"/bin/sh", libc::ENOENT), Status::NOT_FOUND);
        assert_eq!(status(c"x", libc::EACCES), Status::NOT_EXECUTABLE);
        assert_eq!(status(c"x", libc::E2BIG), Status::NOT_EXECUTABLE);
    }

    proptest! {
        #[test]
        fn every_part_of_the_path_is_tried_once_and_in_order(
            parts in prop::collection::vec("[a-z/]{0,5}", 1..6),
        ) {
            let found = texts("x", Some(&parts.join(":")));
            prop_assert_eq!(found.len(), parts.len());
            for (file, part) in found.iter().zip(&parts) {
                prop_assert!(file.starts_with(part.as_str()) && file.ends_with('x'));
            }
        }
    }
}
