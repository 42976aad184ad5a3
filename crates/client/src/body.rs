//! Bodies of requests: bytes in memory, or a file that is read while it is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use crate::ClientError;

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// A longer body is not sent before the server asks for it.
const UNASKED_BYTES: u64 = 64 << 10;
/// Time for the server to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// What is in memory.
    Bytes(Bytes),
    /// A regular file, never held in memory. It is read anew whenever the request is sent again, so
    /// it must not change before the answer is there.
    File(PathBuf),
}

impl Default for RequestBody {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl<T: Into<Bytes>> From<T> for RequestBody {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl RequestBody {
    /// The body as it is sent once.
    pub(crate) async fn open(self) -> Result<Sending, ClientError> {
        let source = match self {
            Self::Bytes(bytes) => Source::Bytes(bytes),
            Self::File(path) => match Reading::open(&path).await {
                Ok(reading) => Source::File(Box::new(reading)),
                Err(source) => return Err(ClientError::File { path, source }),
            },
        };
        Ok(Sending::new(source))
    }
}

/// A body on its way.
pub(crate) struct Sending {
    source: Source,
    /// Ends when the server has asked for the body, or does not ask.
    held_back: Option<HeldBack>,
    asked: Arc<Notify>,
}

type HeldBack = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Source {
    Bytes(Bytes),
    File(Box<Reading>),
}

/// A file that is being read.
struct Reading {
    file: File,
    path: PathBuf,
    /// Bytes to go, of the length that it had when it was opened.
    left: u64,
    buffer: Vec<u8>,
}

impl Sending {
    fn new(source: Source) -> Self {
        let mut sending = Self {
            source,
            held_back: None,
            asked: Arc::new(Notify::new()),
        };
        if sending.left() > UNASKED_BYTES {
            let asked = sending.asked.clone();
            sending.held_back = Some(Box::pin(async move {
                // Not every server asks.
                let _ = tokio::time::timeout(ASK_TIMEOUT, asked.notified()).await;
            }));
        }
        sending
    }

    fn left(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(reading) => reading.left,
        }
    }

    /// The request with this body. One that is large is sent when the server asks for it, as
    /// `100-continue` (RFC 9110 section 10.1.1) has it: a server that refuses it closes the
    /// connection, and who still writes then does not see why.
    pub(crate) fn request(self) -> Request<Self> {
        let (large, asked) = (self.held_back.is_some(), self.asked.clone());
        let mut request = Request::new(self);
        if large {
            let expected = HeaderValue::from_static("100-continue");
            request.headers_mut().insert(EXPECT, expected);
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    asked.notify_one();
                }
            });
        }
        request
    }
}

/// Why the rest of a file does not come. Told apart from what a connection does.
#[derive(Debug, thiserror::Error)]
#[error("{path}", path = path.display())]
pub(crate) struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

impl Unreadable {
    /// The file that a failed request could not read, if that was it.
    pub(crate) fn find(error: &(dyn std::error::Error + 'static)) -> Option<ClientError> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<Self>() {
                let source = io::Error::new(found.source.kind(), found.source.to_string());
                let path = found.path.clone();
                return Some(ClientError::File { path, source });
            }
            cause = error.source();
        }
        None
    }
}

impl Reading {
    async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let about = file.metadata().await?;
        if !about.is_file() {
            // Its length is not known, or it can be read but once.
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            left: about.len(),
            buffer: vec![0; PIECE_BYTES],
        })
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let room = room.min(self.buffer.len());
        let mut read = ReadBuf::new(&mut self.buffer[..room]);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut read))?;
        let piece = Bytes::copy_from_slice(read.filled());
        if piece.is_empty() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was sent",
            )));
        }
        self.left -= piece.len() as u64;
        Poll::Ready(Ok(Some(piece)))
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        let this = self.get_mut();
        if let Some(held_back) = &mut this.held_back {
            ready!(held_back.as_mut().poll(cx));
            this.held_back = None;
        }
        let piece = match &mut this.source {
            Source::Bytes(bytes) => {
                Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()))
            }
            Source::File(reading) => {
                let read = ready!(reading.poll_piece(cx));
                read.map_err(|source| Unreadable {
                    path: reading.path.clone(),
                    source,
                })
            }
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Write;

    #[tokio::test]
    async fn a_file_is_read_in_pieces_and_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * PIECE_BYTES + 7).collect();
        file.write_all(&bytes).unwrap();
        let body = RequestBody::File(file.path().to_owned());
        for _ in 0..2 {
            let sending = body.clone().open().await.unwrap();
            assert_eq!(sending.size_hint().exact(), Some(bytes.len() as u64));
            sending.asked.notify_one();
            assert_eq!(sending.collect().await.unwrap().to_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn a_file_that_gets_shorter_is_no_lost_connection() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![1; 4 * PIECE_BYTES]).unwrap();
        let body = RequestBody::File(file.path().to_owned());
        let sending = body.open().await.unwrap();
        sending.asked.notify_one();
        file.as_file().set_len(10).unwrap();
        let Err(error) = sending.collect().await else {
            panic!("half a body must not look whole")
        };
        let found = Unreadable::find(&error).unwrap();
        assert!(matches!(found, ClientError::File { .. }), "{found:?}");
    }

    #[tokio::test]
    async fn a_large_body_is_held_back_until_it_is_asked_for() {
        let large = RequestBody::from(vec![1; 70_000]).open().await.unwrap();
        let asked = large.asked.clone();
        let request = large.request();
        assert_eq!(request.headers()[EXPECT], "100-continue");
        let mut body = request.into_body();
        let held =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending()));
        assert!(held.await);
        asked.notify_one();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 70_000);
        let small = RequestBody::from("small").open().await.unwrap().request();
        assert!(small.headers().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_refused() {
        for path in ["/dev/null", "/", "/nowhere/at/all"] {
            let opened = RequestBody::File(path.into()).open().await;
            assert!(
                matches!(opened, Err(ClientError::File { .. })),
                "{path} was opened"
            );
        }
    }
}
