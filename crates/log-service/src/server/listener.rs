//! Sockets that connections come in by.

use std::{io, path::Path};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::config::Listen;

/// A connection, of whatever kind.
pub(super) type Stream = Box<dyn Connection>;

/// Bytes in both directions.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// An open socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Listen,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The service cannot listen there.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {listen}")]
pub struct ListenFailed {
    listen: Listen,
    source: io::Error,
}

impl Listener {
    /// Opens a socket. A unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// [`ListenFailed`] if the address is taken or not ours.
    pub async fn bind(listen: &Listen) -> Result<Self, ListenFailed> {
        let bound = match listen {
            Listen::Tcp(address) => bind_tcp(*address).await,
            Listen::Unix(path) => {
                bind_unix(path).map(|socket| (Socket::Unix(socket), listen.clone()))
            }
        };
        let (socket, address) =
            bound.map_err(|source| ListenFailed { listen: listen.clone(), source })?;
        Ok(Self { socket, address })
    }

    /// The real address: with the port that was given for port 0.
    #[must_use]
    pub fn address(&self) -> &Listen {
        &self.address
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // An answer is one small write: waiting for more would cost 40 ms.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Socket::Unix(socket) => Ok(Box::new(socket.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.address {
            // Left behind it would only be replaced at the next start.
            drop(std::fs::remove_file(path));
        }
    }
}

async fn bind_tcp(address: std::net::SocketAddr) -> io::Result<(Socket, Listen)> {
    let socket = TcpListener::bind(address).await?;
    let address = socket.local_addr()?;
    Ok((Socket::Tcp(socket), Listen::Tcp(address)))
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let answered = std::os::unix::net::UnixStream::connect(path);
            let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if !answered.as_ref().is_err_and(refused) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}
