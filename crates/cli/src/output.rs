//! Standard output and standard error.

use tokio::io::{AsyncWriteExt, Stderr, Stdout};

use crate::render::Printed;

/// Where things are printed. Never blocks the thread: a signal is heard while a pipe is full.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Stdout,
    stderr: Stderr,
}

/// Printing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// As in `relay logs … | head`: nothing is wrong.
    #[error("nobody reads the output any more")]
    ReaderGone,
    /// The disk is full, for instance.
    #[error("failed to write to standard output")]
    Failed(#[source] std::io::Error),
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { stdout: tokio::io::stdout(), stderr: tokio::io::stderr() }
    }

    /// Prints, and empties what was printed.
    pub(crate) async fn print(&mut self, printed: &mut Printed) -> Result<(), WriteError> {
        let Printed { stdout, stderr } = printed;
        self.write(stdout).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::BrokenPipe => WriteError::ReaderGone,
            _ => WriteError::Failed(source),
        })?;
        if !stderr.is_empty() {
            // Nobody is left to tell that this failed.
            drop(self.stderr.write_all(stderr).await);
            drop(self.stderr.flush().await);
        }
        stdout.clear();
        stderr.clear();
        Ok(())
    }

    /// Prints a line on standard error.
    pub(crate) async fn tell(&mut self, message: &str) {
        drop(self.stderr.write_all(format!("relay: {message}\n").as_bytes()).await);
        drop(self.stderr.flush().await);
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.stdout.write_all(bytes).await?;
        self.stdout.flush().await
    }
}
