//! Requests to endpoints: to addresses that may be reached, which were looked at when the name was resolved; no redirect is
//! followed, and what comes back is not kept.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use skep_sources::Reach;

use super::life::Answer;
use crate::upstream::{Failed, Upstream as Hosts};

/// Idle connections that are kept of one host.
const MOST_IDLE: usize = 4;
/// Bytes of an answer that are waited for, so that its connection can be used again.
const MOST_ANSWER: usize = 64 << 10;
/// How long is waited for it.
const REST: Duration = Duration::from_secs(2);

/// The way to endpoints.
pub(super) struct Upstream(Hosts<Full<Bytes>>);

/// Why an endpoint could not be asked, in words that may be shown: nothing of where a name leads.
fn why(error: &Error) -> &'static str {
    let is_tls = |error: &(dyn std::error::Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        io.and_then(io::Error::get_ref)
            .is_some_and(|it| it.is::<rustls::Error>())
    };
    let (mut innermost, mut tls): (&(dyn std::error::Error + 'static), bool) = (error, false);
    while let Some(source) = innermost.source() {
        innermost = source;
        tls |= is_tls(source);
    }
    match error.is_connect() {
        _ if innermost.to_string().contains(NOWHERE) => OUT_OF_REACH,
        true if tls => "its certificate, or its TLS, is no good",
        true => "no connection comes about",
        false => "the connection broke off",
    }
}

/// What [`skep_sources::out_of_reach`] says.
const NOWHERE: &str = "is no address of the internet";
const OUT_OF_REACH: &str = "its address is none that Skep may ask (`outgoing.allow`)";

impl Upstream {
    pub(super) fn new(reach: Reach, ca: Option<PathBuf>) -> Self {
        Self(Hosts::new(reach, ca, MOST_IDLE))
    }

    /// Sends a message, and tells what became of it within this time.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, time: Duration) -> Answer {
        match tokio::time::timeout(time, self.0.send(request)).await {
            Ok(Ok(response)) => heard(response).await,
            Ok(Err(Failed::OutOfReach(_))) => Answer::Failed(OUT_OF_REACH),
            Ok(Err(Failed::NoClient(error))) => {
                tracing::error!(error, "webhooks cannot be sent");
                Answer::Failed("no request can be made: see the server's log")
            }
            Ok(Err(Failed::Asked(error))) => Answer::Failed(why(&error)),
            Err(_) => Answer::Failed("no answer in time"),
        }
    }
}

/// What an answer says. It counts as soon as its head is there; the rest is nobody's.
async fn heard(response: Response<Incoming>) -> Answer {
    let wish = response.headers().get(RETRY_AFTER);
    let wish = wish.and_then(|it| it.to_str().ok()?.trim().parse().ok());
    let answer = Answer::Status(response.status().as_u16(), wish.map(Duration::from_secs));
    let rest = Limited::new(response.into_body(), MOST_ANSWER).collect();
    let _ = tokio::time::timeout(REST, rest).await;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_reach_is_told_so() {
        assert!(skep_sources::out_of_reach("x").contains(NOWHERE));
    }
}
