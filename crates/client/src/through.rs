//! Answers through lost connections and restarts of the server: the request is sent again under its
//! idempotency key until the call's id is known, then the call is attached to.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use skep_core::RequestId;
use tokio::time::Instant;

use crate::patience::{Patience, Verdict, Waits, is_journaled, judge};
use crate::response::{Answer, Body, Plain};
use crate::splice::{DIFFERS, Reason, Splice, Step};
use crate::{CallRequest, Client, ClientError};

const EVENT_STREAM: &str = "text/event-stream";

impl Client {
    /// [`Client::call`] that gets its answer through lost connections and restarts of the server,
    /// within a patience. A request that is journaled gets a random idempotency key unless it has
    /// one, which makes it safe to send it again; one that is not is sent again only if nothing of
    /// it was done. The answer's body goes on by itself where its connection was lost, and gives
    /// nothing twice.
    ///
    /// # Errors
    /// [`ClientError`]: when the patience ends, what went wrong last. A server that was never
    /// reached fails at once.
    pub async fn call_through(
        &self,
        mut request: CallRequest,
        patience: &Patience,
    ) -> Result<Answer, ClientError> {
        let repeatable = give_key(&mut request);
        let mut trying = Trying::new(patience);
        let mut unknown = None;
        loop {
            let began = Instant::now();
            if let Some(lost) = unknown.take() {
                match self.journals(&request).await {
                    Ok(true) => {}
                    // Without a journal the key does not keep the agent from doing it twice.
                    Ok(false) => return Err(lost),
                    Err(error) if trying.wait_out(&error, began, true).await => {
                        unknown = Some(lost);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let error = match self.try_call(&request, repeatable).await {
                Ok(answer) => return Ok(Through::wrap(self, answer, None, trying)),
                Err(error) => error,
            };
            if !trying.wait_out(&error, began, repeatable).await {
                return Err(error);
            }
            if matches!(error, ClientError::Interrupted { .. }) {
                unknown = Some(error);
            }
        }
    }

    /// [`Client::call_response`] through lost connections and restarts of the server, as
    /// [`Client::call_through`].
    ///
    /// # Errors
    /// As [`Client::call_through`].
    pub async fn response_through(
        &self,
        id: &str,
        wait: bool,
        last_event_id: Option<&str>,
        patience: &Patience,
    ) -> Result<Answer, ClientError> {
        let mut trying = Trying::new(patience);
        loop {
            let began = Instant::now();
            let tried = self.call_response(id, wait, last_event_id).await;
            match tried.and_then(unless_between) {
                Ok(answer) => return Ok(Through::wrap(self, answer, last_event_id, trying)),
                Err(error) if trying.wait_out(&error, began, true).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn journals(&self, request: &CallRequest) -> Result<bool, ClientError> {
        let agent = self.agent(&request.agent).await?;
        let methods = agent.spec.calls.methods.as_deref();
        Ok(is_journaled(&request.method, methods))
    }

    async fn try_call(
        &self,
        request: &CallRequest,
        repeatable: bool,
    ) -> Result<Answer, ClientError> {
        let answer = self.call(request.clone()).await?;
        let answer = match repeatable {
            true => unless_between(answer)?,
            false => answer,
        };
        match answer.is_accepted() {
            // It is the server's word, and short: not what the call's response goes on with.
            true => answer.gathered().await.map(|(answer, _)| answer),
            false => Ok(answer),
        }
    }
}

/// Gives a request that is a call a key, unless it has one; tells whether it is a call.
fn give_key(request: &mut CallRequest) -> bool {
    if !is_journaled(&request.method, None) {
        return false;
    }
    let id = RequestId::new().to_string();
    let key = format!("auto_{}", id.trim_start_matches("req_"));
    if let Ok(value) = HeaderValue::try_from(key) {
        let name = HeaderName::from_static(skep_api::HEADER_IDEMPOTENCY_KEY);
        request.headers.entry(name).or_insert(value);
    }
    true
}

/// The answer, unless a gateway gave it that did not reach the server: Skep's have a request id.
fn unless_between(answer: Answer) -> Result<Answer, ClientError> {
    let gateway = matches!(
        answer.status(),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    match gateway && answer.request_id().is_none() {
        false => Ok(answer),
        true => Err(ClientError::Interrupted {
            url: answer.url.clone(),
            source: format!("a gateway answered {}", answer.status()).into(),
        }),
    }
}

/// The tries of one request.
#[derive(Debug)]
struct Trying {
    patience: Patience,
    waits: Waits,
    /// Whether the server was there once.
    reached: bool,
}

impl Trying {
    fn new(patience: &Patience) -> Self {
        Self {
            patience: patience.clone(),
            waits: Waits::new(patience),
            reached: false,
        }
    }

    /// After a try that failed: false when that is the result, else the time for the next has come.
    async fn wait_out(&mut self, error: &ClientError, began: Instant, safe: bool) -> bool {
        let unreachable = matches!(error, ClientError::Unreachable { .. });
        self.reached |= !unreachable;
        let Verdict::Again(at_least) = judge(error, self.reached, safe) else {
            return false;
        };
        // A connection that stood for hours before it was lost cost no patience.
        let took = match unreachable {
            true => began.elapsed(),
            false => std::time::Duration::ZERO,
        };
        let first = self.waits.is_fresh();
        let Some(wait) = self.waits.next(took, at_least, fastrand::f64()) else {
            return false;
        };
        if first {
            self.patience.tell(error);
        }
        tokio::time::sleep(wait).await;
        true
    }
}

/// What an answer says of its body; the rest of another answer does not fit when it differs.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: StatusCode,
    kind: Option<HeaderValue>,
    encoding: Option<HeaderValue>,
}

impl Head {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        Self {
            status,
            kind: headers.get(CONTENT_TYPE).cloned(),
            encoding: headers.get(CONTENT_ENCODING).cloned(),
        }
    }

    fn is_events(&self) -> bool {
        let kind = self.kind.as_ref().and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next());
        let events = kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM));
        events && self.encoding.is_none()
    }
}

/// The body of a call's answer that goes on with another connection when one is lost.
#[derive(Debug)]
pub(crate) struct Through {
    client: Client,
    call: String,
    head: Head,
    /// `None` when the connection was lost.
    body: Option<Plain>,
    is_whole: bool,
    splice: Splice,
    trying: Trying,
}

impl Through {
    /// Lets an answer go on by itself, if it belongs to a call and is not whole yet.
    fn wrap(client: &Client, answer: Answer, from: Option<&str>, mut trying: Trying) -> Answer {
        let call = answer.call_id().map(str::to_owned);
        let (Some(call), Body::Plain(Plain::Incoming(_))) = (call, &answer.body) else {
            return answer;
        };
        trying.reached = true;
        trying.waits.progress();
        let head = Head::of(answer.status, &answer.headers);
        let splice = Splice::new(head.is_events(), from.map(str::to_owned));
        let wrapped = |body| {
            Body::Through(Box::new(Self {
                client: client.clone(),
                call,
                head,
                body: Some(body),
                is_whole: false,
                splice,
                trying,
            }))
        };
        let body = match answer.body {
            Body::Plain(body) => wrapped(body),
            through @ Body::Through(_) => through,
        };
        Answer { body, ..answer }
    }

    /// The next piece that was not given before; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while !self.is_whole {
            let Some(body) = &mut self.body else {
                Box::pin(self.attach()).await?;
                continue;
            };
            let step = match body.chunk(self.client.url()).await {
                Ok(Some(data)) => self.splice.push(data),
                Ok(None) => {
                    let step = self.splice.finish();
                    self.is_whole = matches!(step, Ok(Step::New(_)));
                    step
                }
                Err(error) => {
                    // Gone before the wait, which the caller may break off.
                    self.body = None;
                    let began = Instant::now();
                    match self.trying.wait_out(&error, began, true).await {
                        true => continue,
                        false => return Err(error),
                    }
                }
            };
            match step {
                Ok(Step::New(bytes)) if bytes.is_empty() => {}
                Ok(Step::New(bytes)) => {
                    self.trying.waits.progress();
                    return Ok(Some(bytes));
                }
                Ok(Step::Restart) => self.body = None,
                Err(reason) => {
                    self.body = None;
                    return Err(self.unresumable(reason));
                }
            }
        }
        Ok(None)
    }

    async fn attach(&mut self) -> Result<(), ClientError> {
        loop {
            let began = Instant::now();
            match self.try_attach().await {
                Ok(()) => return Ok(()),
                Err(error) if self.trying.wait_out(&error, began, true).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_attach(&mut self) -> Result<(), ClientError> {
        let seen = self.splice.resume();
        let seen = seen.map_err(|reason| self.unresumable(reason))?;
        let tried = self.client.call_response(&self.call, true, seen.as_deref());
        let answer = unless_between(tried.await?)?;
        if Head::of(answer.status, &answer.headers) != self.head {
            return Err(self.unresumable(DIFFERS));
        }
        if let Body::Plain(body) = answer.body {
            self.body = Some(body);
        }
        Ok(())
    }

    fn unresumable(&self, reason: Reason) -> ClientError {
        ClientError::Unresumable {
            call: self.call.clone(),
            reason,
        }
    }
}
