//! Connections that are kept between requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::{ConnectError, Connection, Dialer, Shared};

/// Idle HTTP/1.1 connections that are kept. The service holds an answer until the bytes are
/// durable, up to 2 s, so a connection is opened for each request in flight: 16 at most, by the
/// window. A steady log needs two or three at a time, and four carry more than a disk writes; the
/// others close when they fall idle.
const MAX_IDLE: usize = 4;

/// The connections to one service: one of HTTP/2, or several of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    /// Idle HTTP/1.1 connections, the one used last at the end.
    idle: Mutex<Vec<Connection>>,
    /// Locked while a TLS connection is opened, so that requests that start together share one.
    shared: tokio::sync::Mutex<Option<Shared>>,
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, idle: Mutex::default(), shared: tokio::sync::Mutex::default() }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// A connection that has been used before, if there is one that looks alive.
    pub(super) async fn kept(&self) -> Option<Connection> {
        let idle = {
            let mut idle = self.idle();
            idle.retain(|connection| !connection.is_closed());
            idle.pop()
        };
        match idle {
            Some(connection) => Some(connection),
            None => self.shared.lock().await.clone().map(Connection::Shared).filter(is_alive),
        }
    }

    /// A new connection; with HTTP/2 also one that another request has just opened.
    pub(super) async fn connect(&self) -> Result<Connection, ConnectError> {
        if self.dialer.url().is_remote() {
            let mut shared = self.shared.lock().await;
            if let Some(alive) = shared.clone().map(Connection::Shared).filter(is_alive) {
                return Ok(alive);
            }
            let connection = self.dialer.dial().await?;
            if let Connection::Shared(new) = &connection {
                *shared = Some(new.clone());
            }
            return Ok(connection);
        }
        self.dialer.dial().await
    }

    /// Keeps an HTTP/1.1 connection whose answer was read whole.
    pub(super) fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if matches!(connection, Connection::Single(_)) && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// A kept connection was dead: so are, most likely, all.
    pub(super) fn forget(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_alive(connection: &Connection) -> bool {
    !connection.is_closed()
}
