//! The message that Kubernetes shows for a container that failed.

use std::{fs::OpenOptions, io, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// Longest message in bytes. Kubernetes keeps 4 KiB for a container and 12 KiB for a pod, and
/// what the command itself writes must have room.
const MAX_BYTES: usize = 512;

/// Writes the message, if the file is there and the command left it empty.
///
/// # Errors
///
/// When the file is there and cannot be written. That changes nothing else.
pub(crate) fn write(path: &Path, message: &str) -> io::Result<()> {
    // Not blocking: the path may be anything, such as a pipe that nobody reads.
    let opened =
        OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() == 0 {
        file.write_all(shorten(message).as_bytes())?;
    }
    Ok(())
}

fn shorten(message: &str) -> &str {
    let end = (0..=MAX_BYTES.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    message.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, write};
    use std::fs;

    #[test]
    fn only_an_empty_file_that_is_there_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&path, "message").unwrap();
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        write(&path, "message").unwrap();
        write(&path, "another").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "message");
    }

    #[test]
    fn a_long_message_is_cut_between_letters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "").unwrap();
        write(&path, &format!("x{}", "é".repeat(400))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().len(), MAX_BYTES - 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path(), "message").is_err());
        write("/dev/null".as_ref(), "message").unwrap();
    }
}
