//! One connection: served, watched, and closed when nothing happens on it, so that silent peers
//! cannot hold the places of others.

use std::any::Any;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::UPGRADE;
use http_body::{Body, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use skep_guard::certificates::Shown;
use skep_guard::threats::patterns::Pattern;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatcher;

/// How long a client may take nothing of an answer that is there for it.
const STALLED: Duration = Duration::from_secs(60);

/// What a connection holds as long as it lives, also as an upgraded one: its place among the
/// connections that there may be. The doors find it in the extensions of a request that asks
/// for another protocol, or for a tunnel.
pub(crate) type Place = Arc<dyn Any + Send + Sync>;

/// What every connection is served with.
pub(crate) struct Serving {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) builder: auto::Builder<TokioExecutor>,
    /// How long nothing may happen between requests, and before the first one.
    pub(crate) idle: Duration,
}

/// Serves a connection until it ends, is told to stop or has been silent for too long.
pub(crate) async fn serve(
    serving: &Serving,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (remote, shown): (SocketAddr, Option<Arc<Shown>>),
    place: Place,
    stop: CancellationToken,
) {
    let activity = Arc::new(Activity::new());
    let (dispatcher, seen) = (serving.dispatcher.clone(), activity.clone());
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let work = Work::begin(&seen);
        if request.headers().contains_key(UPGRADE) || request.method() == http::Method::CONNECT {
            request.extensions_mut().insert(place.clone());
        }
        let (dispatcher, shown) = (dispatcher.clone(), shown.clone());
        async move {
            let response = dispatcher.answer(remote.ip(), shown.as_deref(), request);
            let response = response.await;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, &work.0)))
        }
    });
    let stream = TokioIo::new(Watched {
        stream,
        activity: activity.clone(),
        blocked: false,
    });
    let mut connection = pin!(
        serving
            .builder
            .serve_connection_with_upgrades(stream, service)
    );
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%remote, %error, "connection ended");
                    if let Some(pattern) = unreadable(&*error) {
                        serving.dispatcher.unreadable(remote.ip(), pattern);
                    }
                }
                return;
            }
            () = stop.cancelled(), if !closing => {}
            () = activity.quiet(serving.idle) => {
                // One that does not take its leave is dropped.
                if closing {
                    tracing::debug!(%remote, "connection cut: nothing happened on it");
                    return;
                }
            }
        }
        closing = true;
        activity.change(|_| {});
        connection.as_mut().graceful_shutdown();
    }
}

/// What a connection ended by looks like, when it was no request that anybody could read.
fn unreadable(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Pattern> {
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_parse_too_large() {
        return Some(Pattern::Headers);
    }
    error.is_parse().then_some(Pattern::Framing)
}

/// What goes on on a connection.
struct Activity(Mutex<Doing>);

#[derive(Debug)]
struct Doing {
    /// Requests and answers that wait for the server or an agent: no fault of the client's.
    working: usize,
    /// Answers that the client does not have whole.
    answers: usize,
    /// Whether bytes wait for the client to take them.
    blocked: bool,
    /// When something happened last.
    last: Instant,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Doing {
            working: 0,
            answers: 0,
            blocked: false,
            last: Instant::now(),
        }))
    }

    fn change(&self, change: impl FnOnce(&mut Doing)) {
        let mut doing = self.0.lock();
        change(&mut doing);
        doing.last = Instant::now();
    }

    /// When it has to be looked at again; none when it has been quiet for too long.
    fn look_again(&self, idle: Duration, now: Instant) -> Option<Instant> {
        let doing = self.0.lock();
        if doing.working > 0 {
            return Some(now + idle);
        }
        let patience = if doing.answers > 0 || doing.blocked {
            idle.max(STALLED)
        } else {
            idle
        };
        Some(doing.last + patience).filter(|until| *until > now)
    }

    /// Returns when nothing has happened for too long.
    async fn quiet(&self, idle: Duration) {
        while let Some(until) = self.look_again(idle, Instant::now()) {
            sleep_until(until).await;
        }
    }
}

/// A request that is being answered.
struct Work(Arc<Activity>);

impl Work {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.change(|doing| doing.working += 1);
        Self(activity.clone())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.change(|doing| doing.working -= 1);
    }
}

/// The body of an answer, which is in progress until it is dropped.
struct Answer<B> {
    body: B,
    activity: Arc<Activity>,
    /// Whether it waits for more to come.
    waits: bool,
}

impl<B> Answer<B> {
    fn new(body: B, activity: &Arc<Activity>) -> Self {
        activity.change(|doing| doing.answers += 1);
        Self {
            body,
            activity: activity.clone(),
            waits: false,
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let (waited, waits) = (self.waits, polled.is_pending());
        self.waits = waits;
        match (waited, waits) {
            (true, true) => {}
            (false, true) => self.activity.change(|doing| doing.working += 1),
            (true, false) => self.activity.change(|doing| doing.working -= 1),
            (false, false) => self.activity.change(|_| {}),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        let waits = self.waits;
        self.activity.change(|doing| {
            doing.answers -= 1;
            doing.working -= usize::from(waits);
        });
    }
}

/// A stream that tells when its peer does not take what is written, and when it does again.
/// Other writes tell nothing: an idle HTTP/2 connection has its PINGs.
struct Watched<T> {
    stream: T,
    activity: Arc<Activity>,
    blocked: bool,
}

impl<T> Watched<T> {
    fn note<R>(&mut self, polled: Poll<R>) -> Poll<R> {
        let blocked = polled.is_pending();
        if blocked && !self.blocked {
            self.activity.0.lock().blocked = true;
        } else if self.blocked && !blocked {
            self.activity.change(|doing| doing.blocked = false);
        }
        self.blocked = blocked;
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TLS stream writes what it holds here.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const IDLE: Duration = Duration::from_secs(1);

    fn quiet(activity: &Activity, after: Duration) -> bool {
        let now = activity.0.lock().last + after;
        activity.look_again(IDLE, now).is_none()
    }

    #[test]
    fn a_connection_without_a_request_gets_quiet() {
        let activity = Arc::new(Activity::new());
        assert!(!quiet(&activity, IDLE / 2));
        assert!(quiet(&activity, IDLE));
        let work = Work::begin(&activity);
        assert!(!quiet(&activity, STALLED * 2));
        drop(work);
        assert!(quiet(&activity, IDLE));
    }

    #[tokio::test]
    async fn an_answer_that_waits_for_its_agent_is_no_silence_of_the_client() {
        let activity = Arc::new(Activity::new());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut answer = Answer::new(crate::channel::ReceiverBody(receiver), &activity);
        // Nobody asks for it: the client has not taken what was there.
        assert!(!quiet(&activity, IDLE));
        assert!(quiet(&activity, STALLED));
        {
            let mut frame = pin!(answer.frame());
            assert!(
                std::future::poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx).is_pending())).await
            );
        }
        assert!(!quiet(&activity, STALLED * 2));
        drop(sender);
        assert!(answer.frame().await.is_none());
        assert!(quiet(&activity, STALLED));
        drop(answer);
        assert!(quiet(&activity, IDLE));
    }
}
