//! Connections to one agent's instances: kept alive while they are young, one request at a time.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use skep_core::InstanceId;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::Body;

/// Idle connections that are kept of each instance.
const MOST_IDLE: usize = 256;
/// A connection that was idle for longer is not used again: many servers close theirs after five
/// seconds, and a request that meets the close is lost on the way.
const IDLE: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of an answer.
const HEAD_BYTES: usize = 256 << 10;

/// Where an agent's calls go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) instance: InstanceId,
    pub(crate) address: SocketAddr,
}

/// One connection, driven by whoever uses it: no task of its own, no hop between threads.
pub(crate) struct Link {
    sender: http1::SendRequest<Body>,
    connection: Pin<Box<http1::Connection<TokioIo<TcpStream>, Body>>>,
    ended: bool,
}

impl Link {
    /// A new connection.
    pub(crate) async fn open(place: Place) -> Result<Self, String> {
        let (sender, connection) = connect(place).await?;
        Ok(Self {
            sender,
            connection: Box::pin(connection),
            ended: false,
        })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended && self.connection.as_mut().poll(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Whether it takes another request.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            if self.ended {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await
    }

    /// Sends a request; the answer's body is read with [`Link::poll_frame`].
    pub(crate) async fn send(
        &mut self,
        message: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        let mut sending = pin!(self.sender.try_send_request(message));
        let (connection, ended) = (&mut self.connection, &mut self.ended);
        poll_fn(|cx| {
            if !*ended && connection.as_mut().poll(cx).is_ready() {
                *ended = true;
            }
            sending.as_mut().poll(cx)
        })
        .await
    }

    /// The next frame of the answer to the request that was sent last.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Asking first tells the connection that there is demand.
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.drive(cx);
        Pin::new(body).poll_frame(cx)
    }
}

#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<InstanceId, Vec<(Instant, Link)>>>,
}

impl Pool {
    /// A connection that was used before and seems to be open.
    pub(crate) async fn reuse(&self, place: Place) -> Option<Link> {
        loop {
            let (since, mut link) = self.idle.lock().get_mut(&place.instance)?.pop()?;
            if since.elapsed() < IDLE && link.is_ready().await {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, place: Place, link: Link) {
        if link.ended || link.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let idle = idle.entry(place.instance).or_default();
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push((Instant::now(), link));
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        self.idle.lock().retain(|_, idle| {
            idle.retain(|(since, _)| since.elapsed() < IDLE);
            !idle.is_empty()
        });
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, Body>;

/// A new connection, not driven yet.
pub(crate) async fn connect(
    place: Place,
) -> Result<(http1::SendRequest<Body>, Connection), String> {
    let connecting = TcpStream::connect(place.address);
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => return Err("connecting took too long".to_owned()),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(stream)) => stream,
    };
    // Small requests go out at once.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())
}
