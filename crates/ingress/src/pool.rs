//! Connections to one agent's instance: kept alive while they are young, one request at a time.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use skep_core::InstanceId;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::Body;

/// Idle connections that are kept.
const MOST_IDLE: usize = 256;
/// A connection that was idle for longer is not used again: many servers close theirs after five
/// seconds, and a request that meets the close is lost on the way.
const IDLE: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers that an agent may answer with.
const MOST_HEADERS: usize = 256;
/// The largest head of an answer.
const HEAD_BYTES: usize = 256 << 10;

pub(crate) type Sender = http1::SendRequest<Body>;

/// Where an agent's calls go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) instance: InstanceId,
    pub(crate) address: SocketAddr,
}

#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<(Place, Instant, Sender)>>,
}

impl Pool {
    /// A connection that was used before and seems to be open.
    pub(crate) async fn reuse(&self, place: Place) -> Option<Sender> {
        loop {
            let (of, since, mut sender) = self.idle.lock().pop()?;
            if of == place && since.elapsed() < IDLE && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, place: Place, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push((place, Instant::now(), sender));
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        self.idle
            .lock()
            .retain(|(_, since, sender)| since.elapsed() < IDLE && !sender.is_closed());
    }
}

/// A new connection.
pub(crate) async fn connect(place: Place) -> Result<Sender, String> {
    let connecting = TcpStream::connect(place.address);
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => return Err("connecting took too long".to_owned()),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(stream)) => stream,
    };
    // Small requests go out at once.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::Builder::new()
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // It ends with its connection; what went wrong shows at the request.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}
