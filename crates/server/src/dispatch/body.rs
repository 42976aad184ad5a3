//! Bodies of answers, whichever room they come from.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::telemetry::Open;

/// A body of any of the rooms.
pub(crate) enum Body {
    /// From the call door.
    Door(skep_ingress::Body),
    /// From the API's router.
    Api(axum::body::Body),
    /// From another server.
    Peer(Incoming),
    /// From a provider of models.
    Model(Box<skep_egress::llm::Body>),
    /// From a server of tools.
    Tool(Box<skep_egress::mcp::Body>),
    /// From a host of the web.
    Web(Box<skep_egress::web::Body>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Door(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Api(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Peer(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Model(body) => Pin::new(body.as_mut()).poll_frame(cx).map_err(Into::into),
            Self::Tool(body) => Pin::new(body.as_mut()).poll_frame(cx).map_err(Into::into),
            Self::Web(body) => Pin::new(body.as_mut()).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Door(body) => body.is_end_stream(),
            Self::Api(body) => body.is_end_stream(),
            Self::Peer(body) => body.is_end_stream(),
            Self::Model(body) => body.is_end_stream(),
            Self::Tool(body) => body.is_end_stream(),
            Self::Web(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Door(body) => body.size_hint(),
            Self::Api(body) => body.size_hint(),
            Self::Peer(body) => body.size_hint(),
            Self::Model(body) => body.size_hint(),
            Self::Tool(body) => body.size_hint(),
            Self::Web(body) => body.size_hint(),
        }
    }
}

/// A body on its way to the client. The request's span, if it has one, lasts as long as it does.
pub(crate) struct Traced {
    body: Body,
    span: Option<Box<Open>>,
}

impl Traced {
    pub(super) const fn new(body: Body, span: Option<Box<Open>>) -> Self {
        Self { body, span }
    }
}

impl http_body::Body for Traced {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Err(error))), Some(span)) = (&polled, &mut self.span) {
            span.fail("cut_off", &error.to_string());
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
