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

use crate::agents::Connecting;
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
    /// The revision that the instance runs.
    pub(crate) revision: u32,
}

/// One connection, driven by whoever uses it: no task of its own, no hop between threads.
pub(crate) struct Link {
    sender: http1::SendRequest<Body>,
    /// `None` when it has ended. It must be dropped then: a request that it has not taken is given
    /// back by that alone.
    connection: Option<Pin<Box<Connection>>>,
}

/// Drives a connection, and drops it when it has ended.
fn drive(connection: &mut Option<Pin<Box<Connection>>>, cx: &mut Context<'_>) {
    if let Some(open) = connection
        && open.as_mut().poll(cx).is_ready()
    {
        *connection = None;
    }
}

impl Link {
    /// A new connection.
    pub(crate) async fn open(connecting: Connecting) -> Result<Self, String> {
        let (sender, connection) = connect(connecting).await?;
        Ok(Self {
            sender,
            connection: Some(Box::pin(connection)),
        })
    }

    /// Whether it takes another request.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            drive(&mut self.connection, cx);
            if self.connection.is_none() {
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
        let connection = &mut self.connection;
        poll_fn(|cx| {
            drive(connection, cx);
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
        drive(&mut self.connection, cx);
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
        if link.connection.is_none() || link.sender.is_closed() {
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
    connecting: Connecting,
) -> Result<(http1::SendRequest<Body>, Connection), String> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn message() -> Request<Body> {
        let mut message = Request::new(Body::empty());
        let host = http::HeaderValue::from_static("x");
        message.headers_mut().insert(http::header::HOST, host);
        message
    }

    #[tokio::test]
    async fn a_connection_that_ends_before_it_takes_a_request_gives_it_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Place {
            instance: InstanceId::new(),
            address: listener.local_addr().unwrap(),
            revision: 1,
        };
        let agent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 1024];
            let count = stream.read(&mut heard).await.unwrap();
            assert!(heard[..count].ends_with(b"\r\n\r\n"));
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            (listener, stream)
        });
        let mut link = Link::open(Box::pin(TcpStream::connect(place.address)))
            .await
            .unwrap();
        let answer = link.send(message()).await;
        assert_eq!(
            answer.ok().map(|answer| answer.status().as_u16()),
            Some(204)
        );
        assert!(link.is_ready().await);
        let (listener, stream) = agent.await.unwrap();
        // It looked ready; now it ends, and the system has said so before the next request.
        drop(stream);
        let after = tokio::join!(TcpStream::connect(place.address), listener.accept());
        let (mut here, (mut there, _)) = (after.0.unwrap(), after.1.unwrap());
        there.write_all(b"x").await.unwrap();
        here.read_u8().await.unwrap();
        let sent = tokio::time::timeout(PATIENCE, link.send(message())).await;
        let refused = sent.expect("it does not wait for ever").err();
        let unsent = refused.is_some_and(|refused| refused.message().is_some());
        assert!(unsent, "nothing of it was sent");
    }
}
