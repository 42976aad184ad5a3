//! Bodies that another task sends.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// The frames of a channel, until its sender is dropped.
pub(crate) struct ReceiverBody(pub(crate) mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for ReceiverBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// The frames of a channel, until its sender is dropped; an error cuts the answer off, so that whoever
/// reads it knows.
pub(crate) struct CheckedBody(pub(crate) mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl http_body::Body for CheckedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}
