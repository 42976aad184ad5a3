//! Connections to hosts that are driven by who uses them: no task of their own, no hop between threads. They are those of
//! [`crate::upstream`] otherwise: kept alive, checked, to addresses that may be reached.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use skep_sources::{Reach, may_be_asked};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower_service::Service as _;

use crate::upstream::{Connector, IDLE, MOST_IDLE, connector, why};

type Message = Request<Full<Bytes>>;
type Connection = http1::Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>;
/// Those that nobody uses now, by where they lead, and since when.
type Idle = Mutex<HashMap<Box<str>, Vec<(Instant, Link)>>>;

/// One connection. What is `None` has ended, and must be dropped: a request that it has not taken is given back by that
/// alone.
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Option<Pin<Box<Connection>>>,
}

fn drive(connection: &mut Option<Pin<Box<Connection>>>, cx: &mut Context<'_>) {
    if let Some(open) = connection
        && open.as_mut().poll(cx).is_ready()
    {
        *connection = None;
    }
}

impl Link {
    async fn open(mut connector: Connector, uri: Uri) -> Result<Self, String> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| why(&*error);
        let ready = poll_fn(|cx| connector.poll_ready(cx)).await;
        ready.map_err(failed)?;
        let stream = connector.call(uri).await.map_err(failed)?;
        let shaken = http1::handshake(stream).await;
        let (sender, connection) = shaken.map_err(|error| why(&error))?;
        Ok(Self {
            sender,
            connection: Some(Box::pin(connection)),
        })
    }

    /// Whether it takes another request at once. One on which something still goes out, or on which something came that
    /// nobody asked for, does not.
    async fn is_ready(&mut self) -> bool {
        let look = poll_fn(|cx| {
            drive(&mut self.connection, cx);
            let open = self.connection.is_some();
            Poll::Ready(open && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(()))))
        });
        // What came is read even by a task that has had its turn.
        tokio::task::unconstrained(look).await
    }

    async fn send(
        &mut self,
        message: Message,
    ) -> Result<Response<Incoming>, TrySendError<Message>> {
        let mut sending = pin!(self.sender.try_send_request(message));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            drive(connection, cx);
            sending.as_mut().poll(cx)
        })
        .await
    }

    fn poll_frame(
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

/// The body of an answer, with the connection that it comes by.
pub(crate) struct Answering {
    body: Incoming,
    /// Until the answer has come to its end.
    link: Option<Link>,
    idle: Weak<Idle>,
    to: Box<str>,
}

impl Answering {
    /// The connection is free for the next request.
    fn free(&mut self) {
        if let (Some(link), Some(idle)) = (self.link.take(), self.idle.upgrade()) {
            keep(&idle, &self.to, link);
        }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(link) = &mut this.link else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        let frame = link.poll_frame(&mut this.body, cx);
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
            _ => false,
        };
        if ended {
            this.free();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Who has all that they want does not look whether it was the end. If it was not, the connection goes with this.
        if let Some(link) = &mut self.link
            && let Poll::Ready(None) =
                link.poll_frame(&mut self.body, &mut Context::from_waker(Waker::noop()))
        {
            self.free();
        }
    }
}

/// Keeps a connection for the next request.
fn keep(idle: &Idle, to: &str, link: Link) {
    if link.connection.is_none() || link.sender.is_closed() {
        return;
    }
    let mut idle = idle.lock();
    if !idle.contains_key(to) {
        idle.insert(to.into(), Vec::new());
    }
    let Some(links) = idle.get_mut(to) else {
        return;
    };
    if links.len() >= MOST_IDLE {
        links.remove(0);
    }
    links.push((Instant::now(), link));
}

/// Closes those that nobody has used for too long.
async fn prune(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(idle) = idle.upgrade() else {
            return;
        };
        idle.lock().retain(|_, links| {
            links.retain(|(since, _)| since.elapsed() < IDLE);
            !links.is_empty()
        });
    }
}

/// The way to hosts.
pub(crate) struct Links {
    connector: OnceCell<Connector>,
    reach: Reach,
    idle: Arc<Idle>,
}

impl Links {
    /// Those that reach what may be reached, and believe the system's certificates.
    pub(crate) fn new(reach: Reach) -> Self {
        Self {
            connector: OnceCell::new(),
            reach,
            idle: Arc::default(),
        }
    }

    async fn connector(&self) -> Result<Connector, String> {
        let make = || async {
            let made = connector(self.reach.clone(), None).await?;
            tokio::spawn(prune(Arc::downgrade(&self.idle)));
            Ok(made)
        };
        self.connector.get_or_try_init(make).await.cloned()
    }

    /// One that was used before and seems to be open.
    async fn reuse(&self, to: &str) -> Option<Link> {
        loop {
            let (since, mut link) = self.idle.lock().get_mut(to)?.pop()?;
            if since.elapsed() < IDLE && link.is_ready().await {
                return Some(link);
            }
        }
    }

    /// Sends a request, and gives the answer when that begins; or why there is none, and whether it may have been read.
    pub(crate) async fn ask(
        &self,
        request: Message,
    ) -> Result<Response<Answering>, (String, bool)> {
        let unsent = |why: String| (why, false);
        may_be_asked(&self.reach, request.uri()).map_err(unsent)?;
        let uri = request.uri().clone();
        let mut message = as_sent(request).map_err(unsent)?;
        let to = origin(&uri);
        while let Some(mut link) = self.reuse(&to).await {
            match link.send(message).await {
                Ok(answer) => return Ok(self.answering(answer, link, to)),
                Err(mut refused) => match refused.take_message() {
                    // It ended just then, and nobody has read it.
                    Some(given_back) => message = given_back,
                    None => return Err((why(refused.error()), true)),
                },
            }
        }
        let connector = self.connector().await.map_err(unsent)?;
        let mut link = Link::open(connector, uri).await.map_err(unsent)?;
        match link.send(message).await {
            Ok(answer) => Ok(self.answering(answer, link, to)),
            Err(refused) => Err((why(refused.error()), refused.message().is_none())),
        }
    }

    fn answering(
        &self,
        answer: Response<Incoming>,
        link: Link,
        to: Box<str>,
    ) -> Response<Answering> {
        answer.map(|body| {
            let mut answering = Answering {
                body,
                link: Some(link),
                idle: Arc::downgrade(&self.idle),
                to,
            };
            if answering.body.is_end_stream() {
                answering.free();
            }
            answering
        })
    }
}

/// Where a connection leads: scheme and authority.
fn origin(uri: &Uri) -> Box<str> {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |it| it.as_str());
    format!("{scheme}://{authority}").into()
}

/// The host of a URI as the header of that name has it.
pub(crate) fn host_of(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    match (uri.scheme_str(), uri.port_u16()) {
        (_, None) | (Some("http"), Some(80)) | (Some("https"), Some(443)) => host.to_owned(),
        (_, Some(port)) => format!("{host}:{port}"),
    }
}

/// A request with its path as its target, and its host in a header.
fn as_sent(mut request: Message) -> Result<Message, String> {
    let uri = request.uri();
    let host = HeaderValue::try_from(host_of(uri)).map_err(|error| error.to_string())?;
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    request.headers_mut().entry(HOST).or_insert(host);
    *request.uri_mut() = Uri::from(path);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi";

    fn links() -> Links {
        Links::new(Arc::new(|_| true))
    }

    async fn listener() -> (TcpListener, Uri) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, format!("http://{address}/a?b").parse().unwrap())
    }

    fn message(uri: &Uri) -> Message {
        let mut message = Request::new(Full::new(Bytes::from_static(b"{}")));
        *message.method_mut() = http::Method::POST;
        *message.uri_mut() = uri.clone();
        message
    }

    /// Asks, and gets the answer.
    async fn answers(links: &Links, message: Message) {
        let answer = links.ask(message).await.ok().unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "hi");
    }

    /// Hears a request, and answers it.
    async fn serve(stream: &mut TcpStream, answer: &[u8]) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn one_connection_serves_requests_that_follow_each_other() {
        let (listener, uri) = listener().await;
        let host = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let first = serve(&mut stream, WHOLE).await;
            serve(&mut stream, CHUNKED).await;
            serve(&mut stream, CHUNKED).await;
            serve(&mut stream, WHOLE).await;
            first
        });
        let links = links();
        for _ in 0..2 {
            answers(&links, message(&uri)).await;
        }
        // Who has all of it and does not look for the end leaves the connection to others, too.
        let mut body = links.ask(message(&uri)).await.ok().unwrap().into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "hi");
        drop(body);
        let answer = links.ask(message(&uri)).await.ok().unwrap();
        assert_eq!(answer.status(), 200);
        let heard = host.await.unwrap();
        let authority = uri.authority().unwrap();
        assert!(heard.starts_with("POST /a?b HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains(&format!("host: {authority}\r\n")), "{heard}");
    }

    #[tokio::test]
    async fn who_finds_a_connection_closed_asks_on_another() {
        let (listener, uri) = listener().await;
        let closed = Arc::new(tokio::sync::Notify::new());
        let close = closed.clone();
        let host = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                serve(&mut stream, WHOLE).await;
                drop(stream);
                close.notify_one();
            }
        });
        let links = links();
        for _ in 0..2 {
            answers(&links, message(&uri)).await;
            closed.notified().await;
        }
        host.await.unwrap();
        // Nobody listens any more, and nobody has read it.
        let refused = links.ask(message(&uri)).await.err().unwrap();
        assert!(!refused.1, "{}", refused.0);
    }

    #[tokio::test]
    async fn an_answer_that_is_left_or_cut_takes_its_connection_along() {
        let (listener, uri) = listener().await;
        let host = tokio::spawn(async move {
            let (mut left, _) = listener.accept().await.unwrap();
            serve(&mut left, HALF).await;
            // It ends, in whatever way, and nothing more comes by it.
            let mut rest = Vec::new();
            let _ = left.read_to_end(&mut rest).await;
            assert_eq!(rest, b"");
            let (mut cut, _) = listener.accept().await.unwrap();
            serve(&mut cut, HALF).await;
            listener
        });
        let links = links();
        let left = links.ask(message(&uri)).await.ok().unwrap();
        drop(left);
        let cut = links.ask(message(&uri)).await.ok().unwrap();
        assert!(cut.into_body().collect().await.is_err());
        host.await.unwrap();
        assert!(links.idle.lock().values().all(Vec::is_empty));
    }

    #[tokio::test]
    async fn nobody_waits_for_what_another_has_not_sent() {
        let (listener, uri) = listener().await;
        let host = tokio::spawn(async move {
            // It answers early, and does not read on.
            let (mut early, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            early.read_exact(&mut head).await.unwrap();
            early.write_all(WHOLE).await.unwrap();
            let (mut next, _) = listener.accept().await.unwrap();
            serve(&mut next, WHOLE).await;
            early
        });
        let links = links();
        let mut large = message(&uri);
        *large.body_mut() = Full::new(Bytes::from(vec![b'x'; 16 << 20]));
        for asked in [large, message(&uri)] {
            answers(&links, asked).await;
        }
        host.await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_after_an_answer_is_no_answer() {
        let (listener, uri) = listener().await;
        let host = tokio::spawn(async move {
            let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            let (mut first, _) = listener.accept().await.unwrap();
            serve(&mut first, &[WHOLE, evil].concat()).await;
            let (mut next, _) = listener.accept().await.unwrap();
            serve(&mut next, WHOLE).await;
            first
        });
        let links = links();
        for _ in 0..2 {
            answers(&links, message(&uri)).await;
        }
        host.await.unwrap();
    }

    #[tokio::test]
    async fn who_hears_nothing_may_have_been_read() {
        let (listener, uri) = listener().await;
        let host = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut stream, b"").await;
        });
        let silent = links().ask(message(&uri)).await.err().unwrap();
        assert!(silent.1, "{}", silent.0);
        host.await.unwrap();
    }
}
